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
    snowflake::{HolderId, Lease, LeaseError, WorkerLease, WorkerState},
};

const HEADER: &str = "flashsale worker lease 2";
/// The header of files that have no holder.
const HEADER_1: &str = "flashsale worker lease 1";

/// Leases stored in a directory as two small files for each worker id that was ever used.
///
/// `NNNNN.lock` is locked while the worker id is held; the operating system releases it when the
/// process dies, so a worker id is free at once after a crash. `NNNNN.lease` stores the holder and
/// the high-water mark with a version and a checksum. It is replaced as a whole and synced before a
/// lease is granted. `leases.lock` is locked during a call, so that calls of all processes have an
/// order. Machines that do not share the directory need disjoint ranges of worker ids.
#[derive(Debug)]
pub struct LeaseFile(Arc<Directory>);

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    workers: RangeInclusive<u16>,
    /// The locks of the worker ids that this process holds.
    held: Mutex<BTreeMap<HolderId, File>>,
}

/// A worker id to grant, and its lock if nobody else has it.
#[derive(Debug)]
struct Choice {
    worker: u16,
    state: WorkerState,
    lock: Option<File>,
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
    async fn acquire(&self, holder: HolderId, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError> {
        self.blocking(move |directory| directory.acquire(holder, now, until)).await
    }

    async fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError> {
        self.blocking(move |directory| directory.renew(lease, until)).await
    }

    async fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError> {
        self.blocking(move |directory| directory.release(lease, used_until)).await
    }
}

impl Directory {
    fn acquire(&self, holder: HolderId, now: Timestamp, until: Timestamp) -> Result<Lease, LeaseError> {
        let _alone = self.lock_all()?;
        let Choice { worker, mut state, lock } = match self.lease_of(holder)? {
            Some(own) => own,
            None => {
                // What a former lease of this holder has locked has lost its name.
                self.unlock(holder);
                self.best(now)?
            }
        };
        let lease = state.grant(worker, holder, until);
        self.write(worker, state)?;
        self.keep_locked(lease, lock)?;
        Ok(lease)
    }

    fn renew(&self, lease: Lease, until: Timestamp) -> Result<Lease, LeaseError> {
        let _alone = self.lock_all()?;
        let mut state = self.read(lease.worker)?;
        let renewed = state.renew(lease, until).inspect_err(|_| self.unlock(lease.holder))?;
        self.write(lease.worker, state)?;
        self.keep_locked(lease, None)?;
        Ok(renewed)
    }

    fn release(&self, lease: Lease, used_until: Timestamp) -> Result<(), LeaseError> {
        let _alone = self.lock_all()?;
        // Whether or not the mark can be written: this process makes no more ids.
        self.unlock(lease.holder);
        let mut state = self.read(lease.worker)?;
        state.release(lease, used_until)?;
        self.write(lease.worker, state)
    }

