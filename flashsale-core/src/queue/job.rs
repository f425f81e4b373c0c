//! Jobs, and what becomes of them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::domain::{Invalid, Name, Timestamp, text::Bounded};

/// The most jobs, claims or dead letters of one call.
pub const MAX_BATCH: usize = 1_000;

/// What kind of jobs: 1 to 64 characters, such as `refunds`.
pub type Topic = Bounded<64>;

/// The most bytes that a job's content may have as JSON: 64 KiB.
pub const MAX_CONTENT_BYTES: usize = 64 << 10;

/// The most characters of an error that are kept with a job.
const MAX_ERROR: usize = 1_000;

/// The number that a queue gives a job when it is put in. Later jobs have higher ones, and none is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobNumber(pub u64);

impl fmt::Display for JobNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job to be put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// Its kind.
    pub topic: Topic,
    /// What makes it the same job when it is put in again: 1 to 120 characters, such as `refund/sandbox/tx-7`.
    pub id: Name,
    /// When it is ready; a moment that has passed means now.
    pub ready_at: Timestamp,
    pub(crate) content: String,
}

impl NewJob {
    /// A job that is ready at a moment.
    ///
    /// # Errors
    /// The id is no name; the content cannot be written as JSON or has more than [`MAX_CONTENT_BYTES`].
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
            let reason = format!("has {} bytes, at most {MAX_CONTENT_BYTES} are allowed", content.len());
            return Err(Invalid::new("content", reason));
        }
        Ok(Self { topic: topic.clone(), id, ready_at, content })
    }

    /// A job that is ready at once.
    ///
    /// # Errors
    /// As [`NewJob::at`].
    pub fn now(topic: &Topic, id: &str, content: &impl Serialize) -> Result<Self, Invalid> {
        Self::at(Timestamp::EPOCH, topic, id, content)
    }
}

/// What became of a job that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is a new one.
    New(JobNumber),
    /// It was there already.
    Known(JobNumber),
}

/// A job that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What to settle it with.
    pub claim: Claim,
    /// Its kind.
    pub topic: Topic,
    /// Its id.
    pub id: Name,
    /// The number of this attempt, from 1; those that were postponed do not count.
    pub attempt: u32,
    /// When it was put in.
    pub put_at: Timestamp,
    pub(crate) content: String,
}

impl Job {
    /// What it is about.
    ///
    /// # Errors
    /// If it is not what the caller thinks it is.
    pub fn content<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.content)
    }
}

/// One handing out of a job. A later one has another claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The job.
    pub number: JobNumber,
    /// How often it has been handed out.
    pub count: u32,
}

/// What was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The time at which the queue decided.
    pub at: Timestamp,
    /// The jobs.
    pub jobs: Vec<Job>,
    /// When the next job of the topic is ready, a lease that may end included; `None` if there is no other.
    pub next: Option<Timestamp>,
}

/// How a claim ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The claim.
    pub claim: Claim,
    /// How it ends.
    pub verdict: Verdict,
}

/// What becomes of a job that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done, and gone.
    Done,
    /// It was tried and failed: it is ready again after `wait`, for the next attempt.
    Retry {
        /// From now.
        wait: Duration,
        /// Why; the first 1,000 characters are kept.
        error: String,
    },
    /// It was not tried: it is ready again after `wait`, and this was no attempt.
    Postpone {
        /// From now.
        wait: Duration,
    },
    /// It cannot be done: it becomes a dead letter.
    Park {
        /// Why; the first 1,000 characters are kept.
        error: String,
    },
}

/// A job that was parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number.
    pub number: JobNumber,
    /// Its kind.
    pub topic: Topic,
    /// Its id.
    pub id: Name,
    /// What it is about, as JSON.
    pub content: String,
    /// How often it was tried.
    pub attempts: u32,
    /// How often it was handed out; another number each time that it is parked.
    pub claims: u32,
    /// Why it was parked.
    pub error: String,
    /// When it was put in.
    pub put_at: Timestamp,
    /// When it was parked.
    pub parked_at: Timestamp,
}

/// How much there is of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The topic.
    pub topic: Topic,
    /// Jobs that wait or are being done.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the first of the waiting ones is or was ready; for one that is being done, when its lease ends.
    pub first_ready: Option<Timestamp>,
}

/// A job as a queue keeps it, and how it changes. Where it stands in the queue's indices follows from [`StoredJob::place`].
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

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JobState {
    /// Among those that wait, ready from a moment on.
    Ready(Timestamp),
    /// Among those that wait too, because it is ready again when the lease of who has it ends.
    Held(Timestamp),
    /// Among the dead letters, since a moment.
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

    /// Hands it out until `until`.
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

    /// Whether a claim is the last one, and still to be settled.
    pub(crate) fn is_claimed_by(&self, claim: Claim) -> bool {
        matches!(self.place, JobState::Held(_)) && self.claims == claim.count
    }

    /// Settles its claim; `false` if it is gone.
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

    /// Makes it a job again.
    pub(crate) fn replay(&mut self, now: Timestamp) {
        self.attempts = 0;
        self.place = JobState::Ready(now);
    }

    /// As a dead letter, if it is one.
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
