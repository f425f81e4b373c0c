//! Reconciliation: checks the invariants of ledger and catalogue over all stored data.

use flashsale_core::{
    catalogue::{Catalogue, CatalogueError},
    domain::{Activity, ActivityId, ActivityStatus, SkuId},
    ledger::{
        Ledger, LedgerCalls as _, LedgerError,
        invariants::{self, OwedUnits, Violation},
        state_machine::Inspection,
    },
    queue::{Queue, QueueError},
};
use serde::{Deserialize, Serialize};

use super::inspector::Inspector;
use crate::integrations::callbacks::Callbacks;

/// The result of a reconciliation.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// The violations; empty if all invariants hold.
    pub items: Vec<Finding>,
    /// Always `None`: the list is complete. Present because all lists of the API have it.
    pub next: Option<String>,
    /// The units of every offer.
    pub offers: Vec<OfferUnits>,
    /// Payment callbacks that need a person: money may be involved.
    pub parked_callbacks: u64,
}

/// A violation of an invariant.
#[derive(Debug, Serialize, Deserialize)]
pub struct Finding {
    /// The activity.
    pub activity_id: ActivityId,
    /// The invariant, `I1` to `I12`, or `catalogue` if ledger and catalogue differ.
    pub invariant: String,
    /// What was expected and what was found.
    pub detail: String,
}

/// The units of an offer.
#[derive(Debug, Serialize, Deserialize)]
pub struct OfferUnits {
    /// The activity.
    pub activity_id: ActivityId,
    /// The offer's SKU.
    pub sku_id: SkuId,
    /// Units at the opening of the offer.
    pub units: i64,
    /// The sum of all adjustments.
    pub adjusted: i64,
    /// Units that can be ordered.
    pub available: i64,
    /// Units of unpaid orders.
    pub held: i64,
    /// Units of paid orders.
    pub sold: i64,
    /// Units in transit between buckets.
    pub transit: i64,
    /// Number of orders in any status.
    pub orders: u64,
}

/// Why the reconciliation failed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The catalogue cannot be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The queue cannot be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Checks every activity that is open in the ledger, and counts parked payment callbacks.
///
/// # Errors
/// If ledger, catalogue or queue cannot be read.
pub async fn inspect(
    ledger: &dyn Ledger,
    inspector: &dyn Inspector,
    catalogue: &dyn Catalogue,
    queue: &dyn Queue,
) -> Result<Findings, AuditError> {
    let mut findings = Findings::default();
    let depths = queue.depths().await?;
    let parked = depths.iter().filter(|depth| depth.topic == Callbacks::topic()).map(|depth| depth.dead);
    findings.parked_callbacks = parked.sum();
    for id in ledger.activities().await? {
        let Some(inspection) = inspector.inspect(id).await? else { continue };
        let published = catalogue.activity(id).await?;
        let mut violations = invariants::check(&inspection, OwedUnits::Forbidden);
        match &published {
            None => violations
                .push(differs("the ledger sells an activity that the catalogue does not have".into())),
            Some(published) => {
                compare(&inspection, &published.value, &mut violations);
                // Orders may break limits that were edited later. Version 1 was never edited.
                if published.version == 1 {
                    violations.extend(invariants::check_limits_hold(&inspection));
                    check_window(&inspection, &mut violations);
                }
            }
        }
        findings.items.extend(violations.into_iter().map(|violation| Finding {
            activity_id: id,
            invariant: violation.invariant.to_owned(),
            detail: violation.what,
        }));
        findings.offers.extend(units(id, &inspection));
    }
    Ok(findings)
}

/// Checks that the ledger sells what the catalogue says.
fn compare(inspection: &Inspection, activity: &Activity, violations: &mut Vec<Violation>) {
    let terms = &inspection.terms;
    if activity.status == ActivityStatus::Published && terms.window() != activity.window {
        violations.push(differs(format!(
            "the ledger's window is {:?}, the catalogue's {:?}: publish the activity again",
            terms.window(),
            activity.window
        )));
    }
    for offer in terms.offers() {
        let Some(listed) = activity.offer(offer.sku()) else {
            violations.push(differs(format!("the catalogue does not offer SKU {}", offer.sku())));
            continue;
        };
        if listed != offer {
            violations.push(differs(format!(
                "SKU {}: the ledger sells {offer:?}, the catalogue says {listed:?}",
                offer.sku()
            )));
        }
    }
}

/// Checks I10: every order was placed inside the window.
fn check_window(inspection: &Inspection, violations: &mut Vec<Violation>) {
    let window = inspection.terms.window();
    for order in inspection.lanes.iter().flat_map(|lane| &lane.orders) {
        let inside = order.placed_at >= window.starts_at() && order.placed_at < window.ends_at();
        if !inside && order.replaces.is_none() {
            let what =
                format!("order {} was placed at {:?}, outside {window:?}", order.key.id, order.placed_at);
            violations.push(Violation { invariant: "I10", what });
        }
    }
}

fn units(activity_id: ActivityId, inspection: &Inspection) -> impl Iterator<Item = OfferUnits> + '_ {
    inspection.terms.offers().iter().enumerate().map(move |(index, offer)| {
        let lanes = inspection.lanes.iter().map(|lane| &lane.offers[index]);
        let mut units = OfferUnits {
            activity_id,
            sku_id: offer.sku(),
            units: offer.units().into(),
            adjusted: 0,
            available: 0,
            held: 0,
            sold: 0,
            transit: 0,
            orders: 0,
        };
        for lane in lanes {
            units.adjusted += lane.adjusted;
            units.available += lane.available;
            units.held += lane.held;
            units.sold += lane.sold;
            units.transit += lane.sent - lane.received;
        }
        let orders = inspection.lanes.iter().flat_map(|lane| &lane.orders);
        units.orders = orders.filter(|order| order.sku == offer.sku()).count() as u64;
        units
    })
}

fn differs(what: String) -> Violation {
    Violation { invariant: "catalogue", what }
}
