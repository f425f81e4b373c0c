//! Limit counters: units per user, device or address, within one offer or the whole activity.

use hashbrown::{HashMap, HashSet};

use super::{orders::OrderRow, room};
use crate::{
    domain::{LimitRule, Per, Subject, Subjects, UserId},
    ledger::Terms,
};

/// A subject, and an offer or the whole activity. Twelve bytes, because there is one per buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Counter {
    id: [u32; 2],
    /// The offer's index or [`WHOLE_ACTIVITY`]; the two highest bits hold the subject.
    what: u32,
}

pub(super) const WHOLE_ACTIVITY: u32 = (1 << 30) - 1;

impl Counter {
    /// `offer` is an index, or [`WHOLE_ACTIVITY`].
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a number")]
    pub(super) fn new(subject: Subject, id: u64, offer: u32) -> Self {
        let subject = match subject {
            Subject::User => 0,
            Subject::Device => 1,
            Subject::Address => 2,
        };
        Self { id: [(id >> 32) as u32, id as u32], what: subject << 30 | offer }
    }

    /// The counter of a rule. `None` if the buyer has no such subject.
    fn of(subject: Subject, per: Per, offer: u32, user: UserId, subjects: Subjects) -> Option<Self> {
        let id = match subject {
            Subject::User => user.value(),
            Subject::Device => subjects.device?.0,
            Subject::Address => subjects.address?.0,
        };
        Some(Self::new(subject, id, if per == Per::Offer { offer } else { WHOLE_ACTIVITY }))
    }

    pub(super) fn subject(self) -> Subject {
        match self.what >> 30 {
            0 => Subject::User,
            1 => Subject::Device,
            _ => Subject::Address,
        }
    }

    pub(super) fn id(self) -> u64 {
        u64::from(self.id[0]) << 32 | u64::from(self.id[1])
    }

    /// The index of the offer; `None` for the whole activity.
    pub(super) fn offer(self) -> Option<usize> {
        let offer = self.what & WHOLE_ACTIVITY;
        (offer != WHOLE_ACTIVITY).then_some(offer as usize)
    }
}

/// The counters of a lane.
#[derive(Clone, Debug, Default)]
pub(super) struct LimitCounters {
    used: HashMap<Counter, u32>,
    /// What is counted: everything that a rule of the terms has ever needed.
    counted: HashSet<(Subject, Per)>,
}

impl LimitCounters {
    /// Counters for the rules of these terms.
    pub(super) fn new(terms: &Terms) -> Self {
        Self { used: HashMap::new(), counted: counted_by(terms).collect() }
    }

    /// Reserves memory for this many buyers, if they are counted.
    pub(super) fn reserve(&mut self, buyers: usize) {
        if self.counts_users() {
            self.used.reserve(buyers.saturating_sub(self.used.len()));
        }
    }

    /// The memory that counts this many buyers, in bytes.
    pub(super) fn room_bytes(&self, buyers: usize) -> usize {
        if self.counts_users() { room::table_bytes::<(Counter, u32)>(buyers) } else { 0 }
    }

    fn counts_users(&self) -> bool {
        self.counted.iter().any(|(subject, _)| *subject == Subject::User)
    }

    /// Replaces the counters' table by a smaller one if it is sparse. Returns the old one.
    pub(super) fn shrink(&mut self) -> Option<HashMap<Counter, u32>> {
        if !room::is_sparse(self.used.len(), self.used.capacity()) {
            return None;
        }
        let smaller = self.iter().collect();
        Some(std::mem::replace(&mut self.used, smaller))
    }

    /// The memory that the counters have, in bytes.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        self.used.allocation_size()
    }

    /// Starts counting what these terms need. Returns what was not counted before: the caller must count its
    /// orders for that.
    pub(super) fn count_for(&mut self, terms: &Terms) -> HashSet<(Subject, Per)> {
        let new: HashSet<_> = counted_by(terms).filter(|kind| !self.counted.contains(kind)).collect();
        self.counted.extend(&new);
        new
    }

    /// The units that a rule still allows. 0 if the buyer lacks the rule's subject.
    pub(super) fn remaining(&self, rule: LimitRule, offer: u32, user: UserId, subjects: Subjects) -> u32 {
        Counter::of(rule.subject, rule.per, offer, user, subjects)
            .map_or(0, |counter| rule.max().saturating_sub(self.used(counter)))
    }

    /// What is counted.
    pub(super) fn counted(&self) -> impl Iterator<Item = (Subject, Per)> + '_ {
        self.counted.iter().copied()
    }

    /// Counts this too, from now on.
    pub(super) fn count_also(&mut self, kinds: impl IntoIterator<Item = (Subject, Per)>) {
        self.counted.extend(kinds);
    }

    pub(super) fn used(&self, counter: Counter) -> u32 {
        self.used.get(&counter).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, counter: Counter, used: u32) {
        self.used.insert(counter, used);
    }

    pub(super) fn add(&mut self, row: &OrderRow) {
        self.add_to(row, |_| true);
    }

    /// Counts an order for its user only.
    pub(super) fn add_user(&mut self, row: &OrderRow) {
        self.add_to(row, |(subject, _)| subject == Subject::User);
    }

    /// Counts an order in some ways only.
    pub(super) fn add_to(&mut self, row: &OrderRow, counts: impl Fn((Subject, Per)) -> bool) {
        for (subject, per) in self.counted.iter().filter(|kind| counts(**kind)) {
            if let Some(counter) = Counter::of(*subject, *per, row.offer, row.user, row.subjects()) {
                *self.used.entry(counter).or_default() += row.quantity.value();
            }
        }
    }

    pub(super) fn subtract(&mut self, row: &OrderRow) {
        for (subject, per) in &self.counted {
            if let Some(counter) = Counter::of(*subject, *per, row.offer, row.user, row.subjects())
                && let Some(used) = self.used.get_mut(&counter)
            {
                *used = used.saturating_sub(row.quantity.value());
                if *used == 0 {
                    self.used.remove(&counter);
                }
            }
        }
    }

    /// Every counter above 0, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Counter, u32)> + '_ {
        self.used.iter().map(|(counter, used)| (*counter, *used))
    }

    /// Writes to the counters' memory once; see
    /// [`LaneState::prefault`](super::lane::LaneState::prefault).
    pub(super) fn prefault(&mut self) {
        for id in 0..self.used.capacity() as u64 {
            self.used.insert(Counter::new(Subject::User, id, 0), 0);
        }
        self.used.clear();
    }
}

fn counted_by(terms: &Terms) -> impl Iterator<Item = (Subject, Per)> + '_ {
    terms.offers().iter().flat_map(|offer| offer.limits()).map(|rule| (rule.subject, rule.per))
}
