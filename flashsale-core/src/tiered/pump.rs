//! The pump, which moves entries of the gate to the truth and entries of the truth to the gate.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use super::{Tiered, concurrent::at_most, epochs::Standing, notes::Lanes, remembered::Pump};
use crate::{
    domain::ActivityId,
    interruptible_sleep::pause,
    ledger::{Bucket, Entry, Epoch, Lane, LedgerCalls as _, LedgerError, PersistMode, Position},
};

/// How often every lane is looked at that nobody noted: other nodes place orders too.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The wait before the next look at a gate that another node may be loading.
const LOAD_CHECK: Duration = Duration::from_millis(50);
/// The wait after a failed round.
const RETRY: Duration = Duration::from_millis(500);
/// The most activities that are pumped at once.
const ACTIVITIES_AT_ONCE: usize = 16;
/// The most lanes of an activity that are persisted, or follow, at once.
pub(super) const LANES_AT_ONCE: usize = 8;

/// The result of one round of the pump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// No entries were waiting on either side.
    Quiet,
    /// Entries were moved, by this node or by another.
    Moved,
    /// The gate had lost its content or a part of it and was rebuilt.
    Rebuilt,
    /// The gate is not open, and another node may be loading it.
    Waiting,
}

/// The result of a round, with the lanes that may have more to persist.
struct Round {
    pumped: Pumped,
    lanes: Lanes,
}

/// The outcome of [`Tiered::persist_lane`] and [`Tiered::follow_truth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Quiet,
    Moved,
    /// The gate has no content, or another entry at the truth's position, or has followed less than
    /// the truth's outbox still holds.
    Lost,
}

impl Tiered {
    /// Pumps all activities until `stop` becomes true or its sender is gone, then finishes rounds in
    /// progress. A lane in which this process places an order is pumped at once, any other within a
    /// second.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut rounds = JoinSet::new();
        let mut busy: HashMap<Id, ActivityId> = HashMap::new();
        let mut next_look = Instant::now();
        loop {
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK_EVERY;
                tokio::select! {
                    () = self.note_all() => {}
                    _ = stop.wait_for(|stop| *stop) => break,
                }
            }
            while rounds.len() < ACTIVITIES_AT_ONCE
                && let Some((activity, lanes)) =
                    self.notes.take(|activity| busy.values().all(|busy| *busy != activity))
            {
                let round = Arc::clone(&self).round_and_pause(activity, lanes, stop.clone());
                busy.insert(rounds.spawn(round).id(), activity);
            }
            tokio::select! {
                Some(ended) = rounds.join_next_with_id() => self.end(ended, &mut busy),
                () = self.notes.added() => {}
                () = sleep_until(next_look) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        while rounds.join_next().await.is_some() {}
    }

    /// Runs one round for an activity: checks and persists the gate, then lets it follow the truth.
    ///
    /// # Errors
    /// Errors of the tiers. The next round resumes unfinished work.
    pub async fn pump(&self, activity: ActivityId) -> Result<Pumped, LedgerError> {
        Ok(self.round(activity, &Lanes::All).await?.pumped)
    }

    /// Pumps an activity until no entries are waiting on either side.
    ///
    /// # Errors
    /// Errors of the tiers.
    pub async fn settle(&self, activity: ActivityId) -> Result<(), LedgerError> {
        while self.round_or_wait(activity, &Lanes::All).await? != Pumped::Quiet {}
        Ok(())
    }

    /// Runs one round. If another node may be loading the gate, waits a moment instead.
    pub(super) async fn round_or_wait(
        &self,
        activity: ActivityId,
        lanes: &Lanes,
    ) -> Result<Pumped, LedgerError> {
        let pumped = self.round(activity, lanes).await?.pumped;
        if pumped == Pumped::Waiting {
            sleep(LOAD_CHECK).await;
        }
        Ok(pumped)
    }

