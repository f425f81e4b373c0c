//! Bringing the ledger up to what the catalogue says.

use std::sync::Arc;

use super::{OperationError, Operations};
use crate::{
    catalogue::{MAX_PAGE, Versioned},
    domain::{Activity, ActivityStatus, Attribution, Invalid, OfferTerms, Selling, Window},
    ledger::{Change, ChangeId, Lane, LedgerError, Terms},
};

/// Numbers of changes that follow from a version start here: above every id of a generator, so that they hold against
/// changes that were numbered by one.
const FIRST: u64 = 1 << 62;
/// What may change of one activity in one version: selling, window, and the limits of each offer.
const PARTS: u64 = 1 << 10;
const SELLING: u64 = 0;
const WINDOW: u64 = 1;
const LIMITS: u64 = 2;

const _: () = assert!(LIMITS + Activity::MAX_OFFERS as u64 <= PARTS);

impl Operations {
    /// Brings the ledger up to everything that the catalogue calls published, one activity after the other.
    ///
    /// # Errors
    /// The first failure; what came before is in force, and repeating it goes on. That the ledger has newer changes is
    /// logged only.
    pub async fn apply_all(&self, by: &Attribution) -> Result<(), OperationError> {
        let mut after = None;
        loop {
            let page = self.catalogue.activities(after, MAX_PAGE).await?;
            after = page.last().map(|activity| activity.value.id);
            for activity in &page {
                match self.apply(activity, by).await {
                    // The others can be sold all the same, and an operator can make the change again.
                    Err(error @ OperationError::Outdated(_)) => {
                        tracing::error!(%error, "a change is not in force")
                    }
                    result => result?,
                }
            }
            if page.len() < MAX_PAGE {
                return Ok(());
            }
        }
    }

    /// The activities of the ledger are in the catalogue.
    pub(super) async fn check_listed(&self) -> Result<(), OperationError> {
        let mut unlisted = Vec::new();
        for id in self.sales.ledger().activities().await? {
            if self.catalogue.activity(id).await?.is_none() {
                unlisted.push(id);
            }
        }
        if unlisted.is_empty() { Ok(()) } else { Err(OperationError::Unlisted(unlisted)) }
    }

    /// Brings the ledger up to what this version of an activity says, if it is published.
    pub(super) async fn apply(
        &self,
        activity: &Versioned<Activity>,
        by: &Attribution,
    ) -> Result<(), OperationError> {
        if activity.value.status != ActivityStatus::Published {
            return Ok(());
        }
        let _one_at_a_time = self.applying.lock().await;
        let (id, ledger) = (activity.value.id, self.sales.ledger());
        let in_force = ledger.terms(id).await.map_err(OperationError::NotInForce)?;
        let terms = match in_force {
            Some(terms) => terms,
            None => {
                let terms = Arc::new(self.terms_of(&activity.value)?);
                self.sales.open(Arc::clone(&terms)).await.map_err(OperationError::NotInForce)?;
                tracing::info!(activity = %id, name = %activity.value.name, "opened for sale");
                terms
            }
        };
        let changes = self.changes(&terms, activity).await.map_err(OperationError::NotInForce)?;
        if changes.is_empty() {
            return Ok(());
        }
        for (change_id, change) in changes {
            tracing::info!(activity = %id, ?change, "terms changed");
            let amended = ledger.amend(id, change_id, change, by.clone()).await;
            amended.map_err(OperationError::NotInForce)?;
        }
        let terms = ledger.terms(id).await.map_err(OperationError::NotInForce)?.unwrap_or(terms);
        let left = self.changes(&terms, activity).await.map_err(OperationError::NotInForce)?;
        // The reader of another version may be ahead of this one; then its changes hold, and that is right.
        let newest = self.catalogue.activity(id).await?.map(|newest| newest.version);
        if !left.is_empty() && newest == Some(activity.version) {
            return Err(OperationError::Outdated(id));
        }
        self.sales.renew_sale(id).await;
        self.record(Lane::first(id)).await;
        Ok(())
    }

    /// The terms with which an activity is opened.
    ///
    /// # Errors
    /// What a ledger would refuse.
    pub(super) fn terms_of(&self, activity: &Activity) -> Result<Terms, Invalid> {
        let Activity { id, window, buckets, offers, .. } = activity;
        Terms::new(*id, *window, buckets.value(), self.timing, offers.clone())
    }

    /// What has to change in the ledger, with the numbers that follow from the version. Everything else of a published
    /// activity is fixed by the rules of the catalogue.
    async fn changes(
        &self,
        terms: &Terms,
        activity: &Versioned<Activity>,
    ) -> Result<Vec<(ChangeId, Change)>, LedgerError> {
        let Versioned { version, value: activity } = activity;
        let number = |part| ChangeId(FIRST + version * PARTS + part);
        let mut changes = Vec::new();
        let in_force = self.in_force_everywhere(terms, activity).await?;
        if !in_force.selling {
            changes.push((number(SELLING), Change::Selling(activity.selling)));
        }
        if !in_force.window || terms.window() != activity.window {
            changes.push((number(WINDOW), Change::Window(activity.window)));
        }
        let mut offers: Vec<&OfferTerms> = activity.offers.iter().collect();
        offers.sort_by_key(|offer| offer.sku());
        for (part, offer) in (LIMITS..).zip(offers) {
            if terms.offer(offer.sku()).is_some_and(|opened| opened.limits() != offer.limits()) {
                let change = Change::Limits { sku: offer.sku(), limits: offer.limits().to_vec() };
                changes.push((number(part), change));
            }
        }
        Ok(changes)
    }

    /// Looks at every lane: a change that broke off has reached some only.
    async fn in_force_everywhere(&self, terms: &Terms, activity: &Activity) -> Result<InForce, LedgerError> {
        let mut in_force = InForce { selling: true, window: true };
        for bucket in 0..terms.buckets().get() {
            let view = self.sales.ledger().view(Lane { activity: activity.id, bucket }).await?;
            in_force.selling &= view.selling == activity.selling;
            in_force.window &= view.window == activity.window;
        }
        Ok(in_force)
    }
}

/// Which decisions of the catalogue have reached every lane.
struct InForce {
    selling: bool,
    window: bool,
}

/// Where an activity stands by time and by what operators decided.
pub(super) fn is_over(selling: Selling, window: Window, now: crate::domain::Timestamp) -> bool {
    selling == Selling::Ended || now >= window.ends_at()
}
