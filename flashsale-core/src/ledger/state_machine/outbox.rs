//! The outbox of a lane: entries that its consumers have not acknowledged.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::ledger::{Consumer, Entry};

/// The outbox of one lane. Without consumers it keeps nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Outbox {
    pub(super) entries: VecDeque<Entry>,
    /// Per consumer: the sequence of the last entry it acknowledged.
    pub(super) acknowledged: Vec<(Consumer, u64)>,
}

impl Outbox {
    /// Adds consumers that it does not have, which read from after `sequence` on.
    pub(super) fn add(&mut self, consumers: &[Consumer], sequence: u64) {
        for consumer in consumers {
            if self.of(consumer).is_none() {
                self.acknowledged.push((consumer.clone(), sequence));
            }
        }
    }

    /// Forgets all other consumers.
    pub(super) fn retain(&mut self, consumers: &[Consumer]) {
        self.acknowledged.retain(|(known, _)| consumers.contains(known));
        self.trim();
    }

    pub(super) fn push(&mut self, entry: impl FnOnce() -> Entry) {
        if !self.acknowledged.is_empty() {
            self.entries.push_back(entry());
        }
    }

    pub(super) fn of(&self, consumer: &Consumer) -> Option<u64> {
        self.acknowledged.iter().find(|(known, _)| known == consumer).map(|(_, sequence)| *sequence)
    }

    /// The number of entries that a consumer has not acknowledged.
    pub(super) fn behind(&self, consumer: &Consumer) -> u64 {
        let acknowledged = self.of(consumer).unwrap_or(0);
        self.entries.back().map_or(0, |last| last.position.sequence.saturating_sub(acknowledged))
    }

    pub(super) fn from(&self, sequence: u64) -> impl Iterator<Item = &Entry> {
        let start = self.entries.partition_point(|entry| entry.position.sequence < sequence);
        self.entries.range(start..)
    }

    pub(super) fn trim(&mut self) {
        let slowest = self.acknowledged.iter().map(|(_, sequence)| *sequence).min();
        let slack = u64::from(mutant!("outbox-trimmed-too-far"));
        let keep = |entry: &Entry| slowest.is_some_and(|slowest| entry.position.sequence >= slowest + slack);
        while self.entries.front().is_some_and(|entry| !keep(entry)) {
            self.entries.pop_front();
        }
    }
}
