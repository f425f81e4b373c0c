//! Metrics of the process, from `/proc`.

use std::{fs, time::UNIX_EPOCH};

use rustix::param;

use super::{Exposition, Labels};

#[expect(clippy::cast_precision_loss, reason = "bytes of memory and numbers of files are far below 2^53")]
pub(super) fn read(page: &mut Exposition) {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    page.gauge("flashsale_build", "The running version, as a label; always 1.", version, 1.0);
    let page_size = param::page_size() as u64;
    if let Some(pages) = fs::read_to_string("/proc/self/statm").ok().and_then(|text| {
        let resident: u64 = text.split(' ').nth(1)?.parse().ok()?;
        Some(resident)
    }) {
        let bytes = (pages * page_size) as f64;
        page.gauge("process_resident_memory_bytes", "Resident memory in bytes.", Labels::new(), bytes);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open files and sockets.", Labels::new(), files.count() as f64);
    }
    if let Some(seconds) = fs::metadata("/proc/self").ok().and_then(|metadata| {
        let began = metadata.created().or_else(|_| metadata.modified()).ok()?;
        Some(began.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
    }) {
        page.gauge("process_start_time_seconds", "Start time since 1970.", Labels::new(), seconds);
    }
}
