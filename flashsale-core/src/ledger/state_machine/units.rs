//! The units of one offer in one lane, and where each status puts an order's units.

use crate::domain::{OrderStatus, Strategy};

/// The units of one offer in one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Units {
    /// The units that the lane began with.
    pub(super) share: i64,
    pub(super) adjusted: i64,
    pub(super) sent: i64,
    pub(super) received: i64,
    /// Negative only at a gate that admitted more than the truth has.
    pub(super) available: i64,
    pub(super) held: i64,
    pub(super) sold: i64,
    /// Units that pending orders wait for under the pay-time strategy. They are still available.
    pub(super) pending: i64,
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
    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let Self { share, adjusted, sent, received, available, held, sold, pending } = self;
        let numbers = [share, adjusted, sent, received, available, held, sold, pending];
        let mut bytes = [0; Self::BYTES];
        bytes
            .chunks_exact_mut(8)
            .zip(numbers)
            .for_each(|(to, number)| to.copy_from_slice(&number.to_le_bytes()));
        bytes
    }

    /// `None` if the bytes are no units.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
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
