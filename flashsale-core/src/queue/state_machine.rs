//! The specification of a queue.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use super::{
    Claim, Claimed, DeadLetter, Depth, JobNumber, NewJob, Put, Settlement, Topic,
    job::{JobState, StoredJob},
};
use crate::domain::{Name, Timestamp};

/// The behaviour of a queue, without I/O, clock or randomness. It is the oracle of the conformance
/// suite and the content of [`InMemoryQueue`](super::InMemoryQueue). Each method implements the
/// method of [`Queue`](super::Queue) with the same name, at the time `now`.
#[derive(Clone, Debug, Default)]
pub struct QueueStateMachine {
    last: u64,
    jobs: BTreeMap<JobNumber, StoredJob>,
    ids: HashMap<(Topic, Name), JobNumber>,
    topics: BTreeMap<Topic, OfTopic>,
    dead: BTreeSet<JobNumber>,
}

#[derive(Clone, Debug, Default)]
struct OfTopic {
    ready: BTreeSet<(Timestamp, JobNumber)>,
    dead: u64,
}

impl QueueStateMachine {
    /// Queues jobs.
    pub fn put(&mut self, now: Timestamp, jobs: Vec<NewJob>) -> Vec<Put> {
        jobs.into_iter().map(|job| self.put_one(now, job)).collect()
    }

    fn put_one(&mut self, now: Timestamp, job: NewJob) -> Put {
        if let Some(number) = self.ids.get(&(job.topic.clone(), job.id.clone())) {
            return Put::Known(*number);
        }
        self.last += 1;
        let number = JobNumber(self.last);
        let stored = StoredJob::new(job, now);
        self.ids.insert((stored.topic.clone(), stored.id.clone()), number);
        self.index(number, &stored);
        self.jobs.insert(number, stored);
        Put::New(number)
    }

    /// Claims jobs.
    pub fn claim(&mut self, now: Timestamp, topic: &Topic, limit: usize, lease: Duration) -> Claimed {
        let Some(of_topic) = self.topics.get(topic) else {
            return Claimed { at: now, jobs: Vec::new(), next: None };
        };
        let ready = of_topic.ready.iter().take_while(|(ready_at, _)| *ready_at <= now).take(limit);
        let ready: Vec<_> = ready.map(|(_, number)| *number).collect();
        let jobs = ready
            .into_iter()
            .filter_map(|number| {
                let mut stored = self.take(number)?;
                let job = stored.claim(number, now.after(lease));
                self.index(number, &stored);
                self.jobs.insert(number, stored);
                Some(job)
            })
            .collect();
        let next =
            self.topics.get(topic).and_then(|topic| topic.ready.first()).map(|(ready_at, _)| *ready_at);
        Claimed { at: now, jobs, next }
    }

    /// Settles claims.
    pub fn settle(&mut self, now: Timestamp, settlements: Vec<Settlement>) -> Vec<bool> {
        settlements.into_iter().map(|settlement| self.settle_one(now, settlement)).collect()
    }

    fn settle_one(&mut self, now: Timestamp, Settlement { claim, verdict }: Settlement) -> bool {
        if !self.is_valid(claim) {
            return false;
        }
        let Some(mut stored) = self.take(claim.number) else { return false };
        if stored.settle(verdict, now) {
            self.index(claim.number, &stored);
            self.jobs.insert(claim.number, stored);
        } else {
            self.ids.remove(&(stored.topic, stored.id));
        }
        true
    }

    fn is_valid(&self, claim: Claim) -> bool {
        self.jobs.get(&claim.number).is_some_and(|stored| stored.is_claimed_by(claim))
    }

    /// Lists dead letters after a number.
    pub fn dead_letters(&self, after: Option<JobNumber>, limit: usize) -> Vec<DeadLetter> {
        let first = JobNumber(after.map_or(0, |after| after.0.saturating_add(1)));
        self.dead.range(first..).take(limit).filter_map(|number| self.dead_letter(*number)).collect()
    }

    /// Reads a dead letter.
    pub fn dead_letter(&self, number: JobNumber) -> Option<DeadLetter> {
        self.jobs.get(&number)?.dead_letter(number)
    }

    /// Makes a dead letter ready again.
    pub fn replay(&mut self, now: Timestamp, number: JobNumber) -> bool {
        if !self.dead.contains(&number) {
            return false;
        }
        let Some(mut stored) = self.take(number) else { return false };
        stored.replay(now);
        self.index(number, &stored);
        self.jobs.insert(number, stored);
        true
    }

    /// Deletes a dead letter.
    pub fn discard(&mut self, number: JobNumber) -> bool {
        if !self.dead.contains(&number) {
            return false;
        }
        let Some(stored) = self.take(number) else { return false };
        self.ids.remove(&(stored.topic, stored.id));
        true
    }

    /// Counts jobs by topic.
    pub fn depths(&self) -> Vec<Depth> {
        let depth = |(topic, of_topic): (&Topic, &OfTopic)| Depth {
            topic: topic.clone(),
            waiting: of_topic.ready.len() as u64,
            dead: of_topic.dead,
            first_ready: of_topic.ready.first().map(|(ready_at, _)| *ready_at),
        };
        self.topics.iter().map(depth).collect()
    }

    /// Removes a job from the map and from the index of its state.
    fn take(&mut self, number: JobNumber) -> Option<StoredJob> {
        let stored = self.jobs.remove(&number)?;
        let of_topic = self.topics.entry(stored.topic.clone()).or_default();
        match stored.place {
            JobState::Ready(ready_at) | JobState::Held(ready_at) => {
                of_topic.ready.remove(&(ready_at, number));
            }
            JobState::Dead(_) => {
                of_topic.dead -= 1;
                self.dead.remove(&number);
            }
        }
        Some(stored)
    }

    /// Adds a job to the index of its state.
    fn index(&mut self, number: JobNumber, stored: &StoredJob) {
        let of_topic = self.topics.entry(stored.topic.clone()).or_default();
        match stored.place {
            JobState::Ready(ready_at) | JobState::Held(ready_at) => {
                of_topic.ready.insert((ready_at, number));
            }
            JobState::Dead(_) => {
                of_topic.dead += 1;
                self.dead.insert(number);
            }
        }
    }
}
