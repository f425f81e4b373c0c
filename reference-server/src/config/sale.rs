//! `[storage]`, `[order]` and `[ticket]`: data, order queues and tickets.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Where the embedded engine keeps its data; table `[storage]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// `storage.directory`: data directory of one process. Default ./flashsale-data; flag `--data`.
    pub directory: PathBuf,
    /// `storage.in_memory`: keep data only in memory. Default false; flag `--in-memory`.
    pub in_memory: bool,
    /// `storage.snapshot_after_bytes`: journal growth that triggers a snapshot. A smaller value
    /// shortens the start after a crash but writes snapshots more often. Default 268435456.
    pub snapshot_after_bytes: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("./flashsale-data"),
            in_memory: false,
            snapshot_after_bytes: 256 << 20,
        }
    }
}

impl StorageConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        let allowed = 4_096..=1 << 40;
        super::range::within(problems, "storage.snapshot_after_bytes", self.snapshot_after_bytes, allowed);
    }
}

/// Order queues in front of the ledger; table `[order]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrderConfig {
    /// `order.reserve_queue`: queued reserves per lane; more are answered `busy`. Default 65536.
    pub reserve_queue: usize,
    /// `order.advance_queue`: the same for payments and cancels. Default 16384.
    pub advance_queue: usize,
    /// `order.max_batch`: maximum items in one ledger batch. Default 4096.
    pub max_batch: usize,
}

impl Default for OrderConfig {
    fn default() -> Self {
        Self { reserve_queue: 65_536, advance_queue: 16_384, max_batch: 4_096 }
    }
}

impl OrderConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "order.reserve_queue", self.reserve_queue, 1..=1_000_000);
        super::range::within(problems, "order.advance_queue", self.advance_queue, 1..=1_000_000);
        super::range::within(problems, "order.max_batch", self.max_batch, 1..=10_000);
    }
}

/// When tickets are issued and how long they are valid; table `[ticket]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TicketConfig {
    /// `ticket.lead_seconds`: how long before the sale tickets are issued. Default 60.
    pub lead_seconds: u64,
    /// `ticket.lifetime_seconds`: validity from issue or sale start, the later one. Default 300.
    pub lifetime_seconds: u64,
}

impl Default for TicketConfig {
    fn default() -> Self {
        Self { lead_seconds: 60, lifetime_seconds: 300 }
    }
}

impl TicketConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        super::range::within(problems, "ticket.lead_seconds", self.lead_seconds, 0..=86_400);
        super::range::within(problems, "ticket.lifetime_seconds", self.lifetime_seconds, 10..=86_400);
    }

    /// Returns `lead_seconds` as a duration.
    pub fn lead(&self) -> Duration {
        Duration::from_secs(self.lead_seconds)
    }

    /// Returns `lifetime_seconds` as a duration.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_seconds)
    }
}
