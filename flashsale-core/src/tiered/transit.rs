//! Units that travel between the gate's buckets.

use super::{Tiered, notes::Lanes};
use crate::ledger::{Event, Lane, LedgerCalls as _, LedgerError, Transfer};

impl Tiered {
    /// Makes the source forget a transfer if the truth has persisted its arrival: a gate may lose what
    /// is not persisted. Otherwise has no effect, and does not wait for the truth.
    pub(super) async fn forget_persisted(&self, transfer: Transfer) -> Result<(), LedgerError> {
        if self.has_persisted(transfer).await? || mutant!("forgotten-before-persisted") {
            self.gate.forget(transfer).await
        } else {
            self.notes.add(transfer.activity, Lanes::one(transfer.to));
            Ok(())
        }
    }

    /// Returns whether the truth certainly has an arrival that the gate has.
    async fn has_persisted(&self, transfer: Transfer) -> Result<bool, LedgerError> {
        let lane = Lane { activity: transfer.activity, bucket: transfer.to };
        let position = self.truth.position(lane).await?;
        let limit = self.options.entries + 1;
        // Without that entry, another node has persisted more meanwhile, or the gate is to be rebuilt.
        let Some(entries) = self.entries_from(lane, position, limit).await? else { return Ok(false) };
        let is_all = entries.len() < limit;
        Ok(is_all && entries[1..].iter().all(|entry| entry.event != Event::Received(transfer)))
    }
}
