//! Challenges: issuing them, and verifying solutions.
//!
//! A verification costs milliseconds of CPU time. It runs on the blocking threads of the background
//! runtime, a bounded number at once, so that buyers do not wait behind it.

mod keyed_random;
mod picture;
mod proof_of_work;
mod quiz;

use std::{num::NonZeroUsize, sync::Arc};

use flashsale_core::{
    admission::{
        Challenge, ChallengeError, ChallengeKeys, Exercise, IssuedChallenge, SpendResult, SpentChallenges,
        Step,
    },
    domain::{ActivityId, SkuId, Timestamp, UserId},
};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::Semaphore};

pub use proof_of_work::{Difficulty, Found, Work};
pub use quiz::{Quiz, answer};

use crate::rfc3339::Rfc3339;

/// Issues challenges and verifies their solutions.
#[derive(Debug)]
pub struct Challenges {
    keys: ChallengeKeys,
    spent: SpentChallenges,
    usual: Difficulty,
    instead_of_quiz: Difficulty,
    verifying: Arc<Semaphore>,
    background: Handle,
}

/// Difficulty and resource bounds of challenges.
#[derive(Clone, Copy, Debug)]
pub struct ChallengeOptions {
    /// The difficulty of a proof of work.
    pub usual: Difficulty,
    /// The difficulty of a proof of work that replaces a quiz.
    pub instead_of_quiz: Difficulty,
    /// How many tried challenges are remembered until they expire.
    pub spent: NonZeroUsize,
    /// How many solutions are verified at the same time.
    pub verifying: NonZeroUsize,
}

/// A challenge as a client sees it.
#[derive(Debug, Serialize)]
pub struct ShownChallenge {
    challenge_id: String,
    kind: &'static str,
    /// The picture of a quiz.
    #[serde(skip_serializing_if = "Option::is_none")]
    quiz: Option<Quiz>,
    /// The proof of work; with a quiz, the alternative for people who cannot see the picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof_of_work: Option<Work>,
    expires_at: Rfc3339,
}

/// A solution: `text` for a quiz, or `counter` and `derived_key` for a proof of work.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Solution {
    /// What the picture shows.
    pub text: Option<String>,
    /// The counter.
    pub counter: Option<u32>,
    /// The derived key, 64 hexadecimal digits in lower case.
    pub derived_key: Option<String>,
}

/// Why a solution was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsolved {
    /// The challenge is invalid.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    /// The challenge is easier than what is required now.
    #[error("a harder challenge is required now: request a new one")]
    TooEasy,
    /// The challenge was tried before.
    #[error("each challenge can be tried once: request a new one")]
    Spent,
    /// The solution is wrong.
    #[error("the solution is wrong: request a new challenge")]
    Wrong,
    /// Not checked: too many solutions are being verified, or too many challenges remembered.
    #[error("too many solutions at once: try again")]
    Busy,
}

impl Challenges {
    /// Creates challenges that are signed with these keys and verified on `background`.
    pub fn new(keys: ChallengeKeys, options: &ChallengeOptions, background: Handle) -> Self {
        Self {
            keys,
            spent: SpentChallenges::new(options.spent),
            usual: options.usual,
            instead_of_quiz: options.instead_of_quiz,
            verifying: Arc::new(Semaphore::new(options.verifying.get().min(Semaphore::MAX_PERMITS))),
            background,
        }
    }

    /// Issues a challenge for a step that is not a denial.
    ///
    /// # Errors
    /// If the system has no randomness, or a picture cannot be encoded.
    pub fn issue(
        &self,
        step: Step,
        activity: ActivityId,
        sku: SkuId,
        user: UserId,
        expires_at: Timestamp,
    ) -> Result<ShownChallenge, Box<dyn std::error::Error + Send + Sync>> {
        let exercise = exercise(step);
        let issued = self.keys.issue(activity, sku, user, exercise, expires_at);
        let IssuedChallenge { text, challenge } = issued.map_err(|error| error.to_string())?;
        let quiz = (exercise == Exercise::Quiz).then(|| Quiz::of(&challenge)).transpose()?;
        let proof_of_work =
            (exercise != Exercise::None).then(|| Work::of(&challenge, self.difficulty(exercise)));
        let kind = exercise.as_str();
        Ok(ShownChallenge { challenge_id: text, kind, quiz, proof_of_work, expires_at: expires_at.into() })
    }

    /// Verifies a solution. Checking it spends the challenge, whether it is right or wrong.
    ///
    /// # Errors
    /// [`Unsolved`].
    pub async fn solved(
        &self,
        text: &str,
        solution: Solution,
        step: Step,
        offer: (ActivityId, SkuId),
        user: UserId,
        now: Timestamp,
    ) -> Result<(), Unsolved> {
        let challenge = self.keys.verify(text, offer.0, offer.1, user, now)?;
        if challenge.exercise < exercise(step) {
            return Err(Unsolved::TooEasy);
        }
        // Acquire a permit before spending the challenge, so that after `Busy` it can be tried again.
        let permit = Arc::clone(&self.verifying).try_acquire_owned().map_err(|_| Unsolved::Busy)?;
        match self.spent.spend(challenge.seed, challenge.expires_at, now) {
            SpendResult::First => {}
            SpendResult::Again => return Err(Unsolved::Spent),
            SpendResult::Full => return Err(Unsolved::Busy),
        }
        let difficulty = self.difficulty(challenge.exercise);
        let verifying = self.background.spawn_blocking(move || {
            let _permit = permit;
            is_solved(&challenge, solution, difficulty)
        });
        match verifying.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Unsolved::Wrong),
        }
    }

    fn difficulty(&self, exercise: Exercise) -> Difficulty {
        if exercise == Exercise::Quiz { self.instead_of_quiz } else { self.usual }
    }
}

fn exercise(step: Step) -> Exercise {
    match step {
        Step::None => Exercise::None,
        Step::ProofOfWork => Exercise::ProofOfWork,
        Step::Quiz | Step::Deny => Exercise::Quiz,
    }
}

fn is_solved(challenge: &Challenge, solution: Solution, difficulty: Difficulty) -> bool {
    match (challenge.exercise, solution) {
        (Exercise::None, _) => true,
        (Exercise::Quiz, Solution { text: Some(text), counter: None, derived_key: None }) => {
            quiz::is_read(challenge, &text)
        }
        (_, Solution { text: None, counter: Some(counter), derived_key: Some(derived_key) }) => {
            Work::of(challenge, difficulty).is_done(&Found { counter, derived_key })
        }
        _ => false,
    }
}
