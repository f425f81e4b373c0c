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

/// What a queue does, without I/O, clock or chance: the oracle of the conformance suite, and the content of
/// [`InMemoryQueue`](super::InMemoryQueue). Each method is the step of [`Queue`](super::Queue) that has its name, at the
/// moment `now`.
#[derive(Clone, Debug, Default)]
pub struct QueueSpec {
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

impl QueueSpec {
    /// Puts jobs in.
    pub fn put(&mut self, now: Timestamp, jobs: Vec<NewJob>) -> Vec<Put> {
        jobs.into_iter().map(|job| self.put_one(now, job)).collect()
    }

    fn put_one(&mut self, now: Timestamp, job: NewJob) -> Put {
        if let Some(number) = self.ids.get(&(job.topic.clone(), job.id.clone())) {
            return Put::Known(*number);
        }
        self.last += 1;
        let number = JobNumber(self.last);
        let kept = StoredJob::new(job, now);
        self.ids.insert((kept.topic.clone(), kept.id.clone()), number);
        self.place(number, &kept);
        self.jobs.insert(number, kept);
        Put::New(number)
    }

    /// Hands jobs out.
    pub fn claim(&mut self, now: Timestamp, topic: &Topic, limit: usize, lease: Duration) -> Claimed {
        let Some(of_topic) = self.topics.get(topic) else {
            return Claimed { at: now, jobs: Vec::new(), next: None };
        };
        let ready = of_topic.ready.iter().take_while(|(ready_at, _)| *ready_at <= now).take(limit);
        let ready: Vec<_> = ready.map(|(_, number)| *number).collect();
        let jobs = ready
            .into_iter()
            .filter_map(|number| {
                let mut kept = self.take(number)?;
                let job = kept.claim(number, now.after(lease));
                self.place(number, &kept);
                self.jobs.insert(number, kept);
                Some(job)
            })
            .collect();
        let next =
            self.topics.get(topic).and_then(|topic| topic.ready.first()).map(|(ready_at, _)| *ready_at);
        Claimed { at: now, jobs, next }
    }

    /// Ends claims.
    pub fn settle(&mut self, now: Timestamp, settlements: Vec<Settlement>) -> Vec<bool> {
        settlements.into_iter().map(|settlement| self.settle_one(now, settlement)).collect()
    }

    fn settle_one(&mut self, now: Timestamp, Settlement { claim, verdict }: Settlement) -> bool {
        if !self.is_valid(claim) {
            return false;
        }
        let Some(mut kept) = self.take(claim.number) else { return false };
        if kept.settle(verdict, now) {
            self.place(claim.number, &kept);
            self.jobs.insert(claim.number, kept);
        } else {
            self.ids.remove(&(kept.topic, kept.id));
        }
        true
    }

    fn is_valid(&self, claim: Claim) -> bool {
        self.jobs.get(&claim.number).is_some_and(|kept| kept.is_claimed_by(claim))
    }

    /// Dead letters after a number.
    pub fn dead_letters(&self, after: Option<JobNumber>, limit: usize) -> Vec<DeadLetter> {
        let first = JobNumber(after.map_or(0, |after| after.0.saturating_add(1)));
        self.dead.range(first..).take(limit).filter_map(|number| self.dead_letter(*number)).collect()
    }

    /// One dead letter.
    pub fn dead_letter(&self, number: JobNumber) -> Option<DeadLetter> {
        self.jobs.get(&number)?.dead_letter(number)
    }

    /// Makes a dead letter a job again.
    pub fn replay(&mut self, now: Timestamp, number: JobNumber) -> bool {
        if !self.dead.contains(&number) {
            return false;
        }
        let Some(mut kept) = self.take(number) else { return false };
        kept.replay(now);
        self.place(number, &kept);
        self.jobs.insert(number, kept);
        true
    }

    /// Removes a dead letter.
    pub fn discard(&mut self, number: JobNumber) -> bool {
        if !self.dead.contains(&number) {
            return false;
        }
        let Some(kept) = self.take(number) else { return false };
        self.ids.remove(&(kept.topic, kept.id));
        true
    }

    /// How much there is.
    pub fn depths(&self) -> Vec<Depth> {
        let depth = |(topic, of_topic): (&Topic, &OfTopic)| Depth {
            topic: topic.clone(),
            waiting: of_topic.ready.len() as u64,
            dead: of_topic.dead,
            first_ready: of_topic.ready.first().map(|(ready_at, _)| *ready_at),
        };
        self.topics.iter().map(depth).collect()
    }

    /// Takes a job out of its place.
    fn take(&mut self, number: JobNumber) -> Option<StoredJob> {
        let kept = self.jobs.remove(&number)?;
        let of_topic = self.topics.entry(kept.topic.clone()).or_default();
        match kept.place {
            JobState::Ready(ready_at) | JobState::Held(ready_at) => {
                of_topic.ready.remove(&(ready_at, number));
            }
            JobState::Dead(_) => {
                of_topic.dead -= 1;
                self.dead.remove(&number);
            }
        }
        Some(kept)
    }

    /// Puts a job into its place.
    fn place(&mut self, number: JobNumber, kept: &StoredJob) {
        let of_topic = self.topics.entry(kept.topic.clone()).or_default();
        match kept.place {
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
