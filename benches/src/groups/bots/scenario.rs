//! The scenario file.

use serde::Deserialize;

use crate::Failure;

/// A sale, its visitors and the guards.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The seed of all random numbers.
    pub seed: u64,
    /// The duration of the sale.
    pub minutes: u64,
    /// The offer.
    pub offer: Offer,
    /// Ordinary buyers, with one account each.
    pub people: People,
    /// One person with many accounts.
    pub actor: Actor,
    /// Quotas and difficulties of the guards.
    pub guards: GuardNumbers,
}

/// The offer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The number of units.
    pub units: u32,
    /// How long an unpaid order holds its unit.
    pub hold_seconds: u64,
}

/// The behaviour of ordinary buyers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// The number of people.
    pub count: u64,
    /// The fraction from shared addresses.
    pub shared: f64,
    /// The number of shared addresses.
    pub shared_addresses: u64,
    /// The maximum age of an account.
    pub oldest_days: u64,
    /// The time in which everyone arrives after the start.
    pub arrive_seconds: u64,
    /// The fraction that arrives in the two minutes before the start.
    pub prepared: f64,
    /// The time per try of a proof of work.
    pub try_ms: u64,
    /// The time to read a picture.
    pub read_ms: u64,
    /// The fraction of pictures read correctly.
    pub read_right: f64,
    /// How often a buyer without a unit looks for returned ones.
    pub look_seconds: u64,
    /// How long a buyer keeps looking after the start.
    pub patience_seconds: u64,
    /// The fraction of orders that are paid.
    pub pay: f64,
    /// The maximum time to payment.
    pub pay_seconds: u64,
}

/// One person with many accounts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The number of accounts.
    pub accounts: u64,
    /// The number of addresses.
    pub addresses: u64,
    /// The maximum age of an account.
    pub oldest_days: u64,
    /// Requests for challenges per second, as soon as they are issued.
    pub asks_per_second: u64,
    /// CPU cores for proofs of work.
    pub cores: usize,
    /// The time per try on one core.
    pub try_ms: u64,
    /// Hired people who read pictures.
    pub readers: usize,
    /// The time to read a picture.
    pub read_ms: u64,
    /// The fraction of pictures read correctly.
    pub read_right: f64,
    /// How often an account without a unit looks for returned ones.
    pub look_seconds: u64,
    /// How long an account keeps looking after the start.
    pub patience_seconds: u64,
    /// The fraction of orders that are paid.
    pub pay: f64,
    /// The maximum time to payment.
    pub pay_seconds: u64,
}

/// Quotas and difficulties of the guards.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardNumbers {
    /// Tickets and challenges per user.
    pub user_tickets: u32,
    /// Tickets and challenges per address before it counts as busy.
    pub busy_address: u32,
    /// The period of both quotas.
    pub tickets_seconds: u64,
    /// The most failed challenges per user that are counted.
    pub failures: u32,
    /// The time after which failures are forgotten.
    pub failures_seconds: u64,
    /// Leading zero digits of a proof of work.
    pub digits: u32,
    /// Leading zero digits of the proof of work that replaces a quiz.
    pub digits_instead_of_quiz: u32,
}

impl Scenario {
    /// Parses the built-in scenario.
    ///
    /// # Errors
    /// If the file is invalid.
    pub fn read() -> Result<Self, Failure> {
        Ok(toml::from_str(include_str!("../../../scenarios/bots.toml"))?)
    }
}
