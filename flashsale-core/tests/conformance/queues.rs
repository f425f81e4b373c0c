//! Factories of the queues in core: in memory, and in a file.

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
    conformance::{QueueFactory, QueueTestControl, QueueUnderTest},
    domain::{ManualClock, Timestamp},
    embedded::EmbeddedQueue,
    queue::InMemoryQueue,
};
use tempfile::TempDir;

/// Makes queues in memory.
#[allow(dead_code, reason = "the seeded faults are in the queue in a file")]
pub(crate) struct InMemory;

#[async_trait]
impl QueueFactory for InMemory {
    fn name(&self) -> String {
        "queue in memory".to_owned()
    }

    async fn fresh(&self, now: Timestamp) -> QueueUnderTest {
        let clock = Arc::new(ManualClock::new(now));
        let queue = Arc::new(InMemoryQueue::new(Arc::clone(&clock) as _));
        QueueUnderTest { queue, probe: Arc::new(TestControl { clock, file: None }) }
    }
}

/// Makes queues in files, each in its own directory.
pub(crate) struct InFile {
    directory: Arc<TempDir>,
    made: Arc<AtomicU64>,
}

impl InFile {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("failed to create a temporary directory");
        Self { directory: Arc::new(directory), made: Arc::default() }
    }
}

#[async_trait]
impl QueueFactory for InFile {
    fn name(&self) -> String {
        "queue in a file".to_owned()
    }

    async fn fresh(&self, now: Timestamp) -> QueueUnderTest {
        let directory = self.directory.path().join(self.made.fetch_add(1, Ordering::SeqCst).to_string());
        open(directory, Arc::new(ManualClock::new(now)))
    }
}

fn open(directory: PathBuf, clock: Arc<ManualClock>) -> QueueUnderTest {
    let queue = EmbeddedQueue::open(&directory, Arc::clone(&clock) as _).expect("failed to open the file");
    QueueUnderTest { queue: Arc::new(queue), probe: Arc::new(TestControl { clock, file: Some(directory) }) }
}

struct TestControl {
    clock: Arc<ManualClock>,
    file: Option<PathBuf>,
}

#[async_trait]
impl QueueTestControl for TestControl {
    async fn set_time(&self, now: Timestamp) {
        self.clock.set(now);
    }

    /// Opens a copy, since the old queue still has the file open.
    async fn restart(&self) -> Option<QueueUnderTest> {
        let from = self.file.as_ref()?;
        let to = PathBuf::from(format!("{}r", from.display()));
        fs::create_dir(&to).expect("failed to create a directory");
        fs::copy(from.join(EmbeddedQueue::FILE), to.join(EmbeddedQueue::FILE))
            .expect("failed to copy the file");
        Some(open(to, Arc::clone(&self.clock)))
    }
}
