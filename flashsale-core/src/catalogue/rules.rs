//! Pure rules on what may change in which status, shared by all [`Catalogue`](super::Catalogue)s.
//!
//! | status | by an edit | by an import |
//! |---|---|---|
//! | none yet | created as a draft | created as a draft or published |
//! | draft | everything; submit | everything; publish |
//! | submitted | status and reviewer only | content only together with publishing |
//! | approved | status only; a rejected one loses its reviewer | content only together with publishing |
//! | published | window, name, description, limits, selling; archive | window, name, description, limits |
//! | archived | nothing | nothing |
//!
//! The units of a published offer change only through ledger adjustments. An import names the
//! creator and reviewer of what it publishes, so it skips the statuses in between.

use super::{ImportedActivity, Item, Refusal};
use crate::domain::{Activity, ActivityStatus, OfferTerms, Selling, Sku};

/// Checks an edit of an activity; `old` is `None` for a new one.
///
/// # Errors
/// The first part of the change that the old status forbids.
pub fn edit(old: Option<&Activity>, new: &Activity) -> Result<(), Refusal> {
    let Some(old) = old else {
        return match new.status {
            ActivityStatus::Draft => Ok(()),
            status => Err(refusal(new, "status", format!("a new activity is a draft, not {}", word(status)))),
        };
    };
    if old.status != new.status && !old.status.may_become(new.status) {
        let reason = format!("cannot go from {} to {}", word(old.status), word(new.status));
        return Err(refusal(new, "status", reason));
    }
    if old.selling != new.selling {
        let sells = (old.status, new.status) == (ActivityStatus::Published, ActivityStatus::Published);
        if !sells || !old.selling.may_become(new.selling) {
            let reason = format!("cannot go from {} to {}", selling(old.selling), selling(new.selling));
            return Err(refusal(
                new,
                "selling",
                format!("{reason} while the activity is {}", word(old.status)),
            ));
        }
    }
    match old.status {
        ActivityStatus::Draft => Ok(()),
        ActivityStatus::Approved if new.status == ActivityStatus::Draft => {
            same_content(&Activity { reviewer: None, ..old.clone() }, new)
        }
        ActivityStatus::Submitted => {
            let reviewed = Activity { reviewer: new.reviewer.clone(), ..old.clone() };
            same_content(&reviewed, new)
        }
        ActivityStatus::Approved => same_content(old, new),
        ActivityStatus::Published => keeps_terms(old, new),
        ActivityStatus::Archived => same_content(old, new),
    }
}

/// Merges an imported activity with the current one; `old` is `None` for a new one.
///
/// # Errors
/// The first part of the change that the current status forbids.
pub fn import(old: Option<&Activity>, imported: &ImportedActivity) -> Result<Activity, Refusal> {
    use ActivityStatus::{Approved, Archived, Draft, Published, Submitted};
    let mut new = imported.activity.clone();
    if !matches!(new.status, Draft | Published) {
        return Err(refusal(
            &new,
            "status",
            format!("an import accepts draft or published, not {}", word(new.status)),
        ));
    }
    let Some(old) = old else { return Ok(new) };
    // A file defines what is sold; operators decide whether the sale is paused.
    new.selling = old.selling;
    if imported.relative_window {
        new.window = old.window;
    }
    if new.reviewer.is_none() {
        new.reviewer.clone_from(&old.reviewer);
    }
    if new.status == Draft {
        new.status = old.status;
    }
    match (old.status, new.status) {
        (Draft, _) | (Submitted | Approved, Published) => {}
        (Submitted | Approved, _) => same_content(old, &new)?,
        (Published, _) => keeps_terms(old, &new)?,
        (Archived, _) => {
            new.status = Archived;
            same_content(old, &new)?;
        }
    }
    Ok(new)
}

/// Checks a change of an SKU.
///
/// # Errors
/// If its currency changes, because existing offers have prices in the old one.
pub fn change_sku(old: Option<&Sku>, new: &Sku) -> Result<(), Refusal> {
    match old {
        Some(old) if old.list_price.currency() != new.list_price.currency() => Err(Refusal {
            item: Item::Sku(new.id),
            field: "currency",
            reason: format!(
                "is {} and cannot become {}: create a new SKU",
                old.list_price.currency(),
                new.list_price.currency()
            ),
        }),
        _ => Ok(()),
    }
}