    /// Finds the worker id that a holder has.
    fn lease_of(&self, holder: HolderId) -> Result<Option<Choice>, LeaseError> {
        for worker in self.workers.clone() {
            match self.read(worker) {
                Ok(state) if state.holder == Some(holder) && !mutant!("lease-repeat-not-known") => {
                    return Ok(Some(Choice { worker, state, lock: None }));
                }
                // A damaged file matters when somebody needs this worker id.
                Ok(_) | Err(LeaseError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Chooses among the worker ids that may be acquired.
    fn best(&self, now: Timestamp) -> Result<Choice, LeaseError> {
        let (mut best, mut retry_at): (Option<Choice>, _) = (None, Timestamp::MAX);
        for worker in self.workers.clone() {
            let lock = self.lock(worker)?;
            let state = self.read(worker)?;
            // A locked worker id without a holder was acquired by an earlier version, which does not
            // expect to lose it.
            if lock.is_none() && (state.holder.is_none() || !state.may_be_acquired(now)) {
                retry_at = retry_at.min(state.until.max(now));
                continue;
            }
            let preference = state.preference(now);
            if best.as_ref().is_none_or(|best| preference < best.state.preference(now)) {
                best = Some(Choice { worker, state, lock });
            }
            if preference == (now, false) {
                break;
            }
        }
        let (first, last) = (*self.workers.start(), *self.workers.end());
        best.ok_or(LeaseError::NoWorker { first, last, retry_at })
    }

    /// Locks the directory until the file is dropped. Whoever holds it works for milliseconds.
    fn lock_all(&self) -> Result<File, LeaseError> {
        let path = self.path.join("leases.lock");
        let file = open(&path)?;
        file.lock().map_err(|source| store("lock", &path, source))?;
        Ok(file)
    }

    /// Locks a worker id; `None` if it is locked.
    fn lock(&self, worker: u16) -> Result<Option<File>, LeaseError> {
        let path = self.lock_path(worker);
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(store("lock", &path, source)),
        }
    }

    /// Keeps the worker id of a lease locked while this process lives.
    fn keep_locked(&self, lease: Lease, lock: Option<File>) -> Result<(), LeaseError> {
        let mut held = self.held();
        if held.contains_key(&lease.holder) {
            return Ok(());
        }
        let mut lock = lock.map_or_else(|| self.lock(lease.worker), |lock| Ok(Some(lock)))?;
        if lock.is_none() {
            // A former holder, whose lease has ended, still lives. What it has locked loses its name.
            let path = self.lock_path(lease.worker);
            fs::remove_file(&path).map_err(|source| store("replace", &path, source))?;
            lock = self.lock(lease.worker)?;
        }
        held.extend(lock.map(|lock| (lease.holder, lock)));
        Ok(())
    }

    fn unlock(&self, holder: HolderId) {
        self.held().remove(&holder);
    }

    /// Reads what is stored of a worker id; the default if it was never used.
    fn read(&self, worker: u16) -> Result<WorkerState, LeaseError> {
        let path = self.lease_path(worker);
        match fs::read(&path) {
            Ok(bytes) => parse(worker, &bytes).map_err(|reason| LeaseError::Damaged { path, reason }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(WorkerState::default()),
            Err(source) => Err(store("read", &path, source)),
        }
    }

    /// Replaces what is stored of a worker id; it is on disk when this returns.
    fn write(&self, worker: u16, state: WorkerState) -> Result<(), LeaseError> {
        let path = self.lease_path(worker);
        let new = path.with_extension("new");
        replace(&self.path, &new, &path, render(worker, state).as_bytes())
            .map_err(|source| store("write", &path, source))
    }

    fn lease_path(&self, worker: u16) -> PathBuf {
        self.path.join(format!("{worker:05}.lease"))
    }

    fn lock_path(&self, worker: u16) -> PathBuf {
        self.path.join(format!("{worker:05}.lock"))
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<HolderId, File>> {
        // Every change of the map is a single step, so a panic cannot leave it half-done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a file to lock it, and creates it if it is missing.
fn open(path: &Path) -> Result<File, LeaseError> {
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(path);
    file.map_err(|source| store("open", path, source))
}

fn replace(directory: &Path, new: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    File::open(directory)?.sync_all()
}

fn render(worker: u16, state: WorkerState) -> String {
    let holder = state.holder.map_or_else(|| NOBODY.to_owned(), |holder| holder.to_string());
    let (from, until) = (state.from.as_millis(), state.until.as_millis());
    seal(format!("{HEADER}\nworker {worker}\nholder {holder}\nfrom_ms {from}\nuntil_ms {until}\n"))
}

fn render_1(worker: u16, state: WorkerState) -> String {
    seal(format!("{HEADER_1}\nworker {worker}\nuntil_ms {}\n", state.until.as_millis()))
}

/// Stands for no holder.
const NOBODY: &str = "nobody";

fn seal(mut text: String) -> String {
    let checksum = digest64(text.as_bytes());
    writeln!(text, "checksum {checksum:016x}").expect("writing to a string cannot fail");
    text
}

fn parse(worker: u16, bytes: &[u8]) -> Result<WorkerState, String> {
    let text = str::from_utf8(bytes).map_err(|_| "is not text".to_owned())?;
    let header = text.lines().next().unwrap_or_default();
    if ![HEADER, HEADER_1].contains(&header) && header.starts_with("flashsale worker lease ") {
        return Err(format!(
            "was written by another version: it starts with {header:?}, expected {HEADER:?}"
        ));
    }
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let time = |name| Some(Timestamp::from_millis(field(name)?.parse().ok()?));
    let until = time("until_ms ").ok_or("has no high-water mark")?;
    let holder = field("holder ").and_then(|digits| u128::from_str_radix(digits, 16).ok()).map(HolderId);
    let state = WorkerState { holder, from: time("from_ms ").unwrap_or(until), until };
    let expected = if header == HEADER_1 { render_1(worker, state) } else { render(worker, state) };
    // The rendering is canonical, so any other byte sequence is damage.
    if text != expected {
        return Err("its content does not match its checksum or its worker id".to_owned());
    }
    Ok(state)
}

fn store(action: &str, path: &Path, source: io::Error) -> LeaseError {
    LeaseError::Store { action: format!("cannot {action} {}", path.display()), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HolderId = HolderId(0xa);
    const B: HolderId = HolderId(0xb);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn lease(worker: u16, holder: HolderId, from: u64, until: u64) -> Lease {
        Lease { worker, holder, from: at(from), until: at(until) }
    }

    /// A file as the first version wrote it.
    fn of_version_1(worker: u16, until: u64) -> String {
        render_1(worker, WorkerState { until: at(until), ..WorkerState::default() })
    }

    #[tokio::test]
    async fn the_worker_id_of_a_dead_process_is_free_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let died =
            LeaseFile::new(directory.path(), 0..=0).unwrap().acquire(A, at(100), at(900)).await.unwrap();
        let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
        let next = leases.acquire(B, at(103), at(500)).await.unwrap();
        assert_eq!(next, lease(0, B, 900, 900), "a mark never goes down");
        assert!(matches!(leases.renew(died, at(2_000)).await, Err(LeaseError::Lost { worker: 0 })));
    }

    /// A process that only slept has locked a file that no longer has the name.
    #[tokio::test]
    async fn a_process_that_sleeps_too_long_loses_its_worker_id() {
        let directory = tempfile::tempdir().unwrap();
        let open = || LeaseFile::new(directory.path(), 0..=0).unwrap();
        let (sleeper, other, third) = (open(), open(), open());
        let slept = sleeper.acquire(A, at(100), at(200)).await.unwrap();
        let taken = other.acquire(B, at(200), at(300)).await.unwrap();
        assert_eq!(taken, lease(0, B, 200, 300));
        assert!(sleeper.renew(slept, at(900)).await.is_err());
        drop(sleeper);
        let refused = third.acquire(A, at(250), at(900)).await.unwrap_err();
        assert!(matches!(refused, LeaseError::NoWorker { retry_at, .. } if retry_at == at(300)), "{refused}");
        drop(other);
        assert_eq!(third.acquire(A, at(250), at(400)).await.unwrap(), lease(0, A, 300, 400));
    }

    #[tokio::test]
    async fn a_file_of_version_1_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("00003.lease");
        let text = "flashsale worker lease 1\nworker 3\nuntil_ms 900\nchecksum ";
        let written = of_version_1(3, 900);
        assert!(written.starts_with(text), "{written}");
        fs::write(&path, &written).unwrap();
        let leases = LeaseFile::new(directory.path(), 3..=3).unwrap();

        // A process of the version that wrote it has the worker id, and does not expect to lose it.
        let living = open(&directory.path().join("00003.lock")).unwrap();
        living.try_lock().unwrap();
        for now in [100, 5_000] {
            let refused = leases.acquire(A, at(now), at(6_000)).await.unwrap_err();
            assert!(matches!(refused, LeaseError::NoWorker { .. }), "{refused}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), written);
        drop(living);
        assert_eq!(leases.acquire(A, at(100), at(200)).await.unwrap(), lease(3, A, 900, 900));
        assert!(fs::read_to_string(&path).unwrap().starts_with(HEADER));
    }

    #[tokio::test]
    async fn a_damaged_file_is_an_error_that_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("00000.lease");
        let good = render(0, WorkerState { holder: Some(A), from: at(5), until: at(1_790_000_000_000) });
        for position in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[position] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
            let error = leases.acquire(A, at(0), at(1)).await.unwrap_err();
            assert!(matches!(error, LeaseError::Damaged { .. }), "byte {position}: {error}");
            assert!(error.to_string().contains("Move the file away"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was overwritten");
        }
        for content in [
            "",
            &good[..good.len() - 1],
            &format!("{good}\n"),
            &render(1, WorkerState::default()),
            &of_version_1(1, 5),
        ] {
            fs::write(&path, content).unwrap();
            let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
            assert!(
                matches!(leases.acquire(A, at(0), at(1)).await, Err(LeaseError::Damaged { .. })),
                "{content:?}"
            );
        }
        fs::write(&path, good.replace("lease 2", "lease 3")).unwrap();
        let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
        let error = leases.acquire(A, at(0), at(1)).await.unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
    }

    #[tokio::test]
    async fn no_lease_is_granted_if_the_mark_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
        // A directory at the path of the new file makes the write fail for every user, even root.
        let obstacle = directory.path().join("00000.new");
        fs::create_dir(&obstacle).unwrap();
        let error = leases.acquire(A, at(10), at(20)).await.unwrap_err();
        assert!(matches!(error, LeaseError::Store { .. }), "{error}");
        assert!(error.to_string().contains("00000.lease"), "{error}");
        fs::remove_dir(&obstacle).unwrap();
        let lease = leases.acquire(A, at(10), at(20)).await.unwrap();
        fs::create_dir(&obstacle).unwrap();
        assert!(leases.renew(lease, at(30)).await.is_err());
        fs::remove_dir(&obstacle).unwrap();
        drop(leases);
        let leases = LeaseFile::new(directory.path(), 0..=0).unwrap();
        assert_eq!(leases.acquire(B, at(10), at(40)).await.unwrap().from, at(20));
    }
}
