//! The conformance suite on the specification and on the embedded engine.

mod embedded;
mod journal_format;
mod queues;
mod tiered;

use std::{sync::Arc, time::Instant};

use flashsale_core::conformance::{self, Factory, Models, Options, QueueFactory, storms};

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
fn two_tiers_conform_when_settled() {
    let factory: Arc<dyn Factory> = Arc::new(tiered::TwoTiers);
    // The truth numbers the taking of an epoch among its events, so positions and revisions are not those of a single
    // ledger; storms compare the tiers with each other.
    conformance::run(&factory, &Options { except: &["events::", "machine::"], ..options(1) });
}

/// Faults between the tiers: by invariants and allowed outcomes. 40 seeds for each of the others'.
#[test]
fn storms_between_two_tiers_lose_nothing() {
    let options = options(40);
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    match runtime.block_on(storms(&options, tiered::pair)) {
        Ok(weathered) => println!("storms: {weathered:?} in {:.1} s", began.elapsed().as_secs_f64()),
        Err(what) => panic!("{what}"),
    }
}

#[test]
fn the_queue_in_memory_conforms() {
    let factory: Arc<dyn QueueFactory> = Arc::new(queues::InMemory);
    conformance::run_queue(&factory, &options(20));
}

#[test]
fn the_queue_in_a_file_conforms() {
    let factory: Arc<dyn QueueFactory> = Arc::new(queues::InFile::new());
    conformance::run_queue(&factory, &options(1));
}
