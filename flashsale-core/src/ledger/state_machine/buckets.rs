//! Transfers of units between the buckets of an activity.

use super::{batch::Batch, machine::StateMachine};
use crate::{
    domain::{ActivityId, Invalid, SkuId},
    ledger::{Bucket, Event, Lane, LedgerError, Transfer},
};

impl StateMachine {
    /// Takes units out of a lane for another bucket.
    ///
    /// # Errors
    /// See [`send`](crate::ledger::LedgerCalls::send).
    pub fn send(
        &mut self,
        batch: Batch,
        lane: Lane,
        to: Bucket,
        sku: SkuId,
        units: u32,
    ) -> Result<Option<Transfer>, LedgerError> {
        let state = self.admitting(lane)?;
        if to == lane.bucket || to >= self.lane_count(&state.base) {
            return Err(Invalid::new("to", "must be another bucket of the activity").into());
        }
        let Ok(index) = state.index(sku) else { return Ok(None) };
        let available = u32::try_from(state.sendable(index)).unwrap_or(u32::MAX);
        let units = units.min(available);
        if units == 0 {
            return Ok(None);
        }
        let number = state.sent.get(&to).copied().unwrap_or(0) + 1;
        let epoch = state.epoch;
        let transfer = Transfer { activity: lane.activity, epoch, from: lane.bucket, to, number, sku, units };
        self.commit(lane, batch, &[Event::Sent(transfer)])?;
        Ok(Some(transfer))
    }

    /// Adds a transfer's units to its destination.
    ///
    /// # Errors
    /// See [`receive`](crate::ledger::LedgerCalls::receive).
    pub fn receive(&mut self, batch: Batch, transfer: Transfer) -> Result<bool, LedgerError> {
        let lane = Lane { activity: transfer.activity, bucket: transfer.to };
        let state = self.admitting(lane)?;
        if transfer.from == transfer.to || transfer.from >= self.lane_count(&state.base) {
            return Err(Invalid::new("from", "must be another bucket of the activity").into());
        }
        if state.index(transfer.sku).is_err() {
            return Err(Invalid::new("sku_id", format!("{} is not offered", transfer.sku)).into());
        }
        let epoch = state.epoch;
        if transfer.epoch != epoch && !mutant!("transfer-outlives-epoch") {
            return Err(LedgerError::Moved { epoch, position: state.head });
        }
        let received = state.received.get(&transfer.from).copied().unwrap_or(0);
        if transfer.number <= received && !mutant!("transfer-received-twice") {
            return Ok(true);
        }
        if transfer.number > received + 1 {
            return Ok(false);
        }
        self.commit(lane, batch, &[Event::Received(transfer)])?;
        Ok(true)
    }

    /// Removes a delivered transfer from its source.
    ///
    /// # Errors
    /// See [`forget`](crate::ledger::LedgerCalls::forget).
    pub fn forget(&mut self, batch: Batch, transfer: Transfer) -> Result<(), LedgerError> {
        let lane = Lane { activity: transfer.activity, bucket: transfer.from };
        let known = self.lane(lane)?.transit.get(&(transfer.to, transfer.number)) == Some(&transfer);
        if known {
            self.commit(lane, batch, &[Event::Forgotten(transfer)])?;
        }
        Ok(())
    }

    /// Whether these lanes have sent all transfers that had arrived `before`.
    pub fn has_sent_what_arrived(&self, activity: ActivityId, before: &Self) -> bool {
        let lanes = before.sales.get(&activity).into_iter().flat_map(|sale| &sale.lanes);
        let mut arrived =
            lanes.flat_map(|to| to.received.iter().map(|(from, number)| (to.lane, *from, *number)));
        arrived.all(|(to, from, number)| {
            let from = self.lane(Lane { bucket: from, ..to });
            from.is_ok_and(|from| from.sent.get(&to.bucket).is_some_and(|sent| *sent >= number))
        })
    }

    /// The transfers out of a lane that are not forgotten yet, oldest first per destination.
    ///
    /// # Errors
    /// See [`transfers`](crate::ledger::LedgerCalls::transfers).
    pub fn transfers(&self, lane: Lane) -> Result<Vec<Transfer>, LedgerError> {
        Ok(self.lane(lane)?.transit.values().copied().collect())
    }
}
