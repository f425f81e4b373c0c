//! Consumers of the outboxes: who reads them, and how far each has read.

use super::{journal_record::Record, machine::StateMachine, outbox::Outbox};
use crate::{
    domain::Invalid,
    ledger::{Consumer, Entry, Lane, LedgerError, Position},
};

/// By default, with more unread entries than this a lane places no orders.
pub const MAX_UNREAD: u64 = 1_000_000;

impl StateMachine {
    /// Registers a consumer.
    pub fn register(&mut self, consumer: &Consumer) {
        if self.consumers.contains(consumer) {
            return;
        }
        self.journal.push(&Record::Registered(consumer.clone()));
        self.consumers.push(consumer.clone());
        for sale in self.sales.values_mut() {
            for lane in &mut sale.lanes {
                lane.outbox.add(&self.consumers, lane.head.sequence);
            }
        }
    }

    /// Unregisters a consumer.
    pub fn retire(&mut self, consumer: &Consumer) {
        if !self.consumers.contains(consumer) {
            return;
        }
        self.journal.push(&Record::Retired(consumer.clone()));
        self.consumers.retain(|known| known != consumer);
        for lane in self.sales.values_mut().flat_map(|sale| &mut sale.lanes) {
            lane.outbox.retain(&self.consumers);
        }
    }

    /// The entries of a lane that a consumer has not acknowledged.
    ///
    /// # Errors
    /// See [`events`](crate::ledger::LedgerCalls::events).
    pub fn events(
        &self,
        consumer: &Consumer,
        lane: Lane,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        let (outbox, acknowledged) = self.outbox(consumer, lane)?;
        let sequence = from.map_or(acknowledged, |position| position.sequence);
        Ok(outbox.from(sequence).take(limit).cloned().collect())
    }

    /// Acknowledges entries up to a position.
    ///
    /// # Errors
    /// See [`ack`](crate::ledger::LedgerCalls::ack).
    pub fn ack(&mut self, consumer: &Consumer, lane: Lane, position: Position) -> Result<(), LedgerError> {
        let (outbox, acknowledged) = self.outbox(consumer, lane)?;
        let there = outbox.from(position.sequence).next().is_some_and(|entry| entry.position == position);
        if there && position.sequence > acknowledged {
            self.journal.push(&Record::Acknowledged(consumer.clone(), lane, position.sequence));
            self.acknowledge(consumer, lane, position.sequence);
        }
        Ok(())
    }

    pub(super) fn acknowledge(&mut self, consumer: &Consumer, lane: Lane, sequence: u64) {
        let Ok(state) = self.lane_mut(lane) else { return };
        for (known, acknowledged) in &mut state.outbox.acknowledged {
            if known == consumer {
                *acknowledged = sequence;
            }
        }
        state.outbox.trim();
    }

    /// Lets lanes place no orders while a consumer has left more entries than this unread.
    pub fn bound_outboxes(&mut self, max_unread: u64) {
        self.max_unread = max_unread;
    }

    /// The error of a lane that places no orders because a consumer has left too much unread.
    ///
    /// Entries are never dropped, so an outbox is bounded by what may enter it. Later steps of orders
    /// always may: buyers have paid, and there are only so many steps for each order.
    pub(super) fn full_outbox(&self, lane: Lane) -> Option<LedgerError> {
        let state = self.lane(lane).ok()?;
        let (slowest, acknowledged) =
            state.outbox.acknowledged.iter().min_by_key(|(_, sequence)| *sequence)?;
        let behind = state.head.sequence - acknowledged;
        if behind <= self.max_unread {
            return None;
        }
        let reason =
            format!("the outbox is full: consumer {} has not acknowledged {behind} entries", slowest.0);
        Some(LedgerError::Unavailable(reason.into()))
    }

    /// The sequence of the last entry that a consumer has acknowledged.
    ///
    /// # Errors
    /// See [`events`](crate::ledger::LedgerCalls::events).
    pub fn acknowledged(&self, consumer: &Consumer, lane: Lane) -> Result<u64, LedgerError> {
        Ok(self.outbox(consumer, lane)?.1)
    }

    fn outbox(&self, consumer: &Consumer, lane: Lane) -> Result<(&Outbox, u64), LedgerError> {
        let outbox = &self.lane(lane)?.outbox;
        let acknowledged = outbox
            .of(consumer)
            .ok_or_else(|| Invalid::new("consumer", format!("{} is not registered", consumer.0)))?;
        Ok((outbox, acknowledged))
    }
}
