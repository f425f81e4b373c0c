//! Prepares the lanes of an activity for its opening, outside the writer thread.

use std::sync::Arc;

use super::engine::EmbeddedLedger;
use crate::ledger::{LedgerError, Terms, state_machine::Prepared};

impl EmbeddedLedger {
    /// Builds the lanes of an activity, with memory for its orders unless it is over.
    pub(super) async fn prepare(&self, terms: Arc<Terms>) -> Result<Prepared, LedgerError> {
        let (role, room) = (self.role(), self.room.clone());
        let is_over = terms.window().ends_at() <= self.clock.now();
        let prepare = move || {
            if is_over {
                return Prepared::bare(role, &terms);
            }
            let mut prepared = Prepared::new(role, &terms, &room);
            prepared.prefault();
            prepared
        };
        tokio::task::spawn_blocking(prepare).await.map_err(|error| {
            LedgerError::Unavailable(format!("the lanes could not be prepared: {error}").into())
        })
    }
}