    /// Notes all lanes of all activities.
    async fn note_all(&self) {
        match self.truth.activities().await {
            Ok(activities) => {
                activities.into_iter().for_each(|activity| self.notes.add(activity, Lanes::All));
            }
            Err(error) => tracing::warn!(%error, "the activities to pump could not be read; retrying"),
        }
    }

    /// Runs one round, notes what is left, and pauses if it could not go on.
    async fn round_and_pause(
        self: Arc<Self>,
        activity: ActivityId,
        lanes: Lanes,
        mut stop: watch::Receiver<bool>,
    ) {
        let (wait, left) = match self.round(activity, &lanes).await {
            Ok(Round { pumped: Pumped::Quiet, .. }) => return,
            Ok(Round { pumped: Pumped::Waiting, .. }) => (LOAD_CHECK, lanes),
            Ok(Round { lanes, .. }) => (Duration::ZERO, lanes),
            // It was archived, or never opened.
            Err(LedgerError::NotOpen) => return,
            Err(error) => {
                tracing::warn!(%activity, %error, "pumping failed; retrying");
                (RETRY, lanes)
            }
        };
        if !wait.is_zero() {
            pause(&mut stop, wait).await;
        }
        self.notes.add(activity, left);
    }

    fn end(&self, ended: Result<(Id, ()), JoinError>, busy: &mut HashMap<Id, ActivityId>) {
        match ended {
            Ok((id, ())) => drop(busy.remove(&id)),
            Err(error) => {
                let activity = busy.remove(&error.id());
                tracing::error!(?activity, %error, "a round of the pump has panicked");
            }
        }
    }

