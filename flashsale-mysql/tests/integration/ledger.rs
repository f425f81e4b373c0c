//! The conformance suite: several nodes on one database, as single and as truth.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use flashsale_core::{
    conformance::{self, Factory, LedgerUnderTest, Options, TestControl},
    domain::{ActivityId, SystemClock, Timestamp},
    ledger::{
        Answer, Bounds, Command, Lane, Ledger, LedgerError, LedgerRole, Query, Reply, rows::RowLedger,
        state_machine::Inspection,
    },
};
use flashsale_mysql::MySqlRows;

use crate::schemas::Schema;

/// How many nodes share the database. Each call goes to the next one.
const NODES: usize = 2;

struct MySql;

#[derive(Debug)]
struct Nodes {
    schema: Arc<Schema>,
    nodes: Vec<RowLedger<MySqlRows>>,
    calls: AtomicUsize,
}

impl Nodes {
    fn over(role: LedgerRole, schema: Arc<Schema>) -> LedgerUnderTest {
        let nodes = (0..NODES).map(|_| {
            let rows = Arc::new(MySqlRows::new(schema.database()));
            match role {
                LedgerRole::Truth => RowLedger::truth(rows, Arc::new(SystemClock)),
                _ => RowLedger::single(rows, Arc::new(SystemClock)),
            }
        });
        let nodes = Arc::new(Self { nodes: nodes.collect(), schema, calls: AtomicUsize::new(0) });
        LedgerUnderTest { ledger: Arc::clone(&nodes) as _, probe: nodes }
    }

    fn next(&self) -> &RowLedger<MySqlRows> {
        &self.nodes[self.calls.fetch_add(1, Ordering::Relaxed) % NODES]
    }
}

#[async_trait]
impl Factory for MySql {
    fn name(&self) -> String {
        format!("{NODES} nodes on one database")
    }

    fn roles(&self) -> Vec<LedgerRole> {
        vec![LedgerRole::Single, LedgerRole::Truth]
    }

    fn max_buckets(&self) -> u16 {
        64
    }

    async fn fresh(&self, role: LedgerRole) -> LedgerUnderTest {
        Nodes::over(role, Arc::new(Schema::empty().await))
    }
}

#[async_trait]
impl Ledger for Nodes {
    fn bounds(&self) -> Bounds {
        self.nodes[0].bounds()
    }

    fn role(&self) -> LedgerRole {
        self.nodes[0].role()
    }

    async fn step(&self, command: Command) -> Result<Answer, LedgerError> {
        self.next().step(command).await
    }

    async fn read(&self, query: Query) -> Result<Reply, LedgerError> {
        self.next().read(query).await
    }
}

#[async_trait]
impl TestControl for Nodes {
    async fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
        self.nodes[0].inspect(activity).await.expect("the server is running")
    }

    async fn advance_time(&self, lane: Lane, to: Timestamp) {
        // Fails if the lane is not open yet.
        let _ = self.nodes[0].advance_time(lane, to).await;
    }

    async fn settle(&self) {}

    async fn restart(&self) -> Option<LedgerUnderTest> {
        Some(Self::over(self.role(), Arc::clone(&self.schema)))
    }
}

/// Take tens of thousands of steps, about four minutes for both roles, so they run with `--long` only.
const LONG: [&str; 2] = ["transitions::any_two_steps", "transitions::two_steps_in_one_batch"];

#[test]
fn the_ledger_conforms() {
    let factory: Arc<dyn Factory> = Arc::new(MySql);
    let options = Options { buyers: 1_000, ..Options::of_environment() };
    let options = match flashsale_testkit::scale() {
        1 => Options { buyers: 200, sequences: options.sequences / 4, seeds: 1, except: &LONG, ..options },
        _ => options,
    };
    conformance::run(&factory, &options);
}
