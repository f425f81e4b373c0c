//! Worker-id leases in a directory that all processes of one machine share.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write as _},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    domain::{Timestamp, text::digest64},
    snowflake::{Lease, LeaseError, WorkerLease},
};

const HEADER: &str = "flashsale worker lease 1";

/// Leases stored in a directory as two small files for each worker id that was ever used.
///
/// `NNNNN.lock` is locked while the worker id is held; the operating system releases it when the
/// process dies. `NNNNN.lease` stores the high-water mark with a version and a checksum. It is
/// replaced as a whole and synced before a lease is granted. Machines that do not share the
/// directory need disjoint ranges of worker ids.
#[derive(Debug)]
pub struct LeaseFile(Arc<Directory>);

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    workers: RangeInclusive<u16>,
    held: Mutex<BTreeMap<u16, File>>,
}

impl LeaseFile {
    /// Grants leases of the ids in `workers`, stored in `directory`, which is created if missing.
    ///
    /// # Errors
    /// [`LeaseError::Store`] if the directory cannot be created.
    pub fn new(directory: impl Into<PathBuf>, workers: RangeInclusive<u16>) -> Result<Self, LeaseError> {
        let path = directory.into();
        fs::create_dir_all(&path).map_err(|source| store("create the directory", &path, source))?;
        Ok(Self(Arc::new(Directory { path, workers, held: Mutex::default() })))
    }

    /// Runs work on a thread for blocking work: syncing a file takes milliseconds.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Directory) -> Result<T, LeaseError> + Send + 'static,
    ) -> Result<T, LeaseError> {
        let directory = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&directory)).await.unwrap_or_else(|error| {
            Err(store("use the lease files in", &self.0.path, io::Error::other(error)))
        })
    }
}

