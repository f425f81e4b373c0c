//! Challenges of the server: what is shown, and whether it was solved.
//!
//! Solutions are verified on the background runtime's blocking threads, a bounded number at once: each costs
//! milliseconds of processor time, and buyers must not wait behind them.

mod dice;
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

/// What the challenges of a server are made of.
#[derive(Debug)]
pub struct Challenges {
    keys: ChallengeKeys,
    spent: SpentChallenges,
    usual: Difficulty,
    instead_of_quiz: Difficulty,
    verifying: Arc<Semaphore>,
    background: Handle,
}

/// How hard challenges are, and how much is spent on them.
#[derive(Clone, Copy, Debug)]
pub struct ChallengeOptions {
    /// A proof of work.
    pub usual: Difficulty,
    /// One that may be done instead of a quiz.
    pub instead_of_quiz: Difficulty,
    /// Tried challenges that are remembered until they expire.
    pub spent: NonZeroUsize,
    /// Solutions that are verified at the same time.
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
    /// The work of a proof of work; with a quiz: what may be done instead, for whoever cannot see the picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof_of_work: Option<Work>,
    expires_at: Rfc3339,
}

/// What a client found: `text` of a quiz, or `counter` and `derived_key` of a proof of work.
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

/// Why a solution does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsolved {
    /// The challenge itself.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    /// It is easier than what is asked for by now.
    #[error("a harder challenge is asked for by now: ask for a new one")]
    TooEasy,
    /// It was tried before.
    #[error("each challenge can be tried once: ask for a new one")]
    Spent,
    /// It is wrong.
    #[error("the solution is wrong: ask for a new challenge")]
    Wrong,
    /// Nothing was looked at, because too many solutions are being verified or remembered.
    #[error("too many solutions come in at once: try again")]
    Busy,
}

impl Challenges {
    /// Challenges that are signed with these keys.
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

    /// A new challenge for a step that is not a denial.
    ///
    /// # Errors
    /// If the system has no randomness, or a picture cannot be written.
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

    /// Whether somebody solved what `step` asks for. A challenge is spent by this, right or wrong.
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
        // Before it is spent: what was not looked at can be tried again.
        let place = Arc::clone(&self.verifying).try_acquire_owned().map_err(|_| Unsolved::Busy)?;
        match self.spent.spend(challenge.seed, challenge.expires_at, now) {
            SpendResult::First => {}
            SpendResult::Again => return Err(Unsolved::Spent),
            SpendResult::Full => return Err(Unsolved::Busy),
        }
        let difficulty = self.difficulty(challenge.exercise);
        let verifying = self.background.spawn_blocking(move || {
            let _place = place;
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
