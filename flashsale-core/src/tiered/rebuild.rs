//! Rebuild: loads a gate from the truth under a new epoch. Warm-up is the same without salvage.

use super::{
    Tiered,
    concurrent::at_most,
    notes::Lanes,
    pump::{LANES_AT_ONCE, Pumped},
    remembered::Pump,
};
use crate::{
    domain::ActivityId,
    ledger::{Epoch, Lane, LedgerCalls as _, LedgerError, NextEpoch, PersistMode},
};

impl Tiered {
    /// Rebuilds the gate of an activity if the truth is still at `epoch`.
    ///
    /// # Errors
    /// Errors of the tiers. An epoch that was taken but not opened is abandoned.
    pub async fn rebuild(&self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        let pump = self.pump_of(activity);
        let mut pump = pump.lock().await;
        self.rebuild_locked(activity, epoch, &mut pump).await.map(drop)
    }

    /// Returns whether the gate is rebuilt, or left to another node that took an epoch meanwhile.
    pub(super) async fn rebuild_locked(
        &self,
        activity: ActivityId,
        epoch: Epoch,
        pump: &mut Pump,
    ) -> Result<Pumped, LedgerError> {
        tracing::info!(%activity, epoch = epoch.0, "rebuilding the gate from the truth");
        pump.followed = None;
        let terms = self.truth.terms(activity).await?.ok_or(LedgerError::NotOpen)?;
        self.truth.register(&self.follow_consumer).await?;
        // A gate that does not answer could not be loaded either, so failing here loses nothing.
        self.gate.close(activity, epoch).await?;
        if !mutant!("nothing-salvaged") {
            let lanes = Lanes::All.of(activity, terms.buckets().get());
            let salvage = lanes.into_iter().map(|lane| self.salvage(lane)).collect();
            at_most(LANES_AT_ONCE, salvage).await.into_iter().collect::<Result<(), _>>()?;
        }
        let next = match self.truth.next_epoch(activity, epoch).await {
            Ok(next) => next,
            Err(LedgerError::Moved { .. }) => return Ok(Pumped::Waiting),
            Err(error) => return Err(error),
        };
        self.epochs.took(activity, next.epoch);
        match self.load(activity, next).await {
            Ok(()) => Ok(Pumped::Rebuilt),
            Err(LedgerError::Moved { .. }) => {
                self.epochs.overtaken(activity);
                Ok(Pumped::Waiting)
            }
            Err(error) => Err(error),
        }
    }

    /// Loads the gate with the truth's content and opens it.
    async fn load(&self, activity: ActivityId, next: NextEpoch) -> Result<(), LedgerError> {
        self.gate.register(&self.persist_consumer).await?;
        let mut after = None;
        loop {
            let chunk = self.truth.content(activity, after, self.options.content).await?;
            after = chunk.continues_after();
            self.gate.load(activity, next.epoch, chunk).await?;
            if after.is_none() {
                break;
            }
        }
        self.gate.reopen(activity, next.epoch, next.batch).await
    }

    /// Persists every entry that a closed gate still holds, without moving the position.
    async fn salvage(&self, lane: Lane) -> Result<(), LedgerError> {
        let mut from = None;
        loop {
            let entries =
                match self.gate.events(&self.persist_consumer, lane, from, self.options.entries.max(2)).await
                {
                    Ok(entries) => entries,
                    Err(LedgerError::NotOpen | LedgerError::Invalid(_)) => return Ok(()),
                    Err(error) => return Err(error),
                };
            let Some(last) = entries.last().map(|entry| entry.position) else { return Ok(()) };
            if from == Some(last) {
                return Ok(());
            }
            self.truth.persist(lane, PersistMode::Salvage, entries).await?;
            from = Some(last);
        }
    }
}
