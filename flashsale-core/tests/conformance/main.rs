//! The conformance suite on the specification and on the embedded engine.

mod embedded;

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
