//! The parts that buyers play, chosen by a seed.

use fastrand::Rng;

/// How a buyer places an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Once, with a key.
    Once,
    /// Once, without a key header: the ticket's nonce is the key.
    WithoutKey,
    /// Again with the same key and ticket, after the answer: the same order is expected.
    Repeated,
    /// Twice at the same time on two connections: one order is expected.
    Twice,
    /// Hangs up after sending, and never comes back.
    HangUp,
    /// Hangs up after sending, then asks again: an order, if there was one to be had, and only one.
    HangUpAndRepeat,
    /// Again with the same ticket and another key: a ticket makes one order.
    TicketAgain,
    /// Again with the same key and another quantity.
    KeyAgain,
    /// A second order with another ticket and key, which the limit decides.
    SecondOrder,
}

/// What a buyer does with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    Leave,
    /// Cancels it, twice.
    Cancel,
    /// Pays.
    Pay,
    /// Has a payment fail, then pays.
    FailAndPay,
    /// Has a payment fail and leaves.
    FailAndLeave,
    /// Opens a payment and leaves.
    OpenAndLeave,
    /// Opens a payment that the provider captures after the order has expired; see [`pay_late`](super::pay_late).
    PayLate,
}

/// The part of one buyer.
#[derive(Clone, Copy, Debug)]
pub struct BuyerScript {
    /// How it orders.
    pub sending: Sending,
    /// What becomes of the order.
    pub ending: Ending,
    /// How many units it asks for, at least 1.
    pub quantity: u32,
}

impl BuyerScript {
    /// A part for a buyer who may have `per_user` units: mostly one unit, ordered once and paid, and everything else
    /// that buyers do often enough to be met in a crowd of a hundred.
    pub fn draw(random: &mut Rng, per_user: u32) -> Self {
        let sending = match random.u32(0..100) {
            0..40 => Sending::Once,
            40..48 => Sending::WithoutKey,
            48..60 => Sending::Repeated,
            60..68 => Sending::Twice,
            68..74 => Sending::HangUp,
            74..84 => Sending::HangUpAndRepeat,
            84..89 => Sending::TicketAgain,
            89..94 => Sending::KeyAgain,
            _ => Sending::SecondOrder,
        };
        let ending = match random.u32(0..100) {
            0..45 => Ending::Pay,
            45..57 => Ending::Cancel,
            57..67 => Ending::FailAndPay,
            67..74 => Ending::FailAndLeave,
            74..81 => Ending::OpenAndLeave,
            81..90 => Ending::PayLate,
            _ => Ending::Leave,
        };
        // A second order meets the limit only after a large first one.
        let is_single = sending != Sending::SecondOrder && random.u32(0..100) < 80;
        let quantity = if is_single { 1 } else { random.u32(1..=per_user) };
        Self { sending, ending, quantity }
    }
}
