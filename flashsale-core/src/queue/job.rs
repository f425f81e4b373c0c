//! Jobs and their states.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::domain::{Invalid, Name, Timestamp, text::Bounded};

/// Maximum jobs, claims or dead letters in one call.
pub const MAX_BATCH: usize = 1_000;

/// The kind of a job: 1 to 64 characters, such as `refunds`.
pub type Topic = Bounded<64>;

/// Maximum size of a job's content as JSON: 64 KiB.
pub const MAX_CONTENT_BYTES: usize = 64 << 10;

/// Maximum characters of a stored error message; longer ones are cut.
const MAX_ERROR: usize = 1_000;

/// The number that a queue assigns to a job. Numbers increase and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobNumber(pub u64);

impl fmt::Display for JobNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job to be queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// The kind of job.
    pub topic: Topic,
    /// Identifies the job within its topic: 1 to 120 characters, such as `refund/sandbox/tx-7`.
    pub id: Name,
    /// When the job is ready; a time in the past means now.
    pub ready_at: Timestamp,
    pub(crate) content: String,
}

impl NewJob {
    /// Creates a job that is ready at a given time.
    ///
    /// # Errors
    /// An invalid id; content that cannot be serialised or exceeds [`MAX_CONTENT_BYTES`].
    pub fn at(
        ready_at: Timestamp,
        topic: &Topic,
        id: &str,
        content: &impl Serialize,
    ) -> Result<Self, Invalid> {
        let id = Name::new(id).map_err(|invalid| Invalid::new("id", invalid.reason))?;
        let content =
            serde_json::to_string(content).map_err(|error| Invalid::new("content", error.to_string()))?;
        if content.len() > MAX_CONTENT_BYTES {
            let reason = format!("has {} bytes; at most {MAX_CONTENT_BYTES} are allowed", content.len());
            return Err(Invalid::new("content", reason));
        }
        Ok(Self { topic: topic.clone(), id, ready_at, content })
    }

    /// Creates a job that is ready at once.
    ///
    /// # Errors
    /// See [`NewJob::at`].
    pub fn now(topic: &Topic, id: &str, content: &impl Serialize) -> Result<Self, Invalid> {
        Self::at(Timestamp::EPOCH, topic, id, content)
    }
}

/// The result of queueing a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The job was added.
    New(JobNumber),
    /// A job with this topic and id was already there; nothing was changed.
    Known(JobNumber),
}

/// A claimed job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The claim to settle.
    pub claim: Claim,
    /// The kind of job.
    pub topic: Topic,
    /// The job's id.
    pub id: Name,
    /// The number of this attempt, from 1. Postponed attempts do not count.
    pub attempt: u32,
    /// When the job was queued.
    pub put_at: Timestamp,
    pub(crate) content: String,
}

impl Job {
    /// Deserialises the content.
    ///
    /// # Errors
    /// If the content is not a `T`.
    pub fn content<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.content)
    }
}

/// Identifies one claim of a job. Each new claim of the job has a higher count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The claimed job.
    pub number: JobNumber,
    /// How often the job has been claimed, from 1.
    pub count: u32,
}

/// The result of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The queue's time of the claim.
    pub at: Timestamp,
    /// The claimed jobs.
    pub jobs: Vec<Job>,
    /// When the topic's first job is ready, or its lease ends; `None` if it has only dead letters.
    pub next: Option<Timestamp>,
}

/// The end of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The claim.
    pub claim: Claim,
    /// What to do with the job.
    pub verdict: Verdict,
}

/// What to do with a claimed job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The job is done: remove it.
    Done,
    /// The attempt failed: make the job ready again after `wait`.
    Retry {
        /// Delay from now.
        wait: Duration,
        /// The reason; the first 1,000 characters are kept.
        error: String,
    },
    /// The job was not attempted: make it ready again after `wait`, without counting an attempt.
    Postpone {
        /// Delay from now.
        wait: Duration,
    },
    /// The job cannot be done: make it a dead letter.
    Park {
        /// The reason; the first 1,000 characters are kept.
        error: String,
    },
}

