//! The requests that wait for one lane, cut into batches.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::oneshot;

use crate::{
    domain::Timestamp,
    ledger::{Advance, Advanced, LedgerError, Outcome, Reserve},
};

/// What a caller gets: the outcome with the time of its decision.
pub(super) type Answer<O> = Result<(Timestamp, O), LedgerError>;

/// What waits for one lane.
#[derive(Debug)]
pub(super) struct BatchQueue {
    pub(super) reserves: Backlog<Reserve, Outcome>,
    pub(super) advances: Backlog<Advance, Advanced>,
    /// Whether the last batch was one of later steps.
    advanced_last: bool,
    /// Whether the batch loop waits to be woken.
    pub(super) is_idle: bool,
    /// Whether nothing more may be added.
    pub(super) is_closed: bool,
    /// How long the ledger took for the last batch.
    pub(super) round_trip: Duration,
}

/// The batch to execute next.
pub(super) enum NextBatch {
    Reserve(QueuedBatch<Reserve, Outcome>),
    Advance(QueuedBatch<Advance, Advanced>),
}

/// Items of one kind in their order. They are cut into batches as they arrive, so taking a batch
/// costs the same however many wait.
#[derive(Debug)]
pub(super) struct Backlog<I, O> {
    batches: VecDeque<QueuedBatch<I, O>>,
    len: usize,
    room: usize,
    max_batch: usize,
    /// The size of the last batch: the next is likely to be as large.
    expected: usize,
}

/// Items with the senders of their answers, index by index.
#[derive(Debug)]
pub(super) struct QueuedBatch<I, O> {
    pub(super) items: Vec<I>,
    pub(super) replies: Vec<oneshot::Sender<Answer<O>>>,
}

impl BatchQueue {
    pub(super) fn new(reserve_room: usize, advance_room: usize, max_batch: usize) -> Self {
        Self {
            reserves: Backlog::new(reserve_room, max_batch),
            advances: Backlog::new(advance_room, max_batch),
            advanced_last: false,
            is_idle: false,
            is_closed: false,
            round_trip: Duration::ZERO,
        }
    }

    /// Later steps go first, but not twice in a row while requests for units wait, so neither kind
    /// can starve the other.
    pub(super) fn pop(&mut self) -> Option<NextBatch> {
        let must_yield = self.advanced_last && self.reserves.len > 0;
        let advances = if must_yield { None } else { self.advances.pop() };
        self.advanced_last = advances.is_some();
        advances.map(NextBatch::Advance).or_else(|| self.reserves.pop().map(NextBatch::Reserve))
    }

    pub(super) fn len(&self) -> usize {
        self.reserves.len + self.advances.len
    }

    /// Drops what waits, which answers it with an error, and takes nothing more.
    pub(super) fn abandon(&mut self) {
        self.is_closed = true;
        self.reserves.clear();
        self.advances.clear();
    }
}

impl<I, O> Backlog<I, O> {
    fn new(room: usize, max_batch: usize) -> Self {
        Self { batches: VecDeque::new(), len: 0, room: room.max(1), max_batch, expected: 0 }
    }

    /// Adds an item, unless there is no room.
    pub(super) fn push(&mut self, item: I, reply: oneshot::Sender<Answer<O>>) -> bool {
        if self.len >= self.room {
            return false;
        }
        self.len += 1;
        if self.batches.back().is_none_or(|batch| batch.items.len() >= self.max_batch) {
            self.batches.push_back(QueuedBatch {
                items: Vec::with_capacity(self.expected),
                replies: Vec::with_capacity(self.expected),
            });
        }
        if let Some(batch) = self.batches.back_mut() {
            batch.items.push(item);
            batch.replies.push(reply);
        }
        true
    }

    fn pop(&mut self) -> Option<QueuedBatch<I, O>> {
        let batch = self.batches.pop_front()?;
        self.len -= batch.items.len();
        self.expected = batch.items.len();
        Some(batch)
    }

    fn clear(&mut self) {
        self.batches.clear();
        self.len = 0;
    }

    /// When there is likely to be room again: 50 ms to 5 s.
    pub(super) fn retry_after(&self, round_trip: Duration) -> Duration {
        let batches = u32::try_from(self.batches.len() + 1).unwrap_or(u32::MAX);
        round_trip.saturating_mul(batches).clamp(Duration::from_millis(50), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{ActivityId, Idempotency, Key, Nonce, OrderId, OrderKey, Quantity, SkuId, Subjects, UserId},
        ledger::ReserveMode,
    };

    #[test]
    fn steps_do_not_keep_requests_out() {
        let (user, id) = (UserId::new(1).unwrap(), OrderId::new(1).unwrap());
        let reserve = Reserve {
            order: id,
            user,
            sku: SkuId::new(7).unwrap(),
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key(1), nonce: Nonce(1) },
            subjects: Subjects::default(),
            mode: ReserveMode::NewOrder,
        };
        let order = OrderKey { activity: ActivityId::new(1).unwrap(), user, id };
        let mut queue = BatchQueue::new(10, 10, 1);
        for _ in 0..2 {
            assert!(queue.reserves.push(reserve, oneshot::channel().0));
            assert!(queue.advances.push(Advance::Cancel { order, by: None }, oneshot::channel().0));
        }
        let order: Vec<_> =
            std::iter::from_fn(|| queue.pop()).map(|batch| matches!(batch, NextBatch::Advance(_))).collect();
        assert_eq!(order, [true, false, true, false]);
    }
}
