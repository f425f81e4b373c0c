//! Factories of the worker leases in core: in memory, and in a directory.

use std::{
    fs,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use flashsale_core::{
    conformance::{WorkerLeaseFactory, WorkerLeaseTestControl, WorkerLeaseUnderTest},
    embedded::LeaseFile,
    snowflake::{InMemoryLease, WorkerLease},
};
use tempfile::TempDir;

/// Makes leases in memory.
#[allow(dead_code, reason = "the seeded faults are looked for in the leases in a directory")]
pub(crate) struct InMemory;

#[async_trait]
impl WorkerLeaseFactory for InMemory {
    fn name(&self) -> String {
        "leases in memory".to_owned()
    }

    async fn fresh(&self, workers: RangeInclusive<u16>) -> WorkerLeaseUnderTest {
        let leases = Arc::new(InMemoryLease::new(workers));
        WorkerLeaseUnderTest { probe: Arc::new(Inside(Arc::clone(&leases))), leases }
    }
}

#[allow(dead_code, reason = "only for leases in memory")]
struct Inside(Arc<InMemoryLease>);

#[async_trait]
impl WorkerLeaseTestControl for Inside {
    async fn another_process(&self) -> Arc<dyn WorkerLease> {
        Arc::clone(&self.0) as _
    }

    async fn restart(&self) -> Option<WorkerLeaseUnderTest> {
        None
    }
}

/// Makes leases in directories.
pub(crate) struct InFiles {
    directory: TempDir,
    made: AtomicU64,
}

impl InFiles {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("failed to create a temporary directory");
        Self { directory, made: AtomicU64::new(0) }
    }
}

#[async_trait]
impl WorkerLeaseFactory for InFiles {
    fn name(&self) -> String {
        "leases in files".to_owned()
    }

    async fn fresh(&self, workers: RangeInclusive<u16>) -> WorkerLeaseUnderTest {
        let directory = self.directory.path().join(self.made.fetch_add(1, Ordering::SeqCst).to_string());
        Directory { path: directory, workers }.subject()
    }
}

#[derive(Clone)]
struct Directory {
    path: PathBuf,
    workers: RangeInclusive<u16>,
}

impl Directory {
    fn open(&self) -> Arc<dyn WorkerLease> {
        Arc::new(LeaseFile::new(&self.path, self.workers.clone()).expect("failed to open the directory"))
    }

    fn subject(self) -> WorkerLeaseUnderTest {
        WorkerLeaseUnderTest { leases: self.open(), probe: Arc::new(self) }
    }
}

#[async_trait]
impl WorkerLeaseTestControl for Directory {
    async fn another_process(&self) -> Arc<dyn WorkerLease> {
        self.open()
    }

    /// Opens a copy, where nothing is locked, as after a crash.
    async fn restart(&self) -> Option<WorkerLeaseUnderTest> {
        let to = PathBuf::from(format!("{}r", self.path.display()));
        fs::create_dir(&to).expect("failed to create a directory");
        for file in fs::read_dir(&self.path).expect("failed to read the directory") {
            let file = file.expect("failed to read the directory");
            fs::copy(file.path(), to.join(file.file_name())).expect("failed to copy a file");
        }
        Some(Self { path: to, workers: self.workers.clone() }.subject())
    }
}
