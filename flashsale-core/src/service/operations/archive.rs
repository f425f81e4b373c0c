//! Moves archived activities out of memory.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::watch;

use super::{OperationError, Operations};
use crate::{
    domain::{ActivityId, ActivityStatus},
    interruptible_sleep::pause,
};

/// How long an archived activity stays in memory at most, once nothing is open in it: one that was just
/// brought back may be needed again.
const EVERY: Duration = Duration::from_secs(60);

impl Operations {
    /// Moves archived activities out of memory once they rest, until `stop` becomes true: at once when
    /// they are archived, else within a minute.
    pub async fn keep_archived(&self, mut stop: watch::Receiver<bool>) {
        let changes = self.sales.follow_changes();
        let mut left: BTreeSet<_> = self.sales.all().iter().map(|sale| sale.terms().activity()).collect();
        while !*stop.borrow() {
            left.extend(changes.take().iter().map(|lane| lane.activity));
            left = self.archive_resting(left).await;
            tokio::select! {
                () = self.archived.notified() => {}
                () = pause(&mut stop, EVERY) => {
                    if let Err(error) = self.sales.find_left().await {
                        tracing::warn!(%error, "the ledger cannot say which activities are in memory");
                    }
                }
            }
        }
    }

    /// Moves those of the activities that are archived and rest out of memory. Returns those that are
    /// archived and do not rest yet.
    pub async fn archive_resting(&self, activities: BTreeSet<ActivityId>) -> BTreeSet<ActivityId> {
        let mut left = BTreeSet::new();
        for activity in activities {
            match self.archive_if_resting(activity).await {
                Ok(true) => {}
                Ok(false) => {
                    left.insert(activity);
                }
                Err(error) => {
                    tracing::warn!(%activity, %error, "an archived activity stays in memory for now");
                    left.insert(activity);
                }
            }
        }
        left
    }

    /// Returns whether nothing is left to do: the activity is out of memory, or is not archived.
    async fn archive_if_resting(&self, activity: ActivityId) -> Result<bool, OperationError> {
        if self.sales.sale(activity).is_none() {
            return Ok(true);
        }
        let known = self.catalogue.activity(activity).await?;
        if known.is_none_or(|known| known.value.status != ActivityStatus::Archived) {
            return Ok(true);
        }
        let archived = self.sales.archive(activity).await?;
        if archived {
            tracing::info!(%activity, "an archived activity is out of memory");
        }
        Ok(archived)
    }
}
