//! The reference of the engine: its own bytes in its own commits, written to a plain file, one fdatasync each.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::Failure;

/// What writing took.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) wall: Duration,
    /// Each fdatasync, in nanoseconds.
    pub(super) syncs: Histogram<u64>,
}

/// Appends the commits to a new file, whose length each fdatasync has to keep too.
pub(super) fn append(directory: &Path, commits: &[Vec<u8>]) -> Result<Written, Failure> {
    write(File::create(directory.join("plain"))?, commits)
}

/// Writes the commits over a file that is there already in full length: the least that an fdatasync can have to do.
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
