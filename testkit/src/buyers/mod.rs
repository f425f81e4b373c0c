//! Simulated buyers. Each follows a [`BuyerScript`] against the public API and logs the answers.
//!
//! [`Shop`] is the server, [`Crowd`] the set of buyers and [`ClientLog`] the log of their answers,
//! which [`crate::checks`] compares with the server's state.

mod after_sale;
mod buyer;
mod buyer_script;
mod client_log;
mod crowd;
mod provider;
mod shop;

pub use after_sale::{come_again, pay_late};
pub use buyer::{Buyer, Interrupted};
pub use buyer_script::{BuyerScript, Ending, Sending};
pub use client_log::{ClientLog, Placed, Purchase};
pub use crowd::Crowd;
pub use provider::Provider;
pub use shop::{Amount, Offer, OrderView, PaymentView, RefundView, Shop};
