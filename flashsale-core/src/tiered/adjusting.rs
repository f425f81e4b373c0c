//! Adjustments: which tier gives or takes the units first.

use super::{Tiered, notes::Lanes};
use crate::ledger::{Adjusted, Adjustment, LedgerCalls as _, LedgerError};

/// The number of attempts at a negative adjustment; the gate may be rebuilt during each.
const ATTEMPTS: usize = 5;

impl Tiered {
    /// Applies positive deltas at the truth first. Takes negative ones from the gate, where buyers
    /// compete for the units; they reach the truth through the outbox under the gate's epoch. If
    /// the gate is rebuilt in between, the change is lost with it and retried under the same id.
    pub(super) async fn adjust_units(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
        let activity = adjustment.activity;
        if adjustment.delta > 0 {
            let adjusted = self.truth.adjust(adjustment).await?;
            self.notes.add(activity, Lanes::none());
            return Ok(adjusted);
        }
        for _ in 0..ATTEMPTS {
            if let Some(known) = self.truth.adjustment(activity, &adjustment.id).await? {
                let same = known == (adjustment.sku, adjustment.delta);
                return Ok(if same { Adjusted::Replayed } else { Adjusted::IdReused });
            }
            let before = self.gate.open_epoch(activity).await?;
            let taken = match self.gate.adjust(adjustment.clone()).await {
                Err(LedgerError::NotOpen) => {
                    self.round_or_wait(activity, &Lanes::All).await?;
                    continue;
                }
                taken => taken?,
            };
            if !matches!(taken, Adjusted::Done | Adjusted::Replayed) {
                return Ok(taken);
            }
            // Wait until the truth has it, or the gate has returned or lost it. The gate adjusts in
            // its first lane; the other lanes need not be persisted for this.
            while self.gate.adjustment(activity, &adjustment.id).await?.is_some() {
                self.round_or_wait(activity, &Lanes::one(0)).await?;
                if self.truth.adjustment(activity, &adjustment.id).await?.is_some() {
                    return Ok(taken);
                }
            }
            if self.gate.open_epoch(activity).await? == before {
                let stock = self.truth.stock(activity, adjustment.sku).await?.unwrap_or_default();
                return Ok(Adjusted::Insufficient { available: u32::try_from(stock.available).unwrap_or(0) });
            }
        }
        Err(LedgerError::Unavailable("the gate keeps being rebuilt".into()))
    }
}
