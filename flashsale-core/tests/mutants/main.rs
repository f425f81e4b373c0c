//! Seeded faults: the conformance suite must catch each one-line fault in ledger, engine and the
//! smaller stores, and the rules of steered clocks those in a clock.

#[path = "../conformance/catalogues.rs"]
mod catalogues;
#[path = "../conformance/clocks.rs"]
mod clocks;
#[path = "../conformance/embedded.rs"]
mod embedded;
#[path = "../conformance/leases.rs"]
mod leases;
#[path = "../conformance/queues.rs"]
mod queues;
#[path = "../conformance/rows.rs"]
#[allow(dead_code, reason = "the suite itself does not run on two tiers here")]
mod rows;
#[path = "../conformance/tiered.rs"]
#[allow(dead_code, reason = "the suite itself does not run on two tiers here")]
mod tiered;
#[path = "../conformance/wire.rs"]
mod wire;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Instant};

use flashsale_core::{
    conformance::{
        self, CatalogueFactory, Factory, Options, QueueFactory, Report, WorkerLeaseFactory, storms,
    },
    mutants,
};

/// Returns the name of every `mutant!` in the sources, and whether it is in the embedded engine.
fn seeded() -> BTreeMap<String, bool> {
    let mut names = BTreeMap::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    names
}

fn collect(path: &Path, names: &mut BTreeMap<String, bool>) {
    let in_engine = path.ends_with("embedded/ledger");
    for entry in fs::read_dir(path).expect("failed to read the sources") {
        let path = entry.expect("failed to read the sources").path();
        if path.is_dir() {
            collect(&path, names);
            continue;
        }
        let text = fs::read_to_string(&path).expect("failed to read a source file");
        for rest in text.split("mutant!(\"").skip(1) {
            names.extend(rest.split('"').next().map(|name| (name.to_owned(), in_engine)));
        }
    }
}

fn first_failure(report: &Report) -> Option<String> {
    let failed = report.failures().next()?;
    Some(format!("{} in {} steps", failed.case, failed.steps))
}

/// A rule and its check.
type Rule = (&'static str, fn() -> Result<(), String>);

/// Checks the rules of a list.
fn first_broken_rule(of: &str, rules: &[Rule]) -> Option<String> {
    let broken = rules.iter().find(|(_, check)| check().is_err());
    broken.map(|(name, _)| format!("{of}, {name}"))
}

/// Runs storms: seeded faults between two tiers show only when messages or content are lost.
fn first_storm_failure() -> Option<String> {
    let runtime = tiered::runtime();
    let options = Options { sequences: 3_000, steps: 60, ..Options::quick() };
    let failure = runtime.block_on(storms(&options, tiered::pair)).err()?;
    failure.lines().next().map(|line| format!("storms, {line}"))
}

#[test]
fn every_seeded_fault_is_caught() {
    let only = std::env::var("FLASHSALE_TEST_MUTANT").ok();
    let in_memory: Arc<dyn Factory> = Arc::new(embedded::InMemory);
    let journalled: Arc<dyn Factory> = Arc::new(embedded::Journalled::new());
    let rows: Arc<dyn Factory> = Arc::new(rows::FourNodes);
    let queue: Arc<dyn QueueFactory> = Arc::new(queues::InFile::new());
    let leases: Arc<dyn WorkerLeaseFactory> = Arc::new(leases::InFiles::new());
    let catalogue: Arc<dyn CatalogueFactory> = Arc::new(catalogues::InMemory);
    let suite = |subject| first_failure(&conformance::examine(subject, &Options::quick()));
    let seeded: Vec<_> =
        seeded().into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)).collect();
    let mut survivors = Vec::new();
    let mut lines = Vec::new();
    for (name, in_engine) in &seeded {
        let began = Instant::now();
        mutants::activate(Some(name));
        let caught = if name.starts_with("clock-") {
            first_broken_rule("clocks", clocks::RULES)
        } else if name.starts_with("wire-") {
            first_broken_rule("wire", wire::RULES)
        } else if name.starts_with("queue-") {
            first_failure(&conformance::examine_queue(&queue, &Options::quick()))
        } else if name.starts_with("lease-") {
            first_failure(&conformance::examine_worker_lease(&leases, &Options::quick()))
        } else if name.starts_with("catalogue-") {
            first_failure(&conformance::examine_catalogue(&catalogue, &Options::quick()))
        } else if name.starts_with("row-") {
            suite(&rows)
        } else if *in_engine {
            // Without a journal there is nothing to get wrong.
            suite(&journalled)
        } else {
            suite(&in_memory).or_else(first_storm_failure).or_else(|| suite(&journalled))
        };
        mutants::activate(None);
        let took = began.elapsed().as_secs_f64();
        lines.push(match &caught {
            Some(case) => format!("caught    {name:30} by {case}, {took:.1} s"),
            None => format!("SURVIVED  {name:30} {took:.1} s"),
        });
        if caught.is_none() {
            survivors.push(name);
        }
    }
    lines.iter().for_each(|line| println!("{line}"));
    println!("mutants: {}/{} caught", seeded.len() - survivors.len(), seeded.len());
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
    assert!(only.is_some() || seeded.len() >= 12, "found only {} seeded faults", seeded.len());
}
