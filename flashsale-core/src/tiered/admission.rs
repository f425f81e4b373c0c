//! Orders at the gate: which epoch a request expects, and what it tells the pump.

use super::{Tiered, notes::Lanes};
use crate::{
    domain::ActivityId,
    ledger::{Epoch, Lane, LedgerCalls as _, LedgerError, Outcome, Reservations, Reserve},
};

impl Tiered {
    /// Reserves at the gate, in the epoch that the truth had when this node last looked. If the gate
    /// has another one since, another node has rebuilt it, and the requests are decided again.
    pub(super) async fn admit(
        &self,
        lane: Lane,
        epoch: Option<Epoch>,
        batch: Vec<Reserve>,
    ) -> Result<Reservations, LedgerError> {
        let activity = lane.activity;
        let expected = match epoch.or_else(|| self.epochs.current(activity)) {
            Some(expected) => expected,
            None => self.read_epoch(activity).await?,
        };
        let mut answer = self.gate.reserve(lane, Some(expected), batch.clone()).await?;
        if answer.outcomes.contains(&Outcome::NotReady)
            && let Some(current) = self.newer_epoch(activity, expected).await
            && epoch.is_none()
        {
            answer = self.gate.reserve(lane, Some(current), batch).await?;
        }
        let placed = |outcome: &Outcome| matches!(outcome, Outcome::Reserved { .. });
        if answer.outcomes.iter().any(placed) {
            self.notes.add(activity, Lanes::one(lane.bucket));
        }
        Ok(answer)
    }

    /// Returns the epoch of the truth if it is newer. Asks the truth seldom, because requests that
    /// find a gate not ready are many; the pump looks at the gate, which may be lost.
    async fn newer_epoch(&self, activity: ActivityId, than: Epoch) -> Option<Epoch> {
        if self.epochs.may_ask(activity) {
            match self.read_epoch(activity).await {
                Ok(_) => self.notes.add(activity, Lanes::none()),
                Err(error) => tracing::debug!(%activity, %error, "the epoch could not be read"),
            }
        }
        self.epochs.current(activity).filter(|current| *current > than)
    }

    async fn read_epoch(&self, activity: ActivityId) -> Result<Epoch, LedgerError> {
        let epoch = match self.truth.epoch(activity).await {
            Ok(epoch) => epoch,
            // Not open at the truth: let the gate answer that it is not ready.
            Err(LedgerError::NotOpen) => Epoch(0),
            Err(error) => return Err(error),
        };
        self.epochs.saw(activity, epoch);
        Ok(epoch)
    }
}
