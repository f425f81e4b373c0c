//! How do I test my own ledger with the conformance suite, and what does a failure look like?
//!
//! `cargo run -p flashsale-examples --example own_backend [all]`
//!
//! This ledger keeps its records in one file: every change is appended and synced before the
//! answer, and replayed when the file is opened. Decisions come from the specification,
//! `flashsale_core::ledger::state_machine::StateMachine`. A backend whose store decides (scripts,
//! SQL) implements the same trait and passes the same suite.
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
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use flashsale_core::{
    conformance::{self, Factory, LedgerUnderTest, Options, Report, TestControl},
    domain::{ActivityId, Clock as _, Idempotency, Key, Nonce, SystemClock, Timestamp},
    ledger::{
        Answer, BatchId, Bounds, Command, Lane, Ledger, LedgerError, LedgerRole, Query, Reply,
        state_machine::{Batch, Inspection, StateMachine},
    },
};

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

    // 2. A mistake that a shop notices on its best day: repeating a request with the same key makes
    //    a second order. Named cases find it; each describes a failure seen in a real shop.
    println!("Now a ledger that forgets idempotency keys, with the cases about keys:\n");
    let forgetful: Arc<dyn Factory> = Arc::new(Files::new(directory.path(), Some(Mistake::ForgetsKeys)));
    let report =
        conformance::examine(&forgetful, &Options { only: Some("keys::".into()), ..Options::quick() });
    explain(&report)?;

    // 3. A mistake that no answer reveals until the power fails: nothing is written. Random
    //    sequences with restarts find it by comparing each step with the specification. The suite
    //    reports the shortest failing sequence that it can find.
    println!("Now a ledger that writes nothing, with random steps:\n");
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
    /// Every request counts as a new one.
    ForgetsKeys,
    /// The file is not written.
    WritesNothing,
}

/// A ledger that keeps its records in one file.
#[derive(Debug)]
struct FileLedger {
    path: PathBuf,
    state: Mutex<State>,
    mistake: Option<Mistake>,
}

#[derive(Debug)]
struct State {
    machine: StateMachine,
    file: File,
    /// Set after a failed write: the machine is then ahead of the file and must not answer.
    stopped: bool,
}

impl FileLedger {
    /// Opens or creates the file and replays its records.
    fn open(path: PathBuf, mistake: Option<Mistake>) -> io::Result<Self> {
        let mut file = File::options().create(true).read(true).append(true).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut machine = StateMachine::new(LedgerRole::Single);
        let mut rest = bytes.as_slice();
        // A record is its length followed by its bytes. A crash can leave half of the last record.
        // It was never acknowledged, so it is cut off. A real backend also adds a checksum.
        while let Some((length, tail)) = rest.split_first_chunk::<8>() {
            let length = usize::try_from(u64::from_le_bytes(*length)).map_err(io::Error::other)?;
            let Some((record, tail)) = tail.split_at_checked(length) else { break };
            machine.replay(record).map_err(io::Error::other)?;
            rest = tail;
        }
        file.set_len(u64::try_from(bytes.len() - rest.len()).map_err(io::Error::other)?)?;
        // From now on the machine records its changes.
        machine.journal();
        Ok(Self { path, state: Mutex::new(State { machine, file, stopped: false }), mistake })
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, LedgerError> {
        // A panic in a step may have left the machine in an inconsistent state.
        let state = self.state.lock().map_err(PoisonError::into_inner);
        match state {
            Ok(state) if !state.stopped => Ok(state),
            _ => Err(LedgerError::Stopped("a step or a write failed; reopen the file".into())),
        }
    }
}

#[async_trait]
impl Ledger for FileLedger {
    fn bounds(&self) -> Bounds {
        Bounds { max_batch: 10_000, max_in_flight: 1, is_shared: false, key_retention: None }
    }

    fn role(&self) -> LedgerRole {
        LedgerRole::Single
    }

    /// Runs one atomic step: decide, write, then answer. The lock serializes steps. Without an
    /// await point, a dropped caller cannot leave a step half-done, but the thread blocks during
    /// the sync. `EmbeddedLedger` has its own thread and writes many steps at once.
    async fn step(&self, mut command: Command) -> Result<Answer, LedgerError> {
        if let (Some(Mistake::ForgetsKeys), Command::Reserve { requests, .. }) = (self.mistake, &mut command)
        {
            for request in requests {
                let (key, nonce) = (Key(fastrand::u128(..)), Nonce(fastrand::u64(..)));
                request.idempotency = Idempotency { key, nonce };
            }
        }
        let mut state = self.state()?;
        let State { machine, file, stopped } = &mut *state;
        // The batch id is random, so that readers of the outbox notice if history differs.
        let batch = Batch { id: BatchId(fastrand::u64(..)), now: SystemClock.now() };
        let answer = machine.step(batch, &command);
        let records = machine.take_journal(Vec::new());
        if records.is_empty() || self.mistake == Some(Mistake::WritesNothing) {
            return answer;
        }
        let length = (records.len() as u64).to_le_bytes();
        let written = file.write_all(&[&length, records.as_slice()].concat()).and_then(|()| file.sync_data());
        // Whether the step survives a restart is unknown, and the error must say so.
        written.map_err(|error| {
            *stopped = true;
            LedgerError::Unknown(error.to_string().into())
        })?;
        answer
    }

    async fn read(&self, query: Query) -> Result<Reply, LedgerError> {
        self.state()?.machine.read(SystemClock.now(), &query)
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

    fn ledger_under_test(&self, path: PathBuf) -> LedgerUnderTest {
        let ledger = FileLedger::open(path, self.mistake).expect("a temporary file can be opened");
        let ledger = Arc::new(ledger);
        let files = Self::new(&self.directory, self.mistake);
        LedgerUnderTest { ledger: Arc::clone(&ledger) as _, probe: Arc::new(FileControl { ledger, files }) }
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
        self.ledger_under_test(self.next_path())
    }
}

/// Access to the ledger that the suite has, but users do not.
struct FileControl {
    ledger: Arc<FileLedger>,
    files: Files,
}

#[async_trait]
impl TestControl for FileControl {
    /// Returns all counters as stored. The suite checks the invariants on them after every step.
    async fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
        self.ledger.state().expect("the ledger works").machine.inspect(activity)
    }

    /// Advances time, so that the suite need not wait.
    async fn advance_time(&self, lane: Lane, to: Timestamp) {
        let mut state = self.ledger.state().expect("the ledger works");
        // A lane that is not open has no time yet.
        let _ = state.machine.advance_time(lane, to);
    }

    /// Does nothing: this ledger has no background work.
    async fn settle(&self) {}

    /// Opens a copy of the file as a crash would leave it; the old ledger still has it open.
    async fn restart(&self) -> Option<LedgerUnderTest> {
        let copy = self.files.next_path();
        fs::copy(&self.ledger.path, &copy).expect("a temporary file can be copied");
        Some(self.files.ledger_under_test(copy))
    }
}