    async fn round(&self, activity: ActivityId, lanes: &Lanes) -> Result<Round, LedgerError> {
        let pump = self.pump_of(activity);
        let mut pump = pump.lock().await;
        let buckets = match pump.buckets {
            Some(buckets) => buckets,
            None => {
                let terms = self.truth.terms(activity).await?.ok_or(LedgerError::NotOpen)?;
                *pump.buckets.insert(terms.buckets().get())
            }
        };
        // An epoch is taken before a gate opens in it: read in this order, the gate is never ahead.
        let gate = self.gate.open_epoch(activity).await?;
        let epoch = self.truth.epoch(activity).await?;
        match self.epochs.judge(activity, gate, epoch) {
            Standing::Open => {}
            Standing::Lost => return self.rebuild_round(activity, epoch, &mut pump).await,
            Standing::Taken => return Ok(Round { pumped: Pumped::Waiting, lanes: lanes.clone() }),
        }
        let persisted = lanes.of(activity, buckets);
        let results =
            at_most(LANES_AT_ONCE, persisted.iter().map(|lane| self.persist_lane(*lane, epoch)).collect())
                .await;
        let mut moved = std::collections::BTreeSet::new();
        let mut failed = None;
        for (lane, result) in persisted.iter().zip(results) {
            match result {
                Ok(Progress::Quiet) => {}
                Ok(Progress::Moved) => drop(moved.insert(lane.bucket)),
                Ok(Progress::Lost) => return self.rebuild_round(activity, epoch, &mut pump).await,
                // The other lanes need not wait for this one.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // What the rounds remember is not what a gate holds that was rolled back: look, when all lanes
        // are looked at.
        if *lanes == Lanes::All {
            pump.followed = None;
        }
        let followed = self.follow_truth(activity, buckets, &mut pump).await?;
        match (failed, followed) {
            (_, Progress::Lost) => self.rebuild_round(activity, epoch, &mut pump).await,
            (Some(error), _) => Err(error),
            (None, Progress::Quiet) if moved.is_empty() => {
                Ok(Round { pumped: Pumped::Quiet, lanes: Lanes::none() })
            }
            (None, _) => Ok(Round { pumped: Pumped::Moved, lanes: Lanes::These(moved) }),
        }
    }

    async fn rebuild_round(
        &self,
        activity: ActivityId,
        epoch: Epoch,
        pump: &mut Pump,
    ) -> Result<Round, LedgerError> {
        let pumped = self.rebuild_locked(activity, epoch, pump).await?;
        Ok(Round { pumped, lanes: Lanes::All })
    }

    /// Persists entries of one lane at the truth, one transaction at most.
    async fn persist_lane(&self, lane: Lane, epoch: Epoch) -> Result<Progress, LedgerError> {
        let position = self.truth.position(lane).await?;
        if position.epoch != epoch {
            // Another node has taken the next epoch.
            return Ok(Progress::Moved);
        }
        let Some(mut entries) = self.entries_from(lane, position, self.options.entries + 1).await? else {
            // Unless another node has persisted more meanwhile, and the gate has forgotten the entry.
            let now = self.truth.position(lane).await?;
            let is_lost = now == position || mutant!("position-not-read-again");
            return Ok(if is_lost { Progress::Lost } else { Progress::Moved });
        };
        let waiting = entries.split_off(1);
        let last = waiting.last().map_or(position, |entry| entry.position);
        if mutant!("ack-before-persist") {
            self.gate.ack(&self.persist_consumer, lane, last).await?;
        }
        if !waiting.is_empty() {
            match self.truth.persist(lane, PersistMode::After(position), waiting).await {
                Ok(_) => {}
                // Another node has persisted them: the next round reads the position again.
                Err(LedgerError::Moved { .. }) if !mutant!("lost-race-is-an-error") => {
                    return Ok(Progress::Moved);
                }
                Err(error) => return Err(error),
            }
        }
        self.gate.ack(&self.persist_consumer, lane, last).await?;
        Ok(if last == position { Progress::Quiet } else { Progress::Moved })
    }

    /// Returns the gate's entries from a position on, inclusively; `None` if it lacks that one.
    pub(super) async fn entries_from(
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
    async fn follow_truth(
        &self,
        activity: ActivityId,
        buckets: Bucket,
        pump: &mut Pump,
    ) -> Result<Progress, LedgerError> {
        let lanes = Lanes::All.of(activity, buckets);
        // The next round looks at a gate that was closed or replaced meanwhile.
        let read = match pump.followed.take() {
            Some(followed) => Some(followed),
            None => self.slowest(&lanes).await?,
        };
        let Some(from) = read else { return Ok(Progress::Moved) };
        let (first, limit) = (Lane::first(activity), self.options.entries + 1);
        let mut waiting = self.truth.events(&self.follow_consumer, first, Some(from), limit).await?;
        if waiting.first().is_none_or(|entry| entry.position.sequence != from.sequence) {
            // Unless the gate was replaced, or has followed more, with another node.
            let is_lost = self.slowest(&lanes).await? == Some(from);
            return Ok(if is_lost { Progress::Lost } else { Progress::Moved });
        }
        let waiting = waiting.split_off(1);
        let last = waiting.last().map_or(from, |entry| entry.position);
        if !waiting.is_empty() {
            let follow = lanes.iter().map(|lane| self.gate.follow(*lane, waiting.clone())).collect();
            for followed in at_most(LANES_AT_ONCE, follow).await {
                match followed {
                    Ok(()) => {}
                    Err(LedgerError::Moved { .. } | LedgerError::NotOpen) => return Ok(Progress::Moved),
                    Err(error) => return Err(error),
                }
            }
        }
        self.truth.ack(&self.follow_consumer, first, last).await?;
        pump.followed = Some(last);
        Ok(if waiting.is_empty() { Progress::Quiet } else { Progress::Moved })
    }

    /// Returns the truth's position up to which all lanes of the gate have followed; `None` if the
    /// gate does not have them.
    async fn slowest(&self, lanes: &[Lane]) -> Result<Option<Position>, LedgerError> {
        let followed = lanes.iter().map(|lane| self.gate.followed(*lane)).collect();
        let mut slowest: Option<Position> = None;
        for followed in at_most(LANES_AT_ONCE, followed).await {
            match followed {
                Ok(followed) if slowest.is_none_or(|slowest| followed.sequence < slowest.sequence) => {
                    slowest = Some(followed);
                }
                Ok(_) => {}
                Err(LedgerError::NotOpen) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(slowest)
    }
}
