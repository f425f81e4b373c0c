//! The pump: entries of the gate to the truth, entries of the truth to the gate.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

use super::Tiered;
use crate::{
    domain::ActivityId,
    ledger::{Bucket, Entry, Event, Lane, LedgerError, PersistMode, Position, Transfer},
};

/// How long the pump sleeps when nobody wakes it.
const IDLE: Duration = Duration::from_millis(20);

/// What one round of the pump found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing waits on either side.
    Quiet,
    /// Entries were moved.
    Moved,
    /// The gate had no content, or had lost some, and was rebuilt.
    Rebuilt,
}

/// Whether the gate's history is the one that the truth has persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persisting {
    Quiet,
    Moved,
    /// The gate has another epoch, no content, or another entry at the truth's position.
    Lost,
}

impl Tiered {
    /// Pumps all activities until `stop` becomes true.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let activities = self.truth.activities().await.unwrap_or_default();
            let mut moved = false;
            for activity in activities {
                match self.pump(activity).await {
                    Ok(pumped) => moved |= pumped != Pumped::Quiet,
                    Err(error) => tracing::warn!(%activity, %error, "the pump stopped for now"),
                }
            }
            if !moved {
                tokio::select! {
                    _ = timeout(IDLE, self.work.notified()) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
        }
    }

    /// One round for one activity: supervise the gate, persist what it admitted, let it follow what the truth decided.
    ///
    /// # Errors
    /// Those of the tiers. Whatever was not finished is found again by the next round.
    pub async fn pump(&self, activity: ActivityId) -> Result<Pumped, LedgerError> {
        let lock = self.pump_lock(activity);
        let _one_at_a_time = lock.lock().await;
        let Some(terms) = self.truth.terms(activity).await? else {
            return Err(LedgerError::NotOpen);
        };
        let mut moved = false;
        for bucket in 0..terms.buckets().get() {
            match self.persist_lane(Lane { activity, bucket }).await? {
                Persisting::Quiet => {}
                Persisting::Moved => moved = true,
                Persisting::Lost => {
                    let epoch = self.truth.epoch(activity).await?;
                    self.rebuild_locked(activity, epoch).await?;
                    return Ok(Pumped::Rebuilt);
                }
            }
        }
        match self.follow_activity(activity, terms.buckets().get()).await {
            Ok(followed) => Ok(if moved || followed { Pumped::Moved } else { Pumped::Quiet }),
            // The gate went back behind what the truth still keeps for it.
            Err(LedgerError::Moved { .. }) => {
                let epoch = self.truth.epoch(activity).await?;
                self.rebuild_locked(activity, epoch).await?;
                Ok(Pumped::Rebuilt)
            }
            Err(error) => Err(error),
        }
    }

    /// Pumps an activity until nothing waits on either side.
    ///
    /// # Errors
    /// Those of the tiers.
    pub async fn settle(&self, activity: ActivityId) -> Result<(), LedgerError> {
        while self.pump(activity).await? != Pumped::Quiet {}
        Ok(())
    }

    /// Pumps until the arrival of a transfer is persisted, and not until nothing waits: buyers keep coming.
    pub(super) async fn persist_arrival(&self, transfer: Transfer) -> Result<(), LedgerError> {
        let lane = Lane { activity: transfer.activity, bucket: transfer.to };
        let Some(arrival) = self.arrival(lane, transfer).await? else { return Ok(()) };
        loop {
            let position = self.truth.position(lane).await?;
            if position.epoch != arrival.epoch || position.sequence >= arrival.sequence {
                return Ok(());
            }
            self.pump(transfer.activity).await?;
        }
    }

    /// Where the arrival of a transfer stands in the gate's outbox, if it is not persisted yet.
    async fn arrival(&self, lane: Lane, transfer: Transfer) -> Result<Option<Position>, LedgerError> {
        let mut from = self.truth.position(lane).await?;
        loop {
            // A gate with another history will be rebuilt, and its transfers are void.
            let Some(entries) = self.entries_from(lane, from, self.options.entries + 1).await? else {
                return Ok(None);
            };
            let arrived = entries.iter().find(|entry| entry.event == Event::Received(transfer));
            let last = entries.last().map_or(from, |entry| entry.position);
            if arrived.is_some() || last == from {
                return Ok(arrived.map(|entry| entry.position));
            }
            from = last;
        }
    }

    /// Brings the entries of one lane to the truth, one transaction's worth.
    async fn persist_lane(&self, lane: Lane) -> Result<Persisting, LedgerError> {
        let epoch = self.truth.epoch(lane.activity).await?;
        if epoch.0 == 0 || self.gate.epoch(lane.activity).await? != Some(epoch) {
            return Ok(Persisting::Lost);
        }
        self.remember_epoch(lane.activity, epoch);
        let position = self.truth.position(lane).await?;
        let Some(mut entries) = self.entries_from(lane, position, self.options.entries + 1).await? else {
            return Ok(Persisting::Lost);
        };
        let waiting = entries.split_off(1);
        let last = waiting.last().map_or(position, |entry| entry.position);
        if mutant!("ack-before-persist") {
            self.gate.ack(&self.persisting, lane, last).await?;
        }
        if !waiting.is_empty() {
            self.truth.persist(lane, self.fence, PersistMode::After(position), waiting).await?;
        }
        self.gate.ack(&self.persisting, lane, last).await?;
        Ok(if last == position { Persisting::Quiet } else { Persisting::Moved })
    }

    /// The gate's entries from a position on, that entry included; `None` if the gate does not have it.
    async fn entries_from(
        &self,
        lane: Lane,
        position: Position,
        limit: usize,
    ) -> Result<Option<Vec<Entry>>, LedgerError> {
        let entries = match self.gate.events(&self.persisting, lane, Some(position), limit).await {
            Ok(entries) => entries,
            // A gate that has forgotten the activity or its reader has lost its content.
            Err(LedgerError::NotOpen | LedgerError::Invalid(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let same = entries
            .first()
            .is_some_and(|entry| entry.position == position || mutant!("history-not-compared"));
        Ok(same.then_some(entries))
    }

    /// Whether the gate holds this very entry.
    pub(super) async fn holds(&self, lane: Lane, position: Position) -> Result<bool, LedgerError> {
        Ok(self.entries_from(lane, position, 1).await?.is_some())
    }

    /// Lets every lane of the gate follow the truth, one batch's worth.
    async fn follow_activity(&self, activity: ActivityId, buckets: Bucket) -> Result<bool, LedgerError> {
        let mut behind: Option<Position> = None;
        for bucket in 0..buckets {
            let followed = self.gate.followed(Lane { activity, bucket }).await?;
            if behind.is_none_or(|behind| followed.sequence < behind.sequence) {
                behind = Some(followed);
            }
        }
        let first = Lane::first(activity);
        let limit = self.options.entries + 1;
        let entries = self.truth.events(&self.following, first, behind, limit).await?;
        let Some(last) = entries.last().map(|entry| entry.position) else { return Ok(false) };
        let waiting: Vec<_> = entries
            .into_iter()
            .filter(|entry| behind.is_none_or(|behind| entry.position.sequence > behind.sequence))
            .collect();
        let moved = !waiting.is_empty();
        for bucket in 0..buckets {
            if moved {
                self.gate.follow(Lane { activity, bucket }, waiting.clone()).await?;
            }
        }
        self.truth.ack(&self.following, first, last).await?;
        Ok(moved)
    }

    /// Wakes the pump.
    pub(super) fn wake(&self) {
        self.work.notify_one();
    }
}
