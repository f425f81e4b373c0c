//! The scenario file.

use serde::Deserialize;

use crate::Failure;

/// A sale, who comes to it, and the guards.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Of all random numbers.
    pub seed: u64,
    /// How long the sale lasts.
    pub minutes: u64,
    /// What is sold.
    pub offer: Offer,
    /// Persons.
    pub people: People,
    /// One person with many accounts.
    pub actor: Actor,
    /// Quotas and difficulties.
    pub guards: GuardNumbers,
}

/// What is sold.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Units.
    pub units: u32,
    /// How long an unpaid order holds its unit.
    pub hold_seconds: u64,
}

/// How somebody behaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// How many.
    pub count: u64,
    /// The share that comes from shared addresses.
    pub shared: f64,
    /// How many shared addresses there are.
    pub shared_addresses: u64,
    /// The age of the oldest account.
    pub oldest_days: u64,
    /// From the start until the last one comes.
    pub arrive_seconds: u64,
    /// The share that comes in the two minutes before the start.
    pub prepared: f64,
    /// One try of a proof of work.
    pub try_ms: u64,
    /// Reading a picture.
    pub read_ms: u64,
    /// The share of pictures that are read right.
    pub read_right: f64,
    /// How often somebody looks for units that come back.
    pub look_seconds: u64,
    /// For how long.
    pub patience_seconds: u64,
    /// The share that pays.
    pub pay: f64,
    /// Within which time.
    pub pay_seconds: u64,
}

/// One person with many accounts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Accounts.
    pub accounts: u64,
    /// Addresses.
    pub addresses: u64,
    /// The age of the oldest account.
    pub oldest_days: u64,
    /// Requests for challenges, from the first moment on.
    pub asks_per_second: u64,
    /// Processors for proofs of work.
    pub cores: usize,
    /// One try on one of them.
    pub try_ms: u64,
    /// Hired people who read pictures.
    pub readers: usize,
    /// How long one takes.
    pub read_ms: u64,
    /// The share that is read right.
    pub read_right: f64,
    /// How often an account looks for units that come back.
    pub look_seconds: u64,
    /// For how long.
    pub patience_seconds: u64,
    /// The share that is paid.
    pub pay: f64,
    /// Within which time.
    pub pay_seconds: u64,
}

/// Quotas and difficulties.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardNumbers {
    /// Tickets and challenges of a user.
    pub user_tickets: u32,
    /// The same from an address until it is busy.
    pub busy_address: u32,
    /// The span of both.
    pub tickets_seconds: u64,
    /// Failures that are told apart.
    pub failures: u32,
    /// Until they are forgotten.
    pub failures_seconds: u64,
    /// Zeros of a proof of work.
    pub digits: u32,
    /// Zeros of the one instead of a quiz.
    pub digits_instead_of_quiz: u32,
}

impl Scenario {
    /// The scenario that comes with the benches.
    ///
    /// # Errors
    /// If the file is not a scenario.
    pub fn read() -> Result<Self, Failure> {
        Ok(toml::from_str(include_str!("../../../scenarios/bots.toml"))?)
    }
}
