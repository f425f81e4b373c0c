//! How do I test my own ledger with the conformance suite, and what does a failure look like?
//!
//! `cargo run -p flashsale-examples --example own_backend [all]`
//!
//! This store keeps rows in one file: every commit is appended and synced before the answer, and read
//! back when the file is opened. It implements `flashsale_core::ledger::rows::Rows` and contains no rule
//! of a sale: `RowLedger` makes a ledger of it, by the specification.
//!
//! The suite then runs on the same ledger with two deliberate mistakes, to show what it reports.
//!
//! In your own crate the suite is one test; all else that it needs is `Factory` and `TestControl`:
//!
//! ```text
//! [dev-dependencies]
//! flashsale-core = { version = "…", features = ["conformance"] }
//!
//! #[test]
//! fn the_ledger_conforms() {
//!     let factory: Arc<dyn Factory> = Arc::new(MyFactory::new());
//!     conformance::run(&factory, &Options::of_environment());
//! }
//! ```

use std::{
    error::Error,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use flashsale_core::{
    conformance::{self, Factory, LedgerUnderTest, MapRows, Options, Report, TestControl},
    domain::{ActivityId, OrderId, SystemClock, Timestamp, UserId},
    ledger::{
        AdjustmentId, Bounds, Lane, LedgerError, LedgerRole,
        rows::{Changes, Excerpt, Needs, OrderRow, RowLedger, Rows},
        state_machine::Inspection,
    },
};
use tokio::sync::Mutex;

/// The groups of cases to run. The others (`table`, `transitions`, `concurrency`) take tens of
/// thousands of steps, and this ledger syncs after each step; `all` runs them too.
const SELECTION: [&str; 12] = [
    "reserve::",
    "precedence::",
    "limits::",
    "keys::",
    "payment::",
    "expiry::",
    "cancellation::",
    "adjustment::",
    "buckets::",
    "events::",
    "durability::",
    "machine::",
];

/// A plain `main`, because the suite has its own runtime.
fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;

    // 1. The correct ledger. `quick` uses few buyers and short random sequences; your tests should
    //    use `Options::of_environment()`, which runs more and can be configured.
    let files: Arc<dyn Factory> = Arc::new(Files::new(directory.path(), None));
    let everything = std::env::args().nth(1).as_deref() == Some("all");
    let selection = if everything { vec![None] } else { SELECTION.map(|file| Some(file.into())).to_vec() };
    let mut played = 0;
    for only in selection {
        let report = conformance::examine(&files, &Options { only, ..Options::quick() });
        assert_eq!(report.failures().count(), 0, "{report}");
        played += report.played.len();
    }
    println!("\nThe file ledger conforms: {played} cases passed.\n");
    assert!(played > 50, "the suite ran");

    // 2. A mistake that a shop notices on its best day: a buyer's earlier orders are not found, so a
    //    repeated request makes a second order. Named cases find it; each describes a failure seen in
    //    a real shop.
    println!("Now a store that does not find buyers' orders, with the cases about keys:\n");
    let forgetful: Arc<dyn Factory> = Arc::new(Files::new(directory.path(), Some(Mistake::ForgetsBuyers)));
    let report =
        conformance::examine(&forgetful, &Options { only: Some("keys::".into()), ..Options::quick() });
    explain(&report)?;

    // 3. A mistake that no answer reveals until the power fails: nothing is written. Random
    //    sequences with restarts find it by comparing each step with the specification. The suite
    //    reports the shortest failing sequence that it can find.
    println!("Now a store that writes nothing, with random steps:\n");
    let volatile: Arc<dyn Factory> = Arc::new(Files::new(directory.path(), Some(Mistake::WritesNothing)));
    let only = Some("random_steps_over_one_bucket".into());
    let report = conformance::examine(&volatile, &Options { only, sequences: 200, ..Options::quick() });
    explain(&report)?;
    println!("Both mistakes were found.");
    Ok(())
}

/// Explains the first failure of a report, which the suite has also printed.
fn explain(report: &Report) -> Result<(), Box<dyn Error>> {
    let failed = report.failures().next().ok_or("the suite missed the mistake")?;
    let failure = failed.failure.as_ref().ok_or("a failed case has a failure")?;
    println!("\n{report}");
    println!(
        "Step {} of \"{}\" reveals the mistake. The output above lists the steps before it, and the variables \
         to set if you want to run just this case again.\n",
        failure.step, failed.case
    );
    Ok(())
}

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// A buyer's orders are not found.
    ForgetsBuyers,
    /// The file is not written.
    WritesNothing,
}

/// Rows in memory, and every commit in one file.
#[derive(Debug)]
struct FileRows {
    path: PathBuf,
    maps: MapRows,
    /// `None` after a failed write: what the file holds is then unknown.
    file: Mutex<Option<File>>,
    mistake: Option<Mistake>,
}

impl FileRows {
    /// Opens or creates the file and takes the commits in it once more.
    async fn open(path: PathBuf, mistake: Option<Mistake>) -> io::Result<Self> {
        let mut file = File::options().create(true).read(true).append(true).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let maps = MapRows::default();
        let mut rest = bytes.as_slice();
        // A record is its length followed by its bytes. A crash can leave half of the last record.
        // It was never acknowledged, so it is cut off. A real store also adds a checksum.
        while let Some((length, tail)) = rest.split_first_chunk::<8>() {
            let length = usize::try_from(u64::from_le_bytes(*length)).map_err(io::Error::other)?;
            let Some((record, tail)) = tail.split_at_checked(length) else { break };
            let (lane, changes): (Lane, Changes) = postcard::from_bytes(record).map_err(io::Error::other)?;
            maps.commit(lane, &changes).await.map_err(io::Error::other)?;
            rest = tail;
        }
        file.set_len(u64::try_from(bytes.len() - rest.len()).map_err(io::Error::other)?)?;
        Ok(Self { path, maps, file: Mutex::new(Some(file)), mistake })
    }
}

