//! The conformance suite on the specification and on the embedded engine.

mod embedded;
mod faults;

use std::sync::Arc;

use flashsale_core::conformance::{self, Factory, Models, Options};

/// `more` times as many random sequences as usual, where they cost little.
fn options(more: u32) -> Options {
    let options = Options::of_environment();
    Options {
        sequences: options.sequences * more,
        regressions: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/regressions.txt")),
        ..options
    }
}

#[test]
fn the_specification_conforms() {
    let factory: Arc<dyn Factory> = Arc::new(Models);
    conformance::run(&factory, &options(20));
}

#[test]
fn the_engine_in_memory_conforms() {
    let factory: Arc<dyn Factory> = Arc::new(embedded::InMemory);
    conformance::run(&factory, &options(10));
}

#[test]
fn the_engine_with_a_journal_conforms() {
    let factory: Arc<dyn Factory> = Arc::new(embedded::Journalled::new());
    conformance::run(&factory, &options(1));
}

#[test]
fn two_tiers_recover_from_faults() {
    let options = Options::of_environment();
    let runtime = tokio::runtime::Runtime::new().expect("there are threads");
    let began = std::time::Instant::now();
    let seeds = u64::from(options.sequences) * 4;
    let steps = 150;
    for seed in (options.seed..).take(usize::try_from(seeds).expect("is a count")) {
        if let Err(failure) = runtime.block_on(faults::play(seed, steps)) {
            panic!("{failure}\n  again: FLASHSALE_TEST_SEED={seed}");
        }
    }
    println!(
        "two tiers under faults: {seeds} seeds, {steps} steps each, {:.1} s",
        began.elapsed().as_secs_f64()
    );
}