/// Checks an offer by itself and against its SKU.
///
/// # Errors
/// If its largest order costs more than money can hold, or the SKU does not exist or has another
/// currency.
pub fn offer_of(activity: &Activity, offer: &OfferTerms, sku: Option<&Sku>) -> Result<(), Refusal> {
    let refuse = |field, reason| Err(Refusal { item: Item::Offer(activity.id, offer.sku()), field, reason });
    if let Err(invalid) = offer.largest_order() {
        return refuse(invalid.field, invalid.reason);
    }
    let Some(sku) = sku else {
        return refuse("sku_id", format!("the SKU {} does not exist", offer.sku()));
    };
    let (price, list_price) = (offer.price().currency(), sku.list_price.currency());
    if price != list_price {
        return refuse(
            "currency",
            format!("the price is in {price}, but the list price of the SKU is in {list_price}"),
        );
    }
    Ok(())
}

/// Names the step from `old` to `new` in the audit trail: `submitted`, `rejected`, `approved`,
/// `published` or `archived` by its status, `paused`, `resumed` or `ended` by its selling, or else
/// `changed`.
pub fn step_taken(old: &Activity, new: &Activity) -> &'static str {
    match (new.status, new.selling) {
        (status, selling) if status == old.status => match selling {
            selling if selling == old.selling => "changed",
            Selling::On => "resumed",
            Selling::Paused => "paused",
            Selling::Ended => "ended",
        },
        (ActivityStatus::Draft, _) => "rejected",
        (ActivityStatus::Submitted, _) => "submitted",
        (ActivityStatus::Approved, _) => "approved",
        (ActivityStatus::Published, _) => "published",
        (ActivityStatus::Archived, _) => "archived",
    }
}

/// Checks that nothing but the status changed.
fn same_content(old: &Activity, new: &Activity) -> Result<(), Refusal> {
    let why = format!("cannot change while the activity is {}", word(old.status));
    keeps_terms(old, new)?;
    let differs = [
        (old.name != new.name, "name"),
        (old.description != new.description, "description"),
        (old.window.starts_at() != new.window.starts_at(), "starts_at"),
        (old.window.ends_at() != new.window.ends_at(), "ends_at"),
        (old.offers != new.offers, "offers"),
    ];
    match differs.into_iter().find(|(differs, _)| *differs) {
        Some((_, field)) => Err(refusal(new, field, why)),
        None => Ok(()),
    }
}

/// Checks that the terms with which the ledger was opened did not change.
fn keeps_terms(old: &Activity, new: &Activity) -> Result<(), Refusal> {
    let why = format!("cannot change while the activity is {}", word(old.status));
    let differs = [
        (old.creator != new.creator, "creator"),
        (old.reviewer != new.reviewer, "reviewer"),
        (old.buckets != new.buckets, "buckets"),
    ];
    if let Some((_, field)) = differs.into_iter().find(|(differs, _)| *differs) {
        return Err(refusal(new, field, why));
    }
    for was in &old.offers {
        let item = Item::Offer(new.id, was.sku());
        let Some(is) = new.offer(was.sku()) else {
            return Err(Refusal { item, field: "sku_id", reason: format!("the offer is missing but {why}") });
        };
        if let Some(field) = changed_term(was, is) {
            let hint = if field == "units" { "; use an adjustment" } else { "" };
            return Err(Refusal { item, field, reason: format!("{why}{hint}") });
        }
    }
    match new.offers.iter().find(|offer| old.offer(offer.sku()).is_none()) {
        Some(added) => Err(Refusal {
            item: Item::Offer(new.id, added.sku()),
            field: "sku_id",
            reason: format!("an offer cannot be added while the activity is {}", word(old.status)),
        }),
        None => Ok(()),
    }
}

fn changed_term(was: &OfferTerms, is: &OfferTerms) -> Option<&'static str> {
    [
        (was.price() != is.price(), "price"),
        (was.units() != is.units(), "units"),
        (was.strategy() != is.strategy(), "strategy"),
        (was.hold() != is.hold(), "hold_seconds"),
        (was.overbook() != is.overbook(), "overbook_percent"),
        (was.late_capture() != is.late_capture(), "late_capture"),
    ]
    .into_iter()
    .find_map(|(differs, field)| differs.then_some(field))
}

fn refusal(activity: &Activity, field: &'static str, reason: String) -> Refusal {
    Refusal { item: Item::Activity(activity.id), field, reason }
}

fn selling(selling: Selling) -> &'static str {
    match selling {
        Selling::On => "on",
        Selling::Paused => "paused",
        Selling::Ended => "ended",
    }
}

fn word(status: ActivityStatus) -> &'static str {
    match status {
        ActivityStatus::Draft => "draft",
        ActivityStatus::Submitted => "submitted",
        ActivityStatus::Approved => "approved",
        ActivityStatus::Published => "published",
        ActivityStatus::Archived => "archived",
    }
}
