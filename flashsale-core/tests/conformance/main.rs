//! Runs the conformance suite on the specification, the embedded engine, two tiers and
//! the smaller stores.

mod catalogues;
mod clocks;
mod embedded;
mod journal_format;
mod leases;
mod money;
mod nodes;
mod queues;
mod row_ledger;
mod rows;
mod tiered;
mod wire;

use std::{sync::Arc, time::Instant};

use flashsale_core::conformance::{
    self, CatalogueFactory, Factory, Models, Options, Pair, QueueFactory, WorkerLeaseFactory, storms,
};

/// Multiplies the usual number of random sequences by `more`, for backends that are fast.
fn options(more: u32) -> Options {
    let options = Options::of_environment();
    Options {
        sequences: options.sequences * more,
        regressions: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/regressions.txt")),
        ..options
    }
}

#[test]
fn stored_values_are_read_or_refused() {
    for (rule, check) in wire::RULES {
        check().unwrap_or_else(|error| panic!("{rule}: {error}"));
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
fn four_nodes_over_rows_conform() {
    let factory: Arc<dyn Factory> = Arc::new(rows::FourNodes);
    conformance::run(&factory, &options(4));
}

#[test]
fn two_tiers_conform_when_settled() {
    settled(Arc::new(Models), &["events::", "random_sequences::"]);
}

#[test]
fn two_tiers_of_engines_conform_when_settled() {
    settled(Arc::new(embedded::InMemory), WITHOUT_TRANSITIONS);
}

#[test]
fn two_tiers_of_rows_conform_when_settled() {
    settled(Arc::new(rows::FourNodes), WITHOUT_TRANSITIONS);
}

/// Transitions are the truth's, and take two tiers a minute.
const WITHOUT_TRANSITIONS: &[&str] = &["events::", "random_sequences::", "transitions::"];

/// At a truth, taking an epoch is an event too, so positions and revisions differ from those of a single
/// ledger. Storms compare the tiers with each other instead.
fn settled(backend: Arc<dyn Factory>, except: &'static [&'static str]) {
    let factory: Arc<dyn Factory> = Arc::new(tiered::TwoTiers(backend));
    conformance::run(&factory, &Options { except, ..options(1) });
}

#[test]
fn storms_between_two_tiers_lose_nothing() {
    storms_lose_nothing(40, tiered::pair);
}

#[test]
fn storms_between_two_tiers_of_rows_lose_nothing() {
    storms_lose_nothing(10, rows::pair);
}

/// Storms are cheap: `more` for each random sequence of a usual run.
fn storms_lose_nothing(more: u32, pair: fn() -> Pair) {
    let began = Instant::now();
    match tiered::runtime().block_on(storms(&options(more), pair)) {
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

#[test]
fn worker_leases_in_memory_conform() {
    let factory: Arc<dyn WorkerLeaseFactory> = Arc::new(leases::InMemory);
    conformance::run_worker_lease(&factory, &options(20));
}

#[test]
fn worker_leases_in_files_conform() {
    let factory: Arc<dyn WorkerLeaseFactory> = Arc::new(leases::InFiles::new());
    conformance::run_worker_lease(&factory, &options(1));
}

#[test]
fn the_catalogue_in_memory_conforms() {
    let factory: Arc<dyn CatalogueFactory> = Arc::new(catalogues::InMemory);
    conformance::run_catalogue(&factory, &options(1));
}

#[test]
fn the_catalogue_in_a_file_conforms() {
    let factory: Arc<dyn CatalogueFactory> = Arc::new(catalogues::InFile::new());
    conformance::run_catalogue(&factory, &options(1));
}
