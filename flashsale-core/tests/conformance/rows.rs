//! A factory of ledgers on rows: four nodes over one store of maps.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use flashsale_core::{
    conformance::{Factory, LedgerUnderTest, MapRows, TestControl},
    domain::{ActivityId, SystemClock, Timestamp},
    ledger::{
        Answer, Bounds, Command, Lane, Ledger, LedgerError, LedgerRole, Query, Reply, rows::RowLedger,
        state_machine::Inspection,
    },
};

/// Makes [`Nodes`].
pub(crate) struct FourNodes;

/// Several ledgers over one store. Each call goes to the next one.
#[derive(Debug)]
struct Nodes {
    nodes: Vec<RowLedger<MapRows>>,
    calls: AtomicUsize,
}

impl Nodes {
    fn next(&self) -> &RowLedger<MapRows> {
        &self.nodes[self.calls.fetch_add(1, Ordering::Relaxed) % self.nodes.len()]
    }
}

#[async_trait]
impl Factory for FourNodes {
    fn name(&self) -> String {
        "four nodes over rows in maps".to_owned()
    }

    fn roles(&self) -> Vec<LedgerRole> {
        vec![LedgerRole::Single, LedgerRole::Truth]
    }

    fn max_buckets(&self) -> u16 {
        64
    }

    async fn fresh(&self, role: LedgerRole) -> LedgerUnderTest {
        let rows = Arc::new(MapRows::default());
        let node = |_| match role {
            LedgerRole::Truth => RowLedger::truth(Arc::clone(&rows), Arc::new(SystemClock)),
            _ => RowLedger::single(Arc::clone(&rows), Arc::new(SystemClock)),
        };
        let nodes = Arc::new(Nodes { nodes: (0..4).map(node).collect(), calls: AtomicUsize::new(0) });
        LedgerUnderTest { ledger: Arc::clone(&nodes) as _, probe: nodes }
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
        self.next().inspect(activity).await.expect("the store is in memory")
    }

    async fn advance_time(&self, lane: Lane, to: Timestamp) {
        // Fails if the lane is not open yet.
        let _ = self.next().advance_time(lane, to).await;
    }

    async fn settle(&self) {}

    async fn restart(&self) -> Option<LedgerUnderTest> {
        None
    }
}
