//! The engine's reference: the same commits written to a plain file, with an fdatasync each.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::Failure;

/// The measurements of writing all commits.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) wall: Duration,
    /// The duration of each fdatasync, in nanoseconds.
    pub(super) syncs: Histogram<u64>,
}

/// Appends the commits to a new file. Each fdatasync must persist the new file length as well.
pub(super) fn append(directory: &Path, commits: &[Vec<u8>]) -> Result<Written, Failure> {
    write(File::create(directory.join("plain"))?, commits)
}

/// Overwrites a file that has its full length already: the least work for an fdatasync.
pub(super) fn overwrite(directory: &Path, commits: &[Vec<u8>]) -> Result<Written, Failure> {
    let mut file = File::create(directory.join("plain"))?;
    for commit in commits {
        file.write_all(&vec![0; commit.len()])?;
    }
    file.sync_all()?;
    file.rewind()?;
    write(file, commits)
}

fn write(mut file: File, commits: &[Vec<u8>]) -> Result<Written, Failure> {
    let mut syncs = Histogram::new(3)?;
    let began = Instant::now();
    for commit in commits {
        file.write_all(commit)?;
        let written = Instant::now();
        file.sync_data()?;
        syncs.record(u64::try_from(written.elapsed().as_nanos())?)?;
    }
    Ok(Written { wall: began.elapsed(), syncs })
}
