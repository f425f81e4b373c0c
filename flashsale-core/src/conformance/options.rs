//! Options of a run.

use std::time::Duration;

/// Which cases to run, and how much to try.
#[derive(Clone, Debug)]
pub struct Options {
    /// Random sequences per seed and scenario. Default 48.
    pub sequences: u32,
    /// Exclusive upper bound on the steps of a random sequence; exact for storms. Default 60.
    pub steps: usize,
    /// Number of seeds, starting at [`Options::seed`]. Default 2.
    pub seeds: u64,
    /// The first seed. Default 1, so runs are reproducible.
    pub seed: u64,
    /// Maximum number of concurrent buyers. Default 10,000.
    pub buyers: u32,
    /// Rounds of cases that run calls concurrently or drop futures. Default 4.
    pub rounds: u32,
    /// Runs only cases whose name contains this text. Default all.
    pub only: Option<String>,
    /// Skips cases whose name contains one of these texts; say why beside the list. Default none.
    pub except: &'static [&'static str],
    /// Timeout of one case; random sequences have none. Default 5 minutes.
    pub patience: Duration,
    /// Whether to stop after the first failure. Default `false`.
    pub stop_at_failure: bool,
    /// File with seeds of failed random sequences of ledgers, which run first. Default none.
    pub regressions: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sequences: 48,
            steps: 60,
            seeds: 2,
            seed: 1,
            buyers: 10_000,
            rounds: 4,
            only: None,
            except: &[],
            patience: Duration::from_secs(300),
            stop_at_failure: false,
            regressions: None,
        }
    }
}

impl Options {
    /// Reads overrides of the defaults from the environment: `FLASHSALE_TEST_SCALE` (1 to 1,000)
    /// multiplies sequences and rounds, and seeds by at most 10; `FLASHSALE_TEST_SEED` is the only
    /// seed; `FLASHSALE_TEST_CASE` is [`Options::only`]. Values that are not numbers are ignored.
    pub fn of_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let mut options = Self::default();
        if let Some(scale) = number("FLASHSALE_TEST_SCALE").map(|scale| scale.clamp(1, 1_000)) {
            options.sequences *= scale;
            options.seeds *= u64::from(scale.min(10));
            options.rounds *= scale;
        }
        if let Some(seed) = number("FLASHSALE_TEST_SEED") {
            options.seed = seed.into();
            options.seeds = 1;
        }
        options.only = std::env::var("FLASHSALE_TEST_CASE").ok().filter(|only| !only.is_empty());
        options
    }

    /// The smallest run that finds the seeded faults; stops at the first failure.
    pub fn quick() -> Self {
        Self {
            sequences: 12,
            steps: 40,
            seeds: 1,
            buyers: 200,
            rounds: 1,
            patience: Duration::from_secs(60),
            stop_at_failure: true,
            ..Self::default()
        }
    }
}
