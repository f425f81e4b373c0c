//! Factories of the embedded engine: in memory, and with a journal.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use flashsale_core::{
    conformance::{Factory, LedgerUnderTest, TestControl},
    domain::{ActivityId, SystemClock, Timestamp},
    embedded::{EmbeddedLedger, EmbeddedOptions},
    ledger::{Lane, LedgerRole, state_machine::Inspection},
};
use tempfile::TempDir;

/// Makes engines in memory.
pub(crate) struct InMemory;

#[async_trait]
impl Factory for InMemory {
    fn name(&self) -> String {
        "embedded engine in memory".to_owned()
    }

    fn roles(&self) -> Vec<LedgerRole> {
        vec![LedgerRole::Single, LedgerRole::Gate, LedgerRole::Truth]
    }

    fn max_buckets(&self) -> u16 {
        64
    }

    async fn fresh(&self, role: LedgerRole) -> LedgerUnderTest {
        subject(EmbeddedLedger::in_memory(role, Arc::new(SystemClock)), None, role)
    }
}

/// Makes engines with a journal, each in its own directory.
pub(crate) struct Journalled {
    directory: Arc<TempDir>,
    made: AtomicU64,
}

impl Journalled {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("failed to create a temporary directory");
        Self { directory: Arc::new(directory), made: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Factory for Journalled {
    fn name(&self) -> String {
        "embedded engine with a journal".to_owned()
    }

    fn roles(&self) -> Vec<LedgerRole> {
        vec![LedgerRole::Single, LedgerRole::Gate, LedgerRole::Truth]
    }

    fn max_buckets(&self) -> u16 {
        64
    }

    async fn fresh(&self, role: LedgerRole) -> LedgerUnderTest {
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        let directory = Directory {
            _all: Arc::clone(&self.directory),
            path: self.directory.path().join(number.to_string()),
            restarts: 0,
        };
        open(directory, role)
    }
}

/// The directory of one engine. A restart opens a copy, since the old engine uses the original.
struct Directory {
    _all: Arc<TempDir>,
    path: std::path::PathBuf,
    restarts: u64,
}

fn open(directory: Directory, role: LedgerRole) -> LedgerUnderTest {
    let mut options = EmbeddedOptions::new(&directory.path, role, Arc::new(SystemClock));
    // Small, so restarts find snapshots of every age.
    options.snapshot_after_bytes = 20_000;
    let engine = EmbeddedLedger::open(options).expect("failed to open the directory");
    subject(engine, Some(directory), role)
}

fn subject(engine: EmbeddedLedger, directory: Option<Directory>, role: LedgerRole) -> LedgerUnderTest {
    let engine = Arc::new(engine);
    let probe = Arc::new(EmbeddedProbe { engine: Arc::clone(&engine), directory, role });
    LedgerUnderTest { ledger: engine, probe }
}

struct EmbeddedProbe {
    engine: Arc<EmbeddedLedger>,
    directory: Option<Directory>,
    role: LedgerRole,
}

#[async_trait]
impl TestControl for EmbeddedProbe {
    async fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
        self.engine.inspect(activity).await.expect("the engine is running")
    }

    async fn advance_time(&self, lane: Lane, to: Timestamp) {
        // Fails if the lane is not open yet.
        let _ = self.engine.advance_time(lane, to).await;
    }

    async fn settle(&self) {}

    async fn restart(&self) -> Option<LedgerUnderTest> {
        let Directory { _all, path, restarts } = self.directory.as_ref()?;
        let again = path.with_extension((restarts + 1).to_string());
        copy(path, &again);
        Some(open(Directory { _all: Arc::clone(_all), path: again, restarts: restarts + 1 }, self.role))
    }
}

/// Copies the files as they are at this moment, which is what a crash would leave.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("failed to create a directory");
    for entry in fs::read_dir(from).expect("failed to read the directory") {
        let entry = entry.expect("failed to read the directory");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else if let Err(error) = fs::copy(entry.path(), target) {
            // The engine may rename or delete a snapshot meanwhile.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}