#[async_trait]
impl WorkerLease for LeaseFile {
    async fn acquire(&self, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError> {
        self.blocking(move |directory| directory.acquire(now, until)).await
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError> {
        self.blocking(move |directory| directory.renew(lease, until)).await
    }

    async fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError> {
        self.blocking(move |directory| directory.release(lease, used_until)).await
    }
}

impl Directory {
    fn acquire(&self, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError> {
        let mut held = self.held();
        let mut best: Option<(Timestamp, u16, File)> = None;
        for worker in self.workers.clone() {
            let Some(lock) = self.lock(worker)? else { continue };
            let mark = self.read(worker)?;
            if best.as_ref().is_none_or(|(lowest, ..)| mark < *lowest) {
                best = Some((mark, worker, lock));
            }
            if mark <= now {
                break;
            }
        }
        let Some((from, worker, lock)) = best else {
            return Err(LeaseError::NoWorker { first: *self.workers.start(), last: *self.workers.end() });
        };
        let lease = Lease { worker, from, until: until.max(from) };
        self.write(worker, lease.until)?;
        held.insert(worker, lock);
        Ok(lease)
    }

    fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError> {
        let held = self.held();
        if !held.contains_key(&lease.worker) {
            return Err(LeaseError::Lost { worker: lease.worker });
        }
        let until = until.max(lease.until).max(self.read(lease.worker)?);
        self.write(lease.worker, until)?;
        Ok(Lease { until, ..lease })
    }

    fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError> {
        let mut held = self.held();
        // Dropped, and so unlocked, on return, whether or not the mark can be written.
        let _lock = held.remove(&lease.worker).ok_or(LeaseError::Lost { worker: lease.worker })?;
        let mark = self.read(lease.worker)?;
        self.write(lease.worker, used_until.max(lease.from).min(mark))
    }

    /// Locks a worker id; `None` if it is held.
    fn lock(&self, worker: u16) -> Result<Option<File>, LeaseError> {
        let path = self.path.join(format!("{worker:05}.lock"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| store("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(store("lock", &path, source)),
        }
    }

    /// Reads the high-water mark of a worker id; the epoch if it was never used.
    fn read(&self, worker: u16) -> Result<Timestamp, LeaseError> {
        let path = self.lease_path(worker);
        match fs::read(&path) {
            Ok(bytes) => parse(worker, &bytes).map_err(|reason| LeaseError::Damaged { path, reason }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Timestamp::EPOCH),
            Err(source) => Err(store("read", &path, source)),
        }
    }

    /// Replaces the high-water mark; it is on disk when this returns.
    fn write(&self, worker: u16, until: Timestamp) -> Result<(), LeaseError> {
        let path = self.lease_path(worker);
        let new = path.with_extension("new");
        replace(&self.path, &new, &path, render(worker, until).as_bytes())
            .map_err(|source| store("write", &path, source))
    }

    fn lease_path(&self, worker: u16) -> PathBuf {
        self.path.join(format!("{worker:05}.lease"))
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u16, File>> {
        // Every change of the map is a single step, so a panic cannot leave it half-done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn replace(directory: &Path, new: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    File::open(directory)?.sync_all()
}

fn render(worker: u16, until: Timestamp) -> String {
    let mut text = format!("{HEADER}\nworker {worker}\nuntil_ms {}\n", until.as_millis());
    let checksum = digest64(text.as_bytes());
    writeln!(text, "checksum {checksum:016x}").expect("writing to a string cannot fail");
    text
}

fn parse(worker: u16, bytes: &[u8]) -> Result<Timestamp, String> {
    let text = str::from_utf8(bytes).map_err(|_| "is not text".to_owned())?;
    let header = text.lines().next().unwrap_or_default();
    if header != HEADER && header.starts_with("flashsale worker lease ") {
        return Err(format!(
            "was written by another version: it starts with {header:?}, expected {HEADER:?}"
        ));
    }
    let until = text
        .lines()
        .find_map(|line| line.strip_prefix("until_ms "))
        .and_then(|number| number.parse().ok())
        .map(Timestamp::from_millis)
        .ok_or("has no high-water mark")?;
    // The rendering is canonical, so any other byte sequence is damage.
    if text != render(worker, until) {
        return Err("its content does not match its checksum or its worker id".to_owned());
    }
    Ok(until)
}

fn store(action: &str, path: &Path, source: io::Error) -> LeaseError {
    LeaseError::Store { action: format!("cannot {action} {}", path.display()), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[tokio::test]
    async fn a_held_worker_id_is_not_granted_again() {
        let directory = tempfile::tempdir().unwrap();
        let first = LeaseFile::new(directory.path(), 3..=4).unwrap();
        let second = LeaseFile::new(directory.path(), 3..=4).unwrap();
        let a = first.acquire(at(100), at(200)).await.unwrap();
        let b = second.acquire(at(100), at(200)).await.unwrap();
        assert_eq!(a, Lease { worker: 3, from: at(0), until: at(200) });
        assert_eq!(b.worker, 4);
        let refused = first.acquire(at(100), at(200)).await.unwrap_err();
        assert!(matches!(refused, LeaseError::NoWorker { first: 3, last: 4 }), "{refused}");
        second.release(b, at(150)).await.unwrap();
        let again = first.acquire(at(160), at(200)).await.unwrap();
        assert_eq!(again, Lease { worker: 4, from: at(150), until: at(200) });
        assert!(matches!(second.renew(b, at(300)).await, Err(LeaseError::Lost { worker: 4 })));
    }

    #[tokio::test]
    async fn after_a_crash_another_worker_id_is_preferred_to_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let lease = LeaseFile::new(directory.path(), 0..=1).unwrap().acquire(at(100), at(900)).await.unwrap();
        let leases = LeaseFile::new(directory.path(), 0..=1).unwrap();
        let next = leases.acquire(at(101), at(901)).await.unwrap();
        assert_eq!((lease.worker, next.worker, next.from), (0, 1, at(0)));
        drop(leases);
        let leases = LeaseFile::new(directory.path(), 0..=1).unwrap();
        let waits = leases.acquire(at(102), at(902)).await.unwrap();
        assert_eq!(
            waits,
            Lease { worker: 0, from: at(900), until: at(902) },
            "both marks are in the future, so the lower one is taken"
        );
        drop(leases);
        let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
        let empty = leases.acquire(at(103), at(500)).await.unwrap();
        assert_eq!(empty, Lease { worker: 0, from: at(902), until: at(902) }, "a mark never goes down");
    }

    #[tokio::test]
    async fn renewals_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let leases = LeaseFile::new(directory.path(), 7..=7).unwrap();
        let lease = leases.acquire(at(10), at(20)).await.unwrap();
        assert_eq!(leases.renew(lease, at(40)).await.unwrap().until, at(40));
        assert_eq!(leases.renew(lease, at(30)).await.unwrap().until, at(40), "never shorter");
        drop(leases);
        let leases = LeaseFile::new(directory.path(), 7..=7).unwrap();
        assert_eq!(leases.acquire(at(15), at(25)).await.unwrap().from, at(40));
    }

    #[tokio::test]
    async fn a_damaged_file_is_an_error_that_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("00000.lease");
        let good = render(0, at(1_790_000_000_000));
        for position in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[position] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
            let error = leases.acquire(at(0), at(1)).await.unwrap_err();
            assert!(matches!(error, LeaseError::Damaged { .. }), "byte {position}: {error}");
            assert!(error.to_string().contains("Move the file away"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was overwritten");
        }
        for content in ["", &good[..good.len() - 1], &format!("{good}\n"), &render(1, at(5))] {
            fs::write(&path, content).unwrap();
            let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
            assert!(
                matches!(leases.acquire(at(0), at(1)).await, Err(LeaseError::Damaged { .. })),
                "{content:?}"
            );
        }
        fs::write(&path, good.replace("lease 1", "lease 2")).unwrap();
        let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
        let error = leases.acquire(at(0), at(1)).await.unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
    }

    #[tokio::test]
    async fn no_lease_is_granted_if_the_mark_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
        // A directory at the path of the new file makes the write fail for every user, even root.
        let obstacle = directory.path().join("00000.new");
        fs::create_dir(&obstacle).unwrap();
        let error = leases.acquire(at(10), at(20)).await.unwrap_err();
        assert!(matches!(error, LeaseError::Store { .. }), "{error}");
        assert!(error.to_string().contains("00000.lease"), "{error}");
        fs::remove_dir(&obstacle).unwrap();
        let lease = leases.acquire(at(10), at(20)).await.unwrap();
        fs::create_dir(&obstacle).unwrap();
        assert!(leases.renew(lease, at(30)).await.is_err());
        fs::remove_dir(&obstacle).unwrap();
        drop(leases);
        let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
        assert_eq!(leases.acquire(at(10), at(40)).await.unwrap().from, at(20));
    }
}
