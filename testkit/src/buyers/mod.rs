//! Crowds of buyers: each plays one [`BuyerScript`] against the public API and notes what the server told it.
//!
//! [`Shop`] is where they buy, [`Crowd`] is who comes, [`ClientLog`] is what they were told; [`crate::checks`] compares the
//! notes with what is there.

mod afterwards;
mod buyer;
mod buyer_script;
mod client_log;
mod crowd;
mod provider;
mod shop;

pub use afterwards::{come_again, pay_late};
pub use buyer::{Buyer, Interrupted};
pub use buyer_script::{BuyerScript, Ending, Sending};
pub use client_log::{ClientLog, Placed, Purchase};
pub use crowd::Crowd;
pub use provider::Provider;
pub use shop::{Amount, Offer, OrderView, PaymentView, RefundView, Shop};
