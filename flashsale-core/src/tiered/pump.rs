//! The pump, which moves entries of the gate to the truth and entries of the truth to the gate.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

use super::Tiered;
use crate::{
    domain::ActivityId,
    ledger::{Bucket, Entry, Event, Lane, LedgerCalls as _, LedgerError, PersistMode, Position, Transfer},
};

/// How long an idle pump sleeps unless woken.
const IDLE: Duration = Duration::from_millis(20);

/// The result of one round of the pump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// No entries were waiting on either side.
    Quiet,
    /// Entries were moved.
    Moved,
    /// The gate had lost its content or a part of it and was rebuilt.
    Rebuilt,
}

/// The outcome of [`Tiered::persist_lane`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PersistResult {
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
                    Err(error) => tracing::warn!(%activity, %error, "pumping failed; retrying"),
                }
            }
            if !moved {
                tokio::select! {
                    _ = timeout(IDLE, self.wake_pump.notified()) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
        }
    }

    /// Runs one round for an activity: checks and persists the gate, then lets it follow the truth.
    ///
    /// # Errors
    /// Errors of the tiers. The next round resumes unfinished work.
    pub async fn pump(&self, activity: ActivityId) -> Result<Pumped, LedgerError> {
        let lock = self.pump_lock(activity);
        let _one_at_a_time = lock.lock().await;
        let Some(terms) = self.truth.terms(activity).await? else {
            return Err(LedgerError::NotOpen);
        };
        let mut moved = false;
        for bucket in 0..terms.buckets().get() {
            match self.persist_lane(Lane { activity, bucket }).await? {
                PersistResult::Quiet => {}
                PersistResult::Moved => moved = true,
                PersistResult::Lost => {
                    let epoch = self.truth.epoch(activity).await?;
                    self.rebuild_locked(activity, epoch).await?;
                    return Ok(Pumped::Rebuilt);
                }
            }
        }
        match self.follow_activity(activity, terms.buckets().get()).await {
            Ok(followed) => Ok(if moved || followed { Pumped::Moved } else { Pumped::Quiet }),
            // The gate lost more than the truth's outbox still holds.
            Err(LedgerError::Moved { .. }) => {
                let epoch = self.truth.epoch(activity).await?;
                self.rebuild_locked(activity, epoch).await?;
                Ok(Pumped::Rebuilt)
            }
            Err(error) => Err(error),
        }
    }

    /// Pumps an activity until no entries are waiting on either side.
    ///
    /// # Errors
    /// Errors of the tiers.
    pub async fn settle(&self, activity: ActivityId) -> Result<(), LedgerError> {
        while self.pump(activity).await? != Pumped::Quiet {}
        Ok(())
    }

    /// Pumps until a transfer's arrival is persisted, without waiting for empty outboxes.
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

    /// Returns the gate's position of a transfer's arrival, if it is not persisted yet.
    async fn arrival(&self, lane: Lane, transfer: Transfer) -> Result<Option<Position>, LedgerError> {
        let mut from = self.truth.position(lane).await?;
        loop {
            // A gate with another history will be rebuilt, which voids its transfers.
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

    /// Persists entries of one lane at the truth, one transaction at most.
    async fn persist_lane(&self, lane: Lane) -> Result<PersistResult, LedgerError> {
        let epoch = self.truth.epoch(lane.activity).await?;
        if epoch.0 == 0 || self.gate.open_epoch(lane.activity).await? != Some(epoch) {
            return Ok(PersistResult::Lost);
        }
        self.remember_epoch(lane.activity, epoch);
        let position = self.truth.position(lane).await?;
        let Some(mut entries) = self.entries_from(lane, position, self.options.entries + 1).await? else {
            return Ok(PersistResult::Lost);
        };
        let waiting = entries.split_off(1);
        let last = waiting.last().map_or(position, |entry| entry.position);
        if mutant!("ack-before-persist") {
            self.gate.ack(&self.persist_consumer, lane, last).await?;
        }
        if !waiting.is_empty() {
            self.truth.persist(lane, self.fence, PersistMode::After(position), waiting).await?;
        }
        self.gate.ack(&self.persist_consumer, lane, last).await?;
        Ok(if last == position { PersistResult::Quiet } else { PersistResult::Moved })
    }

    /// Returns the gate's entries from a position on, inclusively; `None` if it lacks that one.
    async fn entries_from(
        &self,
        lane: Lane,
        position: Position,
        limit: usize,
    ) -> Result<Option<Vec<Entry>>, LedgerError> {
        let entries = match self.gate.events(&self.persist_consumer, lane, Some(position), limit).await {
            Ok(entries) => entries,
            // A gate that does not know the activity or the consumer has lost its content.
            Err(LedgerError::NotOpen | LedgerError::Invalid(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let same = entries
            .first()
            .is_some_and(|entry| entry.position == position || mutant!("history-not-compared"));
        Ok(same.then_some(entries))
    }

    /// Returns whether the gate holds exactly this entry.
    pub(super) async fn holds(&self, lane: Lane, position: Position) -> Result<bool, LedgerError> {
        Ok(self.entries_from(lane, position, 1).await?.is_some())
    }

    /// Makes every lane of the gate follow the truth by up to one batch.
    async fn follow_activity(&self, activity: ActivityId, buckets: Bucket) -> Result<bool, LedgerError> {
        let mut slowest: Option<Position> = None;
        for bucket in 0..buckets {
            let followed = self.gate.followed(Lane { activity, bucket }).await?;
            if slowest.is_none_or(|slowest| followed.sequence < slowest.sequence) {
                slowest = Some(followed);
            }
        }
        let first = Lane::first(activity);
        let limit = self.options.entries + 1;
        let entries = self.truth.events(&self.follow_consumer, first, slowest, limit).await?;
        let Some(last) = entries.last().map(|entry| entry.position) else { return Ok(false) };
        let waiting: Vec<_> = entries
            .into_iter()
            .filter(|entry| slowest.is_none_or(|slowest| entry.position.sequence > slowest.sequence))
            .collect();
        let moved = !waiting.is_empty();
        for bucket in 0..buckets {
            if moved {
                self.gate.follow(Lane { activity, bucket }, waiting.clone()).await?;
            }
        }
        self.truth.ack(&self.follow_consumer, first, last).await?;
        Ok(moved)
    }

    /// Wakes the pump.
    pub(super) fn wake(&self) {
        self.wake_pump.notify_one();
    }
}
