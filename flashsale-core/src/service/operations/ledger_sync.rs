//! Applies the decisions in the catalogue to the ledger.

use std::{iter, sync::Arc};

use tokio::task::JoinSet;

use super::{OperationError, Operations};
use crate::{
    catalogue::{MAX_PAGE, Versioned},
    domain::{Activity, ActivityStatus, Attribution, Invalid, OfferTerms, Selling, Window},
    ledger::{Change, ChangeId, Lane, LedgerCalls as _, LedgerError, Terms, View},
    service::Sales,
};

/// The first change id derived from a version. It is above all generated ids, so derived changes
/// win over changes with generated ids.
const FIRST_DERIVED_ID: u64 = 1 << 62;
/// The change ids reserved per version: selling, window, and the limits of each offer.
const IDS_PER_VERSION: u64 = 1 << 10;
/// The most activities that are opened together.
const OPENED_AT_ONCE: usize = 32;
const SELLING: u64 = 0;
const WINDOW: u64 = 1;
const LIMITS: u64 = 2;

const _: () = assert!(LIMITS + Activity::MAX_OFFERS as u64 <= IDS_PER_VERSION);

impl Operations {
    /// Applies every published activity to the ledger, one after another.
    ///
    /// # Errors
    /// The first failure. Earlier activities are in force; repeat the call for the rest. If the
    /// ledger has newer changes, that is only logged.
    pub async fn apply_all(&self, by: &Attribution) -> Result<(), OperationError> {
        let mut after = None;
        loop {
            let page = self.catalogue.activities(after, MAX_PAGE).await?;
            after = page.last().map(|activity| activity.value.id);
            self.open_together(&page).await?;
            for activity in &page {
                match self.apply(activity, by).await {
                    // The other activities can still be sold; an operator can repeat this change.
                    Err(error @ OperationError::Outdated(_)) => {
                        tracing::error!(%error, "a change is not in force: the ledger has a newer one")
                    }
                    result => result?,
                }
            }
            if page.len() < MAX_PAGE {
                return Ok(());
            }
        }
    }

    /// Checks that the catalogue has every activity of the ledger.
    pub(super) async fn check_listed(&self) -> Result<(), OperationError> {
        let mut unlisted = Vec::new();
        for id in self.sales.ledger().activities().await? {
            if self.catalogue.activity(id).await?.is_none() {
                unlisted.push(id);
            }
        }
        if unlisted.is_empty() { Ok(()) } else { Err(OperationError::Unlisted(unlisted)) }
    }

    /// Applies this version of an activity to the ledger, if it is published.
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
                open(&self.sales, &terms, &activity.value).await?;
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
            if amended.is_err() {
                // Some lanes, or all, may have changed.
                self.sales.renew_sale(id).await;
            }
            amended.map_err(OperationError::NotInForce)?;
        }
        let terms = ledger.terms(id).await.map_err(OperationError::NotInForce)?.unwrap_or(terms);
        let left = self.changes(&terms, activity).await.map_err(OperationError::NotInForce)?;
        // Another process may have applied a newer version; then its changes win.
        let newest = self.catalogue.activity(id).await?.map(|newest| newest.version);
        if !left.is_empty() && newest == Some(activity.version) {
            return Err(OperationError::Outdated(id));
        }
        self.sales.renew_sale(id).await;
        self.sales.note_changes(id);
        self.record(Lane::first(id)).await;
        Ok(())
    }

    /// Opens the published activities of a page that are not open yet, all at once: the ledger can
    /// make many openings durable in one commit.
    async fn open_together(&self, page: &[Versioned<Activity>]) -> Result<(), OperationError> {
        let _one_at_a_time = self.applying.lock().await;
        let mut missing = Vec::new();
        for Versioned { value: activity, .. } in page {
            if activity.status == ActivityStatus::Published && self.sales.sale(activity.id).is_none() {
                missing.push((Arc::new(self.terms_of(activity)?), activity));
            }
        }
        for some in missing.chunks(OPENED_AT_ONCE) {
            let mut opening = JoinSet::new();
            for (terms, activity) in some {
                let (sales, terms, activity) =
                    (Arc::clone(&self.sales), Arc::clone(terms), Activity::clone(activity));
                opening.spawn(async move {
                    match sales.ledger().terms(activity.id).await.map_err(OperationError::NotInForce)? {
                        Some(_) => Ok(()),
                        None => open(&sales, &terms, &activity).await,
                    }
                });
            }
            let mut result = Ok(());
            while let Some(opened) = opening.join_next().await {
                let lost = || LedgerError::Unavailable("a task that opens an activity ended early".into());
                result = result.and(opened.unwrap_or_else(|_| Err(OperationError::NotInForce(lost()))));
            }
            result?;
        }
        Ok(())
    }

    /// Builds the terms with which an activity is opened.
    ///
    /// # Errors
    /// What a ledger would refuse.
    pub(super) fn terms_of(&self, activity: &Activity) -> Result<Terms, Invalid> {
        let Activity { id, window, buckets, offers, .. } = activity;
        Terms::new(*id, *window, buckets.value(), self.timing, offers.clone())
    }

    /// Lists the changes missing in the ledger, with ids derived from the version. The catalogue's
    /// rules fix everything else about a published activity.
    async fn changes(
        &self,
        terms: &Terms,
        activity: &Versioned<Activity>,
    ) -> Result<Vec<(ChangeId, Change)>, LedgerError> {
        let Versioned { version, value: activity } = activity;
        let number = |part| ChangeId(FIRST_DERIVED_ID + version * IDS_PER_VERSION + part);
        // An interrupted change may have reached only some lanes.
        let lanes = self.views(terms, activity).await?;
        let in_force = || iter::once(terms).chain(lanes.iter().map(|view| &*view.terms));
        let mut changes = Vec::new();
        if lanes.iter().any(|view| view.selling != activity.selling) {
            changes.push((number(SELLING), Change::Selling(activity.selling)));
        }
        if in_force().any(|terms| terms.window() != activity.window) {
            changes.push((number(WINDOW), Change::Window(activity.window)));
        }
        let mut offers: Vec<&OfferTerms> = activity.offers.iter().collect();
        offers.sort_by_key(|offer| offer.sku());
        for (part, offer) in (LIMITS..).zip(offers) {
            let mut in_force = in_force().filter_map(|terms| terms.offer(offer.sku()));
            if in_force.any(|opened| opened.limits() != offer.limits()) {
                let change = Change::Limits { sku: offer.sku(), limits: offer.limits().to_vec() };
                changes.push((number(part), change));
            }
        }
        Ok(changes)
    }

    /// Reads a view of every lane.
    async fn views(&self, terms: &Terms, activity: &Activity) -> Result<Vec<View>, LedgerError> {
        let mut views = Vec::new();
        for bucket in 0..terms.buckets().get() {
            views.push(self.sales.ledger().view(Lane { activity: activity.id, bucket }).await?);
        }
        Ok(views)
    }
}

async fn open(sales: &Sales, terms: &Arc<Terms>, activity: &Activity) -> Result<(), OperationError> {
    sales.open(Arc::clone(terms)).await.map_err(OperationError::NotInForce)?;
    tracing::info!(activity = %activity.id, name = %activity.name, "opened for sale");
    Ok(())
}

/// Whether an activity is over, by its window or by an operator's decision.
pub(super) fn is_over(selling: Selling, window: Window, now: crate::domain::Timestamp) -> bool {
    selling == Selling::Ended || now >= window.ends_at()
}
