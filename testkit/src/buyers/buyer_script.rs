//! Scripts for buyers, chosen by a seed.

use fastrand::Rng;

/// How a buyer places an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Once, with an idempotency key.
    Once,
    /// Once, without a key header: the ticket's nonce is the key.
    WithoutKey,
    /// Again after the answer, with the same key and ticket: expects the same order.
    Repeated,
    /// Twice concurrently, on two connections: expects one order.
    Twice,
    /// Hangs up after sending, and never asks again.
    HangUp,
    /// Hangs up after sending, then asks again: expects at most one order.
    HangUpAndRepeat,
    /// Again with the same ticket and another key: expects no second order.
    TicketAgain,
    /// Again with the same key and another quantity: expects no second order.
    KeyAgain,
    /// A second order with another ticket and key; the limit decides.
    SecondOrder,
}

/// What a buyer does with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    Leave,
    /// Cancels it twice.
    Cancel,
    /// Pays.
    Pay,
    /// Lets a payment fail, then pays.
    FailAndPay,
    /// Lets a payment fail, then leaves.
    FailAndLeave,
    /// Opens a payment and leaves.
    OpenAndLeave,
    /// Opens a payment that is captured after the order expired; see [`pay_late`](super::pay_late).
    PayLate,
}

/// The script of one buyer.
#[derive(Clone, Copy, Debug)]
pub struct BuyerScript {
    /// How the order is placed.
    pub sending: Sending,
    /// What happens to the order.
    pub ending: Ending,
    /// The number of units, at least 1.
    pub quantity: u32,
}

impl BuyerScript {
    /// Draws a script for a buyer with a limit of `per_user` units. Most order one unit once and
    /// pay; everything else is frequent enough to occur in a crowd of a hundred.
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
        // A second order reaches the limit only after a large first one.
        let is_single = sending != Sending::SecondOrder && random.u32(0..100) < 80;
        let quantity = if is_single { 1 } else { random.u32(1..=per_user) };
        Self { sending, ending, quantity }
    }
}
