//! Steps of the deciding clock: a lane's time and its open deadlines move together.

use super::{batch::Batch, lane::LaneState, machine::StateMachine, orders::OrderRow};
use crate::{
    domain::{OrderStatus, Timestamp},
    ledger::{Event, Lane, LedgerError, LedgerRole, TimeStep},
};

impl StateMachine {
    /// Moves the time of every lane. Returns how many lanes had not taken this step before.
    ///
    /// # Errors
    /// See [`step_time`](crate::ledger::LedgerCalls::step_time).
    pub fn step_time(&mut self, batch: Batch, step: &TimeStep) -> Result<usize, LedgerError> {
        let lanes = self.sales.values().flat_map(|sale| &sale.lanes);
        let left = lanes
            .filter(|lane| !lane.steps.contains(&step.id()) || mutant!("time-step-applied-twice"))
            .map(|lane| lane.lane)
            .collect::<Vec<Lane>>();
        for lane in &left {
            let before = self.lane_mut(*lane)?.tick(batch.now);
            let to = before.moved(step.by_ms()).max(batch.now);
            let (id, by_ms, by) = (step.id(), step.by_ms(), step.by().clone());
            self.commit(*lane, batch, &[Event::TimeStepped { id, by_ms, to, by }])?;
        }
        Ok(left.len())
    }

    /// The time of the last decision in any lane.
    pub fn last_decision(&self) -> Timestamp {
        let lanes = self.sales.values().flat_map(|sale| &sale.lanes);
        lanes.map(|lane| lane.last).max().unwrap_or_default()
    }
}

impl LaneState {
    /// Moves the deadlines of open orders that have not moved at this `revision` yet.
    pub(super) fn move_deadlines(&mut self, revision: u64, by_ms: i64) {
        if mutant!("time-step-forgets-deadlines") {
            return;
        }
        let open: Vec<_> = match self.role {
            // A gate has no index of deadlines, but keeps those that it was told.
            LedgerRole::Gate => {
                self.orders.iter().filter(|(_, row)| row.status.is_open()).map(|(row, _)| row).collect()
            }
            LedgerRole::Single | LedgerRole::Truth => self.deadlines.iter().map(|(_, row)| *row).collect(),
        };
        for id in open {
            let row = self.orders.row_mut(id);
            if row.revision < revision && row.move_deadlines(by_ms) {
                row.revision = revision;
            }
        }
        self.deadlines = self.deadlines.iter().map(|(_, id)| (self.orders.row(*id).due, *id)).collect();
    }
}

impl OrderRow {
    /// Moves the deadlines of an open order. Returns whether it has any.
    fn move_deadlines(&mut self, by_ms: i64) -> bool {
        let mut moved = false;
        let mut shift = |deadline: &mut Timestamp| {
            if *deadline != Timestamp::MAX {
                *deadline = deadline.moved(by_ms);
                moved = true;
            }
        };
        shift(&mut self.deadline);
        shift(&mut self.due);
        if self.status == OrderStatus::Paying
            && !mutant!("time-step-forgets-payments")
            && let Some(payment) = self.extra.as_mut().and_then(|extra| extra.payments.last_mut())
        {
            shift(&mut payment.deadline);
        }
        moved
    }
}
