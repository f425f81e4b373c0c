//! Snapshot files.
//!
//! A file is `header · image · checksum`. The header has eight bytes of magic, then as
//! little-endian `u64`s the format and the last journal row in the image. The [`Image`] is in
//! postcard. The checksum is the BLAKE3 hash of everything before it. Files are synced under a
//! temporary name and then renamed, so a named snapshot is complete.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::error::EmbeddedError;
use crate::{
    domain::Order,
    ledger::{
        LedgerRole,
        state_machine::{Image, OrderV1, StateMachine},
    },
};

const MAGIC: &[u8; 8] = b"flashsnp";
/// Format 1 has orders whose refunds are always whole, format 2 names no archived activities, and format 3 keeps
/// captures and what gates load apart from the lanes.
const FORMAT: u64 = 4;
const HEADER_BYTES: usize = 24;
const HASH_BYTES: usize = blake3::OUT_LEN;
const PREFIX: &str = "snapshot-";

/// Writes a snapshot whose last row is `row`, and deletes older snapshots.
pub(super) fn write(directory: &Path, row: u64, machine: &StateMachine) -> Result<(), EmbeddedError> {
    let path = directory.join(format!("{PREFIX}{row:020}"));
    let partial = path.with_extension("partial");
    let written = write_to(&partial, row, &machine.image()).and_then(|()| fs::rename(&partial, &path));
    if let Err(error) = written {
        // A leftover is harmless but may fill the disk.
        let _ = fs::remove_file(&partial);
        return Err(EmbeddedError::unusable(path, "written", error));
    }
    sync_directory(directory)?;
    for (_, old) in list(directory)?.into_iter().filter(|(old, _)| *old < row) {
        fs::remove_file(&old).map_err(|error| EmbeddedError::unusable(old, "deleted", error))?;
    }
    Ok(())
}

fn write_to(path: &Path, row: u64, image: &Image) -> io::Result<()> {
    let hashing = Hashing { file: File::create(path)?, hash: blake3::Hasher::new() };
    let mut writing = BufWriter::with_capacity(1 << 20, hashing);
    writing.write_all(MAGIC)?;
    writing.write_all(&FORMAT.to_le_bytes())?;
    writing.write_all(&row.to_le_bytes())?;
    let writing = postcard::to_io(image, writing).map_err(io::Error::other)?;
    let Hashing { mut file, hash } = writing.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.write_all(hash.finalize().as_bytes())?;
    file.sync_all()
}

/// Reads a snapshot.
pub(super) fn read(path: &Path, role: LedgerRole) -> Result<StateMachine, EmbeddedError> {
    let damaged = |reason: &str| EmbeddedError::damaged(path, reason);
    let bytes = fs::read(path).map_err(|error| EmbeddedError::unusable(path, "read", error))?;
    let Some((content, hash)) = bytes.split_last_chunk::<HASH_BYTES>() else {
        return Err(damaged("it is truncated"));
    };
    if content.len() < HEADER_BYTES || !content.starts_with(MAGIC) {
        return Err(damaged("it is not a snapshot"));
    }
    let number = |at: usize| {
        let bytes = content[at..at + 8].try_into().expect("the slice has eight bytes");
        u64::from_le_bytes(bytes)
    };
    if number(8) > FORMAT {
        return Err(EmbeddedError::Newer { path: path.into(), found: number(8), supported: FORMAT });
    }
    if blake3::hash(content) != *hash {
        return Err(damaged("its checksum does not match"));
    }
    if row_of(path) != Some(number(16)) {
        return Err(damaged("its name does not match its row"));
    }
    let image = &content[HEADER_BYTES..];
    let machine = match number(8) {
        1 => restore::<OrderV1>(image),
        _ => restore::<Order>(image),
    };
    let machine = machine.map_err(|reason| damaged(&reason))?;
    if machine.role() != role {
        return Err(EmbeddedError::OtherRole { path: path.into(), found: machine.role(), wanted: role });
    }
    Ok(machine)
}

fn restore<O: DeserializeOwned + Into<Order>>(image: &[u8]) -> Result<StateMachine, String> {
    let image: Image<O> = postcard::from_bytes(image).map_err(|error| error.to_string())?;
    StateMachine::of_image(image).map_err(|error| error.to_string())
}

/// Lists a directory's snapshots with their rows, newest first. A missing directory has none.
pub(super) fn list(directory: &Path) -> Result<Vec<(u64, PathBuf)>, EmbeddedError> {
    let unusable = |error| EmbeddedError::unusable(directory, "read", error);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unusable)?.path();
        if let Some(row) = row_of(&path) {
            found.push((row, path));
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Syncs a directory. A new file name survives a power cut only after its directory was synced.
pub(super) fn sync_directory(directory: &Path) -> Result<(), EmbeddedError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| EmbeddedError::unusable(directory, "written", error))
}

fn row_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

/// A writer that hashes everything it writes to a file.
struct Hashing {
    file: File,
    hash: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
