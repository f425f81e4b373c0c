//! The stores of an application. Nothing above this module depends on the kind of deployment.

use std::{error::Error, fmt, fs, os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc};

use flashsale_core::{
    catalogue::Catalogue,
    domain::{Clock, SteadyTime, Timestamp},
    embedded::{
        EmbeddedCatalogue, EmbeddedIdentities, EmbeddedLedger, EmbeddedOptions, EmbeddedQueue, LeaseFile,
    },
    identities::Identities,
    ledger::{Ledger, LedgerRole},
    queue::{InMemoryQueue, Queue},
    snowflake::{InMemoryLease, WorkerLease},
};
use futures_util::future::BoxFuture;

use super::AppError;
use crate::{
    backup::{Backup, EmbeddedBackup},
    config::Config,
    monitoring::inspector::Inspector,
};

/// The worker ids available to the id generators that share a data directory.
const WORKERS: std::ops::RangeInclusive<u16> = 0..=1023;

/// The stores of one deployment.
#[derive(Debug)]
pub struct Deployment {
    /// Keeps stock, limits and orders.
    pub ledger: Arc<dyn Ledger>,
    /// Products, activities and the audit trail.
    pub catalogue: Arc<dyn Catalogue>,
    /// Jobs; they survive this process unless the stores are in memory.
    pub queue: Arc<dyn Queue>,
    /// The texts of users whom the identity provider does not number.
    pub identities: Arc<dyn Identities>,
    /// Leases worker ids to id generators.
    pub leases: Arc<dyn WorkerLease>,
    /// Reads ledger internals for monitoring.
    pub inspector: Arc<dyn Inspector>,
    /// Backs up the stores; `None` if they are in memory.
    pub backup: Option<Arc<dyn Backup>>,
    /// The time of the ledger's last decision. The clock must not start earlier.
    pub decided_until: Timestamp,
    /// Closes the stores.
    pub close: Close,
}

/// Closes the stores in order. Acknowledged orders are on disk even if closing fails.
pub struct Close(Box<dyn Fn() -> Closing + Send + Sync>);

type Closing = BoxFuture<'static, Result<(), Box<dyn Error + Send + Sync>>>;

impl Close {
    /// Closes the stores.
    ///
    /// # Errors
    /// If a store did not close cleanly or was closed before. The next start then takes longer.
    pub async fn call(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        (self.0)().await
    }
}

impl fmt::Debug for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Close").finish_non_exhaustive()
    }
}

impl Deployment {
    /// Opens the embedded stores, in the data directory or in memory. Blocks on disk I/O.
    ///
    /// # Errors
    /// If the directory or one of its files cannot be used; existing data is not damaged.
    pub fn embedded(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, AppError> {
        if config.storage.in_memory {
            return Self::in_memory(clock);
        }
        let directory = &config.storage.directory;
        create_private(directory)?;
        let catalogue = Arc::new(EmbeddedCatalogue::open(directory, Arc::clone(clock))?);
        let queue = EmbeddedQueue::open(directory, Arc::new(SteadyTime(Arc::clone(clock))))?;
        let identities = EmbeddedIdentities::open(directory)?;
        let ledger = Arc::new(EmbeddedLedger::open(EmbeddedOptions {
            max_batch: config.order.max_batch,
            snapshot_after_bytes: config.storage.snapshot_after_bytes,
            ..EmbeddedOptions::new(directory, LedgerRole::Single, Arc::clone(clock))
        })?);
        let backup = EmbeddedBackup {
            ledger: Arc::clone(&ledger),
            queue: queue.clone(),
            catalogue: Arc::clone(&catalogue),
            identities: identities.clone(),
            directory: directory.clone(),
        };
        let leases = Arc::new(LeaseFile::new(directory.join("workers"), WORKERS)?);
        let backup: Option<Arc<dyn Backup>> = Some(Arc::new(backup));
        let in_memory = Self::of(ledger, catalogue, identities, clock);
        Ok(Self { queue: Arc::new(queue), leases, backup, ..in_memory })
    }

    fn in_memory(clock: &Arc<dyn Clock>) -> Result<Self, AppError> {
        let catalogue = Arc::new(EmbeddedCatalogue::in_memory(Arc::clone(clock))?);
        let ledger = Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(clock)));
        Ok(Self::of(ledger, catalogue, EmbeddedIdentities::in_memory()?, clock))
    }

    /// Assembles a deployment with an in-memory queue and in-memory worker ids.
    fn of(
        ledger: Arc<EmbeddedLedger>,
        catalogue: Arc<EmbeddedCatalogue>,
        identities: EmbeddedIdentities,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let closed = Arc::clone(&ledger);
        let close = move || -> Closing {
            let ledger = Arc::clone(&closed);
            Box::pin(async move { Ok(ledger.close().await?) })
        };
        Self {
            decided_until: ledger.decided_until(),
            inspector: Arc::clone(&ledger) as _,
            ledger,
            catalogue,
            identities: Arc::new(identities),
            queue: Arc::new(InMemoryQueue::new(Arc::new(SteadyTime(Arc::clone(clock))))),
            leases: Arc::new(InMemoryLease::new(WORKERS)),
            backup: None,
            close: Close(Box::new(close)),
        }
    }
}

/// Keeps other servers from using a data directory, before its stores are open. They lock their files
/// too; this lock costs nothing, so that a server can take it before it listens.
#[derive(Debug)]
pub struct DataLock {
    _directory: Option<fs::File>,
}

impl DataLock {
    /// Creates the data directory and locks it until the result is dropped. Does nothing for stores in
    /// memory, or on a file system without locks.
    ///
    /// # Errors
    /// If the directory cannot be created, or another process uses it.
    pub fn take(config: &Config) -> Result<Self, AppError> {
        if config.storage.in_memory {
            return Ok(Self { _directory: None });
        }
        let directory = &config.storage.directory;
        create_private(directory)?;
        let Ok(opened) = fs::File::open(directory) else { return Ok(Self { _directory: None }) };
        match opened.try_lock() {
            Err(fs::TryLockError::WouldBlock) => Err(AppError::InUse(directory.clone())),
            _ => Ok(Self { _directory: Some(opened) }),
        }
    }
}

/// Creates a directory that only its owner can enter.
fn create_private(directory: &Path) -> Result<(), AppError> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    created.map_err(|source| AppError::Directory { directory: directory.to_owned(), source })
}