#[async_trait]
impl Rows for FileRows {
    fn bounds(&self) -> Bounds {
        Bounds { max_batch: 10_000, max_in_flight: 1, is_shared: false, key_retention: None }
    }

    async fn read(&self, lane: Lane, needs: &Needs) -> Result<Excerpt, LedgerError> {
        let mut excerpt = self.maps.read(lane, needs).await?;
        if self.mistake == Some(Mistake::ForgetsBuyers) && !needs.all_buyers {
            excerpt.orders.clear();
        }
        Ok(excerpt)
    }

    /// Compares, writes, and only then shows what is written. The lock lets one commit after another do
    /// so. Without an await point after the comparison, a dropped caller cannot leave it half-done, but
    /// the thread blocks during the sync.
    async fn commit(&self, lane: Lane, changes: &Changes) -> Result<bool, LedgerError> {
        let mut slot = self.file.lock().await;
        if self.maps.read(lane, &Needs::default()).await?.version != changes.version {
            return Ok(false);
        }
        let Some(file) = slot.as_mut() else {
            return Err(LedgerError::Stopped("a write failed; reopen the file".into()));
        };
        if self.mistake == Some(Mistake::WritesNothing) {
            return self.maps.commit(lane, changes).await;
        }
        let record = postcard::to_stdvec(&(lane, changes));
        let written = record.map_err(io::Error::other).and_then(|record| {
            let length = (record.len() as u64).to_le_bytes();
            file.write_all(&[&length, record.as_slice()].concat()).and_then(|()| file.sync_data())
        });
        if let Err(error) = written {
            *slot = None;
            // Whether the commit survives a restart is unknown, and the error must say so.
            return Err(LedgerError::Unknown(error.to_string().into()));
        }
        self.maps.commit(lane, changes).await
    }

    async fn orders(
        &self,
        lane: Lane,
        owed: bool,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(UserId, OrderRow)>, LedgerError> {
        self.maps.orders(lane, owed, after, limit).await
    }

    async fn entries(&self, lane: Lane, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError> {
        self.maps.entries(lane, from, limit).await
    }

    async fn adjustments(&self, lane: Lane) -> Result<Vec<(AdjustmentId, Vec<u8>)>, LedgerError> {
        self.maps.adjustments(lane).await
    }

    async fn lanes(&self) -> Result<Vec<Lane>, LedgerError> {
        Rows::lanes(&self.maps).await
    }

    async fn find(
        &self,
        activity: Option<ActivityId>,
        order: OrderId,
    ) -> Result<Option<(Lane, UserId)>, LedgerError> {
        self.maps.find(activity, order).await
    }
}

/// Creates ledgers for the suite, each with its own file.
#[derive(Debug)]
struct Files {
    directory: PathBuf,
    mistake: Option<Mistake>,
}

impl Files {
    fn new(directory: &Path, mistake: Option<Mistake>) -> Self {
        Self { directory: directory.to_owned(), mistake }
    }

    fn next_path(&self) -> PathBuf {
        static MADE: AtomicU64 = AtomicU64::new(0);
        self.directory.join(format!("{}.records", MADE.fetch_add(1, Ordering::Relaxed)))
    }

    async fn ledger_under_test(&self, path: PathBuf) -> LedgerUnderTest {
        let rows = FileRows::open(path, self.mistake).await.expect("a temporary file can be opened");
        let rows = Arc::new(rows);
        let ledger = Arc::new(RowLedger::single(Arc::clone(&rows), Arc::new(SystemClock)));
        let files = Self::new(&self.directory, self.mistake);
        LedgerUnderTest {
            ledger: Arc::clone(&ledger) as _,
            probe: Arc::new(FileControl { ledger, rows, files }),
        }
    }
}

#[async_trait]
impl Factory for Files {
    fn name(&self) -> String {
        match self.mistake {
            None => "file ledger".to_owned(),
            Some(mistake) => format!("file ledger with the mistake {mistake:?}"),
        }
    }

    /// Excludes the cases for gates and truths: this ledger is neither.
    fn roles(&self) -> Vec<LedgerRole> {
        vec![LedgerRole::Single]
    }

    fn max_buckets(&self) -> u16 {
        64
    }

    async fn fresh(&self, _role: LedgerRole) -> LedgerUnderTest {
        self.ledger_under_test(self.next_path()).await
    }
}

/// Access to the ledger that the suite has, but users do not.
struct FileControl {
    ledger: Arc<RowLedger<FileRows>>,
    rows: Arc<FileRows>,
    files: Files,
}

#[async_trait]
impl TestControl for FileControl {
    /// Returns all counters as stored. The suite checks the invariants on them after every step.
    async fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
        self.ledger.inspect(activity).await.expect("the store works")
    }

    /// Advances time, so that the suite need not wait.
    async fn advance_time(&self, lane: Lane, to: Timestamp) {
        // A lane that is not open has no time yet.
        let _ = self.ledger.advance_time(lane, to).await;
    }

    /// Does nothing: this ledger has no background work.
    async fn settle(&self) {}

    /// Opens a copy of the file as a crash would leave it; the old ledger still has it open.
    async fn restart(&self) -> Option<LedgerUnderTest> {
        let copy = self.files.next_path();
        fs::copy(&self.rows.path, &copy).expect("a temporary file can be copied");
        Some(self.files.ledger_under_test(copy).await)
    }
}
