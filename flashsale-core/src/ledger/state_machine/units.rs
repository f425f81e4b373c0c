//! The units of one offer in one lane, and where each status puts an order's units.

use crate::domain::{OrderStatus, Strategy};

/// The units of one offer in one lane: the value of the row
/// [`RowKey::Units`](crate::ledger::rows::RowKey::Units), for stores that show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// The units that the lane began with.
    pub share: i64,
    /// The sum of all adjustments.
    pub adjusted: i64,
    /// Units sent to other buckets.
    pub sent: i64,
    /// Units received from other buckets.
    pub received: i64,
    /// Units that can be taken. Negative only at a gate that admitted more than the truth has.
    pub available: i64,
    /// Units of unpaid orders.
    pub held: i64,
    /// Units of paid orders.
    pub sold: i64,
    /// Units that pending orders wait for under the pay-time strategy. They are still available.
    pub pending: i64,
}

/// Where the units of an order are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// The order has no units.
    Nothing,
    /// Waited for but not taken (pay-time).
    Pending,
    /// Taken by an unpaid order.
    Held,
    /// Taken by a paid order.
    Sold,
}

impl Holding {
    /// Where a status puts the units of an order.
    pub(super) fn of(strategy: Strategy, status: OrderStatus) -> Self {
        match status {
            OrderStatus::Pending if strategy == Strategy::PayTime => Self::Pending,
            OrderStatus::Pending | OrderStatus::Paying => Self::Held,
            OrderStatus::Paid => Self::Sold,
            OrderStatus::Cancelled | OrderStatus::Expired | OrderStatus::Refused => Self::Nothing,
        }
    }
}

impl Units {
    const BYTES: usize = 64;

    /// The stored form: eight numbers, little-endian, in the order of the fields.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let Self { share, adjusted, sent, received, available, held, sold, pending } = self;
        let numbers = [share, adjusted, sent, received, available, held, sold, pending];
        let mut bytes = [0; Self::BYTES];
        bytes
            .chunks_exact_mut(8)
            .zip(numbers)
            .for_each(|(to, number)| to.copy_from_slice(&number.to_le_bytes()));
        bytes
    }

    /// Reads the stored form; `None` if the bytes are no units.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| Some(i64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().ok()?));
        Some(Self {
            share: number(0)?,
            adjusted: number(1)?,
            sent: number(2)?,
            received: number(3)?,
            available: number(4)?,
            held: number(5)?,
            sold: number(6)?,
            pending: number(7)?,
        })
    }

    /// Moves the units of one order.
    pub(super) fn transfer(&mut self, quantity: i64, from: Holding, to: Holding) {
        if from == to {
            return;
        }
        match from {
            Holding::Nothing => {}
            Holding::Pending => self.pending -= quantity,
            Holding::Held => self.held -= quantity,
            Holding::Sold => self.sold -= quantity,
        }
        match to {
            Holding::Nothing => {}
            Holding::Pending => self.pending += quantity,
            Holding::Held => self.held += quantity,
            Holding::Sold => self.sold += quantity,
        }
        let taken = |holding| matches!(holding, Holding::Held | Holding::Sold);
        match (taken(from), taken(to)) {
            (false, true) => self.available -= quantity,
            (true, false) if to == Holding::Pending && mutant!("failed-payment-keeps-units") => {}
            (true, false) => self.available += quantity,
            (false, false) | (true, true) => {}
        }
    }
}
