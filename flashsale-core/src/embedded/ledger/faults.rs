//! A simulated disk for tests, with injected faults and power cuts.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

/// A disk in memory. Writes are durable only after a sync.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a reader sees.
    bytes: Vec<u8>,
    /// What is certain to survive a power cut.
    synced: Vec<u8>,
    /// The writes since the last sync.
    unsynced: Vec<Write>,
    faults: Faults,
    syncs: u64,
}

#[derive(Clone, Debug)]
enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

/// The faults to inject.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// The capacity of the disk in bytes.
    pub(super) capacity: Option<usize>,
    /// How many more syncs succeed.
    pub(super) syncs: Option<u64>,
    /// How many more writes succeed.
    pub(super) writes: Option<u64>,
}

impl Disk {
    pub(super) fn set(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
    }

    pub(super) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    pub(super) fn length(&self) -> usize {
        self.state().bytes.len()
    }

    /// The disk after the process was killed: all writes are there.
    pub(super) fn after_kill(&self) -> Self {
        let bytes = self.state().bytes.clone();
        Self::holding(bytes)
    }

    /// The disk after a power cut: everything synced, and any of the later writes, whole or torn.
    pub(super) fn after_power_cut(&self, random: &mut fastrand::Rng) -> Self {
        let state = self.state();
        let mut bytes = state.synced.clone();
        for write in &state.unsynced {
            if random.bool() {
                continue;
            }
            match write {
                Write::Length(length) => bytes.resize(*length, 0),
                Write::Bytes(at, written) => {
                    let kept =
                        if random.u8(..8) == 0 { random.usize(..=written.len()) } else { written.len() };
                    if bytes.len() < at + kept {
                        bytes.resize(at + kept, 0);
                    }
                    bytes[*at..at + kept].copy_from_slice(&written[..kept]);
                }
            }
        }
        Self::holding(bytes)
    }

    fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { synced: bytes.clone(), bytes, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn spend(left: &mut Option<u64>) -> io::Result<()> {
        match left {
            Some(0) => Err(io::Error::other("injected fault")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_capacity(&self, length: usize) -> io::Result<()> {
        match self.faults.capacity {
            Some(capacity) if length > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let state = self.state();
        let bytes = state.bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let length = usize::try_from(len).unwrap();
        let mut state = self.state();
        state.check_capacity(length)?;
        state.bytes.resize(length, 0);
        state.unsynced.push(Write::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        State::spend(&mut state.faults.syncs)?;
        state.syncs += 1;
        let writes = std::mem::take(&mut state.unsynced);
        for write in writes {
            match write {
                Write::Length(length) => state.synced.resize(length, 0),
                Write::Bytes(at, written) => state.synced[at..at + written.len()].copy_from_slice(&written),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let mut state = self.state();
        State::spend(&mut state.faults.writes)?;
        let end = at + data.len();
        state.check_capacity(end)?;
        state.bytes.get_mut(at..end).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        state.unsynced.push(Write::Bytes(at, data.to_vec()));
        Ok(())
    }
}
