//! Crowds of buyers: each plays one [`Part`] against the public API and notes what the server told it.
//!
//! [`Shop`] is where they buy, [`Crowd`] is who comes, [`Notes`] is what they were told; [`crate::checks`] compares the
//! notes with what is there.

mod afterwards;
mod buyer;
mod crowd;
mod notes;
mod part;
mod provider;
mod shop;

pub use afterwards::{come_again, pay_late};
pub use buyer::{Buyer, Interrupted};
pub use crowd::Crowd;
pub use notes::{Notes, Placed, Purchase};
pub use part::{Ending, Part, Sending};
pub use provider::Provider;
pub use shop::{Amount, Offer, OrderView, PaymentView, RefundView, Shop};
