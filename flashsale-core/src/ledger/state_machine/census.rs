//! A census: the state of an activity in a few numbers, cheap to read during a sale.

use std::time::Duration;

use super::{lane::LaneState, machine::StateMachine, orders::Orders};
use crate::{
    domain::{ActivityId, OrderStatus, Timestamp},
    ledger::Consumer,
};

/// Counts over all lanes of an activity at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Orders by status, indexed as [`OrderStatus::ALL`].
    pub orders: [u64; OrderStatus::ALL.len()],
    /// Orders with a deadline.
    pub waiting: u64,
    /// Their ages, counted by [`Census::AGES`] and one more bucket for older ones. Covers the
    /// [`Census::LOOKED_AT`] orders of each lane that are due first.
    pub ages: [u64; Census::AGES.len() + 1],
    /// How far the earliest deadline has passed. Zero if none has.
    pub overdue: Duration,
    /// Orders with a refund due.
    pub refunds_due: u64,
    /// Transfers between buckets that are not confirmed yet.
    pub transfers: u64,
    /// Unacknowledged outbox entries per consumer.
    pub behind: Vec<(Consumer, u64)>,
}

impl Census {
    /// Upper bounds of the age buckets.
    pub const AGES: [Duration; 5] = [
        Duration::from_secs(60),
        Duration::from_secs(5 * 60),
        Duration::from_secs(15 * 60),
        Duration::from_secs(60 * 60),
        Duration::from_secs(24 * 60 * 60),
    ];

    /// The most orders per lane whose age is read. It keeps a census well below a millisecond
    /// however many are waiting.
    pub const LOOKED_AT: usize = 4_096;

    fn add(&mut self, lane: &LaneState, now: Timestamp) {
        self.orders.iter_mut().zip(lane.orders.statuses).for_each(|(sum, count)| *sum += count);
        self.waiting += lane.deadlines.len() as u64;
        for (_, row) in lane.deadlines.iter().take(Self::LOOKED_AT) {
            let age = now.since(lane.orders.row(*row).placed_at);
            self.ages[Self::AGES.partition_point(|bound| *bound < age)] += 1;
        }
        let first = lane.deadlines.first().map_or(Timestamp::MAX, |(due, _)| *due);
        self.overdue = self.overdue.max(now.since(first));
        self.refunds_due += lane.refunds.len() as u64;
        self.transfers += lane.transit.len() as u64;
    }
}

impl StateMachine {
    /// The census of an activity, from a bounded number of orders. `None` if the activity is not
    /// open.
    pub fn census(&self, now: Timestamp, activity: ActivityId) -> Option<Census> {
        let sale = self.sales.get(&activity)?;
        let mut census = Census::default();
        sale.lanes.iter().for_each(|lane| census.add(lane, now));
        census.behind = self
            .consumers
            .iter()
            .map(|consumer| {
                let lag = sale.lanes.iter().map(|lane| lane.outbox.behind(consumer)).sum();
                (consumer.clone(), lag)
            })
            .collect();
        Some(census)
    }
}

impl Orders {
    /// Whether the kept counts match a recount.
    pub(super) fn statuses_are_right(&self) -> bool {
        let mut counted = [0; OrderStatus::ALL.len()];
        self.iter().for_each(|(_, row)| counted[row.status as usize] += 1);
        counted == self.statuses
    }
}
