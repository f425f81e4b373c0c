//! `[guard]` and `[challenge]`: which rules stand in front of a sale, and what suspicious visitors have to solve.

use std::{num::NonZeroUsize, thread, time::Duration};

use flashsale_core::{
    admission::{Ladder, Mode},
    domain::Invalid,
};
use serde::{Deserialize, Serialize};

use crate::challenge::{ChallengeOptions, Difficulty};

/// Which rules are used, each `"off"`, `"observe"` (counts, refuses nobody) or `"on"`; table `[guard]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// `guard.user_orders`: the quota `rate.user_orders`. Default on.
    pub user_orders: Mode,
    /// `guard.address_orders`: the quota `rate.address_orders`. Default on.
    pub address_orders: Mode,
    /// `guard.user_tickets`: the quota `rate.user_tickets`. Default on.
    pub user_tickets: Mode,
    /// `guard.busy_address`: above `rate.busy_address` challenges are one step harder. Default on.
    pub busy_address: Mode,
    /// `guard.risk`: the risk of a visitor, 0 to 100, asks for a challenge. Default on.
    pub risk: Mode,
    /// `guard.proof_of_work_from`: the risk from which on a proof of work is asked for; 101 is never. Default 30.
    pub proof_of_work_from: u8,
    /// `guard.quiz_from`: the risk from which on a quiz is asked for. Default 60.
    pub quiz_from: u8,
    /// `guard.deny_from`: the risk from which on there are no tickets. Default 90.
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

    /// The thresholds.
    ///
    /// # Errors
    ///
    /// If they do not ascend.
    pub fn ladder(&self) -> Result<Ladder, Invalid> {
        Ladder::new(self.proof_of_work_from, self.quiz_from, self.deny_from)
    }

    /// Turns every rule to `mode`.
    pub fn set_all(&mut self, mode: Mode) {
        self.user_orders = mode;
        self.address_orders = mode;
        self.user_tickets = mode;
        self.busy_address = mode;
        self.risk = mode;
    }
}

/// What suspicious visitors have to solve; table `[challenge]`. A change makes challenges that are open worthless.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChallengeConfig {
    /// `challenge.cost`: N of scrypt, a power of two. A try needs 1 KiB times this, for the solver and once for the server.
    /// Default 4096.
    pub cost: u32,
    /// `challenge.digits`: zeros that a proof of work has to begin with; each makes it 16 times as long. Default 1, which
    /// is half a second in a browser on a desktop.
    pub digits: u8,
    /// `challenge.digits_instead_of_quiz`: the same for the one that may be done instead of a quiz. Default 2.
    pub digits_instead_of_quiz: u8,
    /// `challenge.lead_seconds`: how long before the start challenges are issued. Default 600.
    pub lead_seconds: u64,
    /// `challenge.lifetime_seconds`: how long a challenge holds, from the start of the sale if that is later. Default 300.
    pub lifetime_seconds: u64,
    /// `challenge.remembered`: tried challenges that are remembered until they expire, about 50 bytes each. Default 1048576.
    pub remembered: usize,
    /// `challenge.verifying`: solutions that are verified at the same time; more are answered `busy`; 0 means four for each
    /// core. Default 0.
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

/// r of scrypt, as in RFC 7914's examples; a try needs 128 · N · r bytes.
const MEMORY_COST: u32 = 8;

impl ChallengeConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "challenge.cost", self.cost, 16..=1 << 17);
        if !self.cost.is_power_of_two() {
            problems.push(format!("challenge.cost: {} is not a power of two", self.cost));
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

    /// `lead_seconds` as a span.
    pub fn lead(&self) -> Duration {
        Duration::from_secs(self.lead_seconds)
    }

    /// `lifetime_seconds` as a span.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_seconds)
    }

    /// How hard challenges are.
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
