//! Census: how an activity stands, in numbers that are cheap to read while it sells.

use std::time::Duration;

use super::{lane::LaneState, machine::StateMachine, orders::Orders};
use crate::{
    domain::{ActivityId, OrderStatus, Timestamp},
    ledger::Consumer,
};

/// Numbers of an activity over all its lanes at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Orders by status, in the places of [`OrderStatus::ALL`].
    pub orders: [u64; OrderStatus::ALL.len()],
    /// Orders that wait for a deadline.
    pub waiting: u64,
    /// How old those are, in the places of [`Census::AGES`] and one for the older; at most the [`Census::LOOKED_AT`] of
    /// each lane that are due first.
    pub ages: [u64; Census::AGES.len() + 1],
    /// For how long the first deadline is past; zero if none is.
    pub overdue: Duration,
    /// Orders with a refund that is due.
    pub refunds_due: u64,
    /// Transfers between buckets that are not known to have arrived.
    pub transfers: u64,
    /// Entries that each consumer of the outbox has not acknowledged.
    pub behind: Vec<(Consumer, u64)>,
}

impl Census {
    /// The upper bounds of ages.
    pub const AGES: [Duration; 5] = [
        Duration::from_secs(60),
        Duration::from_secs(5 * 60),
        Duration::from_secs(15 * 60),
        Duration::from_secs(60 * 60),
        Duration::from_secs(24 * 60 * 60),
    ];

    /// Orders of a lane whose age is looked at, so that a census costs well below a millisecond however many wait.
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
    /// The census of an activity; `None` if it is not open. It looks at a bounded number of orders.
    pub fn census(&self, now: Timestamp, activity: ActivityId) -> Option<Census> {
        let sale = self.sales.get(&activity)?;
        let mut census = Census::default();
        sale.lanes.iter().for_each(|lane| census.add(lane, now));
        census.behind = self
            .consumers
            .iter()
            .map(|consumer| {
                let lag = sale.outboxes.iter().map(|outbox| outbox.behind(consumer)).sum();
                (consumer.clone(), lag)
            })
            .collect();
        Some(census)
    }
}

impl Orders {
    /// Whether the counters say what counting says.
    pub(super) fn statuses_are_right(&self) -> bool {
        let mut counted = [0; OrderStatus::ALL.len()];
        self.iter().for_each(|(_, row)| counted[row.status as usize] += 1);
        counted == self.statuses
    }
}