/// A job that was parked because it could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The job's number.
    pub number: JobNumber,
    /// The kind of job.
    pub topic: Topic,
    /// The job's id.
    pub id: Name,
    /// The content, as JSON.
    pub content: String,
    /// How often the job was attempted since it was queued or replayed.
    pub attempts: u32,
    /// How often the job was claimed. Differs each time the job is parked.
    pub claims: u32,
    /// Why it was parked.
    pub error: String,
    /// When the job was queued.
    pub put_at: Timestamp,
    /// When it was parked.
    pub parked_at: Timestamp,
}

/// The number of jobs of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The topic.
    pub topic: Topic,
    /// Jobs that are ready, scheduled or claimed.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the first waiting job is ready; for a claimed job, when its lease ends.
    pub first_ready: Option<Timestamp>,
}

/// A job as a queue stores it. Its [`StoredJob::place`] decides which index lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredJob {
    pub(crate) topic: Topic,
    pub(crate) id: Name,
    content: String,
    put_at: Timestamp,
    attempts: u32,
    claims: u32,
    error: String,
    pub(crate) place: JobState,
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JobState {
    /// Waiting; ready from this time on.
    Ready(Timestamp),
    /// Claimed; ready again when the lease ends at this time.
    Held(Timestamp),
    /// A dead letter since this time.
    Dead(Timestamp),
}

impl StoredJob {
    pub(crate) fn new(job: NewJob, now: Timestamp) -> Self {
        Self {
            topic: job.topic,
            id: job.id,
            content: job.content,
            put_at: now,
            attempts: 0,
            claims: 0,
            error: String::new(),
            place: JobState::Ready(job.ready_at.max(now)),
        }
    }

    /// Claims the job until `until`.
    pub(crate) fn claim(&mut self, number: JobNumber, until: Timestamp) -> Job {
        self.attempts = self.attempts.saturating_add(1);
        self.claims = self.claims.saturating_add(1);
        self.place = JobState::Held(until);
        Job {
            claim: Claim { number, count: self.claims },
            topic: self.topic.clone(),
            id: self.id.clone(),
            attempt: self.attempts,
            put_at: self.put_at,
            content: self.content.clone(),
        }
    }

    /// Whether `claim` is the job's latest claim and not settled yet.
    pub(crate) fn is_claimed_by(&self, claim: Claim) -> bool {
        matches!(self.place, JobState::Held(_)) && self.claims == claim.count
    }

    /// Settles the latest claim; `false` if the job is done and has to be removed.
    pub(crate) fn settle(&mut self, verdict: Verdict, now: Timestamp) -> bool {
        match verdict {
            Verdict::Done => return false,
            Verdict::Retry { wait, error } => {
                self.error = cut(&error);
                self.place = JobState::Ready(now.after(wait));
            }
            Verdict::Postpone { wait } => {
                self.attempts = self.attempts.saturating_sub(1);
                self.place = JobState::Ready(now.after(wait));
            }
            Verdict::Park { error } => {
                self.error = cut(&error);
                self.place = JobState::Dead(now);
            }
        }
        true
    }

    /// Makes a dead letter ready again.
    pub(crate) fn replay(&mut self, now: Timestamp) {
        self.attempts = 0;
        self.place = JobState::Ready(now);
    }

    /// The job as a dead letter; `None` in other states.
    pub(crate) fn dead_letter(&self, number: JobNumber) -> Option<DeadLetter> {
        let JobState::Dead(parked_at) = self.place else { return None };
        Some(DeadLetter {
            number,
            topic: self.topic.clone(),
            id: self.id.clone(),
            content: self.content.clone(),
            attempts: self.attempts,
            claims: self.claims,
            error: self.error.clone(),
            put_at: self.put_at,
            parked_at,
        })
    }
}

fn cut(error: &str) -> String {
    error.chars().take(MAX_ERROR).collect()
}
