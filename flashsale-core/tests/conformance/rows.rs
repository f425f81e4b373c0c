//! Ledgers on rows: several nodes over one store of maps.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use flashsale_core::{
    conformance::{Factory, Faults, Faulty, ForgettingStore, LedgerUnderTest, MapRows, Pair, TestControl},
    domain::{ActivityId, Clock, ManualClock, SystemClock, Timestamp},
    ledger::{
        Answer, Bounds, Command, Lane, Ledger, LedgerCalls as _, LedgerError, LedgerRole, Query, Reply,
        rows::{RowLedger, Rows},
        state_machine::Inspection,
    },
};

const NODES: usize = 4;

/// Makes [`Nodes`].
pub(crate) struct FourNodes;

/// Several ledgers over one store. Each call goes to the next one.
#[derive(Debug)]
struct Nodes {
    rows: Arc<MapRows>,
    /// The clock of the nodes, unless it is the system's.
    clock: Option<Arc<ManualClock>>,
    nodes: Vec<RowLedger<Faulty<MapRows>>>,
    calls: AtomicUsize,
    forgotten: AtomicUsize,
    /// Sees the store without faults.
    probe: RowLedger<MapRows>,
}

impl Nodes {
    fn new(role: LedgerRole, faults: &Arc<Faults>, manual: Option<Arc<ManualClock>>) -> Arc<Self> {
        let rows = Arc::new(MapRows::default());
        let clock: Arc<dyn Clock> = match &manual {
            Some(manual) => Arc::clone(manual) as _,
            None => Arc::new(SystemClock),
        };
        let faulty = Faulty::new(Arc::clone(&rows), Arc::clone(faults));
        let nodes = (0..NODES).map(|_| ledger(role, Arc::clone(&faulty), Arc::clone(&clock))).collect();
        let probe = ledger(role, Arc::clone(&rows), clock);
        Arc::new(Self {
            rows,
            clock: manual,
            nodes,
            calls: AtomicUsize::new(0),
            forgotten: AtomicUsize::new(0),
            probe,
        })
    }

    /// Loses what is not in a copy: of all lanes or of one, as shards do that fail by themselves.
    fn forget(&self, copy: &MapRows) {
        let bucket = self.forgotten.fetch_add(1, Ordering::Relaxed) % 6;
        self.rows.replace(copy, |lane| bucket > 2 || usize::from(lane.bucket) == bucket);
    }

    fn next(&self) -> &RowLedger<Faulty<MapRows>> {
        &self.nodes[self.calls.fetch_add(1, Ordering::Relaxed) % self.nodes.len()]
    }
}

fn ledger<R: Rows>(role: LedgerRole, rows: Arc<R>, clock: Arc<dyn Clock>) -> RowLedger<R> {
    match role {
        LedgerRole::Single => RowLedger::single(rows, clock),
        LedgerRole::Gate => RowLedger::gate(rows, clock),
        LedgerRole::Truth => RowLedger::truth(rows, clock),
    }
}

/// Makes two empty ledgers on rows for a storm, whose faults reach between the ledgers and their rows. Their
/// clocks move only by [`TestControl::advance_time`], so that a lane that is lost and loaded again is not
/// set back.
pub(crate) fn pair() -> Pair {
    let faults = Faults::new(0);
    let [gate, truth] = [LedgerRole::Gate, LedgerRole::Truth]
        .map(|role| Nodes::new(role, &faults, Some(Arc::new(ManualClock::new(Timestamp::EPOCH)))));
    Pair { gate: gate.clone(), gate_store: gate, truth: truth.clone(), truth_store: truth, faults }
}

#[async_trait]
impl Factory for FourNodes {
    fn name(&self) -> String {
        "four nodes over rows in maps".to_owned()
    }

    fn roles(&self) -> Vec<LedgerRole> {
        vec![LedgerRole::Single, LedgerRole::Gate, LedgerRole::Truth]
    }

    fn max_buckets(&self) -> u16 {
        64
    }

    async fn fresh(&self, role: LedgerRole) -> LedgerUnderTest {
        let nodes = Nodes::new(role, &Faults::new(0), None);
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
        // In a storm, the lanes of a gate may be half loaded: until it opens they do not fit together.
        if self.clock.is_some()
            && self.role() == LedgerRole::Gate
            && matches!(self.probe.open_epoch(activity).await, Ok(None))
        {
            return None;
        }
        self.probe.inspect(activity).await.expect("the store is in memory")
    }

    async fn advance_time(&self, lane: Lane, to: Timestamp) {
        if let Some(clock) = &self.clock {
            clock.set(clock.now().max(to));
        }
        // Fails if the lane is not open yet.
        let _ = self.probe.advance_time(lane, to).await;
    }

    async fn settle(&self) {}

    async fn restart(&self) -> Option<LedgerUnderTest> {
        None
    }
}

impl ForgettingStore for Nodes {
    fn mark(&self) -> Box<dyn Any + Send> {
        Box::new(self.rows.copy())
    }

    fn roll_back(&self, mark: &(dyn Any + Send)) {
        self.forget(mark.downcast_ref().expect("the mark is a copy of these rows"));
    }

    fn wipe(&self) {
        self.forget(&MapRows::default());
    }
}
