//! Factories of the embedded catalogue: in memory, and in a file.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use flashsale_core::{
    conformance::{CatalogueFactory, CatalogueTestControl, CatalogueUnderTest},
    domain::{ManualClock, Timestamp},
    embedded::EmbeddedCatalogue,
};
use tempfile::TempDir;

/// Makes catalogues in memory.
pub(crate) struct InMemory;

#[async_trait]
impl CatalogueFactory for InMemory {
    fn name(&self) -> String {
        "catalogue in memory".to_owned()
    }

    async fn fresh(&self, now: Timestamp) -> CatalogueUnderTest {
        let clock = Arc::new(ManualClock::new(now));
        let catalogue = EmbeddedCatalogue::in_memory(Arc::clone(&clock) as _).expect("failed to create it");
        CatalogueUnderTest {
            catalogue: Arc::new(catalogue),
            probe: Arc::new(TestControl { clock, file: None }),
        }
    }
}

/// Makes catalogues in files, each in its own directory.
#[allow(dead_code, reason = "seeded faults are looked for in memory, which is faster")]
pub(crate) struct InFile {
    directory: TempDir,
    made: AtomicU64,
}

#[allow(dead_code, reason = "seeded faults are looked for in memory, which is faster")]
impl InFile {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("failed to create a temporary directory");
        Self { directory, made: AtomicU64::new(0) }
    }
}

#[async_trait]
impl CatalogueFactory for InFile {
    fn name(&self) -> String {
        "catalogue in a file".to_owned()
    }

    async fn fresh(&self, now: Timestamp) -> CatalogueUnderTest {
        let directory = self.directory.path().join(self.made.fetch_add(1, Ordering::SeqCst).to_string());
        open(directory, Arc::new(ManualClock::new(now)))
    }
}

fn open(directory: PathBuf, clock: Arc<ManualClock>) -> CatalogueUnderTest {
    let catalogue = EmbeddedCatalogue::open(&directory, Arc::clone(&clock) as _);
    CatalogueUnderTest {
        catalogue: Arc::new(catalogue.expect("failed to open the file")),
        probe: Arc::new(TestControl { clock, file: Some(directory) }),
    }
}

struct TestControl {
    clock: Arc<ManualClock>,
    file: Option<PathBuf>,
}

#[async_trait]
impl CatalogueTestControl for TestControl {
    async fn set_time(&self, now: Timestamp) {
        self.clock.set(now);
    }

    /// Opens a copy, since the old catalogue still has the file open.
    async fn restart(&self) -> Option<CatalogueUnderTest> {
        let from = self.file.as_ref()?;
        let to = PathBuf::from(format!("{}r", from.display()));
        fs::create_dir(&to).expect("failed to create a directory");
        fs::copy(from.join(EmbeddedCatalogue::FILE), to.join(EmbeddedCatalogue::FILE))
            .expect("failed to copy the file");
        Some(open(to, Arc::clone(&self.clock)))
    }
}
