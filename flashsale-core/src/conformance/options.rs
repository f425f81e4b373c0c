//! How much the suite tries.

use std::time::Duration;

/// How much the suite tries, and what of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Random sequences for each seed. Default 48.
    pub sequences: u32,
    /// The most steps of a random sequence. Default 60.
    pub steps: usize,
    /// How many seeds, from [`Options::seed`] on. Default 2.
    pub seeds: u64,
    /// The first seed. Default 1, so that two runs do the same.
    pub seed: u64,
    /// The most buyers of a race. Default 10,000.
    pub buyers: u32,
    /// Rounds of the cases that race or give up futures. Default 4.
    pub rounds: u32,
    /// Only cases whose name contains this. Default all.
    pub only: Option<String>,
    /// No cases whose name contains one of these; a reason belongs beside the list. Default none.
    pub except: &'static [&'static str],
    /// How long one case may take. Default 5 minutes.
    pub patience: Duration,
    /// Whether to stop after the first failure. Default no.
    pub stop_at_failure: bool,
    /// The file that keeps the seeds of failed random sequences, which are tried first. Default none.
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
    /// The defaults, changed by the environment of the test process: `FLASHSALE_TEST_SCALE` multiplies sequences, seeds
    /// and rounds, `FLASHSALE_TEST_SEED` is the first seed, `FLASHSALE_TEST_CASE` selects cases. Values that are no
    /// numbers are ignored.
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

    /// As little as still finds seeded faults: few buyers, few and short sequences, stop at the first failure.
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
