//! Rebuild: loads a gate from the truth under a new epoch. Warm-up is the same without salvage.

use super::Tiered;
use crate::{
    domain::ActivityId,
    ledger::{Epoch, Lane, LedgerCalls as _, LedgerError, PersistMode},
};

impl Tiered {
    /// Rebuilds the gate of an activity if the truth is still at `epoch`.
    ///
    /// # Errors
    /// Errors of the tiers. An epoch that was taken but not opened is abandoned.
    pub async fn rebuild(&self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        let lock = self.pump_lock(activity);
        let _one_at_a_time = lock.lock().await;
        self.rebuild_locked(activity, epoch).await
    }

    pub(super) async fn rebuild_locked(&self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        tracing::info!(%activity, epoch = epoch.0, "rebuilding the gate from the truth");
        let terms = self.truth.terms(activity).await?.ok_or(LedgerError::NotOpen)?;
        self.truth.register(&self.follow_consumer).await?;
        // A gate that does not answer could not be loaded either, so failing here loses nothing.
        self.gate.close(activity, epoch).await?;
        for bucket in 0..terms.buckets().get() {
            if !mutant!("nothing-salvaged") {
                self.salvage(Lane { activity, bucket }).await?;
            }
        }
        let next = match self.truth.next_epoch(activity, epoch).await {
            Ok(next) => next,
            // Another process took it; the next round looks at the new state.
            Err(LedgerError::Moved { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.gate.register(&self.persist_consumer).await?;
        let mut after = None;
        loop {
            let chunk = self.truth.content(activity, after, self.options.content).await?;
            after = chunk.next;
            self.gate.load(activity, next.epoch, chunk).await?;
            if after.is_none() {
                break;
            }
        }
        self.gate.reopen(activity, next.epoch, next.batch).await?;
        self.remember_epoch(activity, next.epoch);
        Ok(())
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
            self.truth.persist(lane, self.fence, PersistMode::Salvage, entries).await?;
            from = Some(last);
        }
    }
}
