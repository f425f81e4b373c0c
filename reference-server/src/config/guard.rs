//! `[guard]` and `[challenge]`: protection rules, and challenges for suspicious visitors.

use std::{num::NonZeroUsize, thread, time::Duration};

use flashsale_core::{
    admission::{Ladder, Mode},
    domain::Invalid,
};
use serde::{Deserialize, Serialize};

use crate::challenge::{ChallengeOptions, Difficulty};

/// Protection rules; table `[guard]`. Each is `"off"`, `"on"` or `"observe"` (only counts).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// `guard.user_orders`: enforce `rate.user_orders`. Default on.
    pub user_orders: Mode,
    /// `guard.address_orders`: enforce `rate.address_orders`. Default on.
    pub address_orders: Mode,
    /// `guard.user_tickets`: enforce `rate.user_tickets`. Default on.
    pub user_tickets: Mode,
    /// `guard.busy_address`: make challenges one step harder above `rate.busy_address`. Default on.
    pub busy_address: Mode,
    /// `guard.risk`: require challenges by the visitor's risk score, 0 to 100. Default on.
    pub risk: Mode,
    /// `guard.proof_of_work_from`: lowest risk for a proof of work; 101 is never. Default 30.
    pub proof_of_work_from: u8,
    /// `guard.quiz_from`: lowest risk for a quiz. Default 60.
    pub quiz_from: u8,
    /// `guard.deny_from`: lowest risk that gets no ticket. Default 90.
    pub deny_from: u8,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            user_orders: Mode::On,
            address_orders: Mode::On,
            user_tickets: Mode::On,
            busy_address: Mode::On,
            risk: Mode::On,
            proof_of_work_from: 30,
            quiz_from: 60,
            deny_from: 90,
        }
    }
}

impl GuardConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if let Err(error) = self.ladder() {
            problems.push(format!("guard.proof_of_work_from, quiz_from, deny_from: {}", error.reason));
        }
    }

    /// Converts the risk thresholds to the ladder of the library.
    ///
    /// # Errors
    /// If the thresholds do not ascend.
    pub fn ladder(&self) -> Result<Ladder, Invalid> {
        Ladder::new(self.proof_of_work_from, self.quiz_from, self.deny_from)
    }

    /// Sets every rule to `mode`.
    pub fn set_all(&mut self, mode: Mode) {
        self.user_orders = mode;
        self.address_orders = mode;
        self.user_tickets = mode;
        self.busy_address = mode;
        self.risk = mode;
    }
}

/// Challenges for suspicious visitors; table `[challenge]`. A new difficulty voids open ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChallengeConfig {
    /// `challenge.cost`: scrypt parameter N, a power of two from 16 to 131072. Each hash needs
    /// `cost` KiB of memory, for every try of the solver and once on the server. Default 4096.
    pub cost: u32,
    /// `challenge.digits`: leading hexadecimal zeros of a proof of work, 0 to 4; each takes 16
    /// times as long. Default 1, about half a second in a desktop browser.
    pub digits: u8,
    /// `challenge.digits_instead_of_quiz`: the same when it replaces a quiz. Default 2.
    pub digits_instead_of_quiz: u8,
    /// `challenge.lead_seconds`: how long before the sale challenges are issued. Default 600.
    pub lead_seconds: u64,
    /// `challenge.lifetime_seconds`: validity from issue or sale start, the later one. Default 300.
    pub lifetime_seconds: u64,
    /// `challenge.remembered`: used challenges tracked, about 50 bytes each. Default 1048576.
    pub remembered: usize,
    /// `challenge.verifying`: concurrent verifications, else `busy`; 0 is 4 per core. Default 0.
    pub verifying: usize,
}

impl Default for ChallengeConfig {
    fn default() -> Self {
        Self {
            cost: 4_096,
            digits: 1,
            digits_instead_of_quiz: 2,
            lead_seconds: 600,
            lifetime_seconds: 300,
            remembered: 1 << 20,
            verifying: 0,
        }
    }
}

/// scrypt parameter r, as in the examples of RFC 7914. A hash needs 128 · N · r bytes.
const MEMORY_COST: u32 = 8;

impl ChallengeConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "challenge.cost", self.cost, 16..=1 << 17);
        if !self.cost.is_power_of_two() {
            problems.push(format!("challenge.cost: {} is not a power of two, such as 4096", self.cost));
        }
        super::range::within(problems, "challenge.digits", self.digits, 0..=4);
        super::range::within(
            problems,
            "challenge.digits_instead_of_quiz",
            self.digits_instead_of_quiz,
            0..=4,
        );
        super::range::within(problems, "challenge.lead_seconds", self.lead_seconds, 0..=86_400);
        super::range::within(problems, "challenge.lifetime_seconds", self.lifetime_seconds, 10..=86_400);
        super::range::within(problems, "challenge.remembered", self.remembered, 1..=1 << 26);
        super::range::within(problems, "challenge.verifying", self.verifying, 0..=1_024);
    }

    /// Returns `lead_seconds` as a duration.
    pub fn lead(&self) -> Duration {
        Duration::from_secs(self.lead_seconds)
    }

    /// Returns `lifetime_seconds` as a duration.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_seconds)
    }

    /// Converts to the options of the challenge module.
    pub fn options(&self) -> ChallengeOptions {
        let difficulty = |digits| Difficulty { cost: self.cost, memory_cost: MEMORY_COST, digits };
        let per_core = 4 * thread::available_parallelism().map_or(1, NonZeroUsize::get);
        ChallengeOptions {
            usual: difficulty(self.digits),
            instead_of_quiz: difficulty(self.digits_instead_of_quiz),
            spent: NonZeroUsize::new(self.remembered).unwrap_or(NonZeroUsize::MIN),
            verifying: NonZeroUsize::new(self.verifying)
                .or(NonZeroUsize::new(per_core))
                .unwrap_or(NonZeroUsize::MIN),
        }
    }
}
