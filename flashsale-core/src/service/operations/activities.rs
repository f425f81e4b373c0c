//! Activities: drafts, review, publication and live changes.

use serde::Deserialize;

use super::{OperationError, Operations, ledger_sync::is_over, same};
use crate::{
    catalogue::{CatalogueError, Versioned},
    domain::{
        Activity, ActivityId, ActivityStatus, Attribution, Buckets, Invalid, Name, OfferTerms, Selling,
        SkuId, Text, Window,
    },
};

/// How often a change without an expected version is tried again on a newer version.
const ATTEMPTS: usize = 5;

/// The content of a new activity.
#[derive(Clone, Debug)]
pub struct NewActivity {
    /// The id; a new one if `None`.
    pub id: Option<ActivityId>,
    /// The name shown to buyers.
    pub name: Name,
    /// The description on the activity's page.
    pub description: Option<Text>,
    /// When it sells.
    pub window: Window,
    /// The number of lanes that its ledger uses.
    pub buckets: Buckets,
    /// The offers.
    pub offers: Vec<OfferTerms>,
}

/// A change of an activity. Fields that are `None` stay as they are.
#[derive(Clone, Debug, Default)]
pub struct ActivityEdit {
    /// The new name.
    pub name: Option<Name>,
    /// The new description; `Some(None)` removes it.
    pub description: Option<Option<Text>>,
    /// The new start.
    pub starts_at: Option<crate::domain::Timestamp>,
    /// The new end.
    pub ends_at: Option<crate::domain::Timestamp>,
    /// The new number of lanes.
    pub buckets: Option<Buckets>,
    /// The new offers, replacing all present ones.
    pub offers: Option<Vec<OfferTerms>>,
}

/// A step in the life of an activity. Repeating a step changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityStep {
    /// From draft to review.
    Submit,
    /// From submitted to approved, by someone other than the creator.
    Approve,
    /// From submitted or approved back to draft.
    Reject,
    /// From approved to published: visible to buyers, and sold in its window.
    Publish,
    /// Stops taking orders for now.
    Pause,
    /// Takes orders again after a pause.
    Resume,
    /// Stops taking orders for good. Orders already placed can still be paid in time.
    End,
    /// Hides a published activity that is over.
    Archive,
}

impl Operations {
    /// Creates a draft. If an identical activity with this id exists, returns it.
    ///
    /// # Errors
    /// [`OperationError`]: conflict if the id is taken, refused if an offer does not match its SKU.
    pub async fn create_activity(
        &self,
        new: NewActivity,
        by: &Attribution,
    ) -> Result<Versioned<Activity>, OperationError> {
        let id = match new.id {
            Some(id) => id,
            None => self.fresh_id()?,
        };
        let activity = Activity {
            id,
            name: new.name,
            description: new.description,
            window: new.window,
            creator: by.actor.clone(),
            reviewer: None,
            status: ActivityStatus::Draft,
            buckets: new.buckets,
            selling: Selling::On,
            offers: new.offers,
        };
        let result = self.catalogue.put_activity(None, activity.clone(), by).await;
        let present = match &result {
            Err(CatalogueError::Conflict { .. }) => self.catalogue.activity(id).await?,
            _ => None,
        };
        Ok(same(present, &activity).map_or(result, Ok)?)
    }

    /// Changes an activity: a draft entirely, a published one within the rules of the catalogue,
    /// and then in the ledger too. If `expected` is set, only that version is changed.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn edit_activity(
        &self,
        id: ActivityId,
        expected: Option<u64>,
        edit: &ActivityEdit,
        by: &Attribution,
    ) -> Result<Versioned<Activity>, OperationError> {
        self.change(id, expected, by, |activity| {
            if let Some(name) = &edit.name {
                activity.name = name.clone();
            }
            if let Some(description) = &edit.description {
                activity.description.clone_from(description);
            }
            let starts_at = edit.starts_at.unwrap_or(activity.window.starts_at());
            let ends_at = edit.ends_at.unwrap_or(activity.window.ends_at());
            activity.window = Window::new(starts_at, ends_at)?;
            activity.buckets = edit.buckets.unwrap_or(activity.buckets);
            if let Some(offers) = &edit.offers {
                activity.offers.clone_from(offers);
            }
            Ok(())
        })
        .await
    }

    /// Adds an offer to a draft. Does nothing if an identical offer exists.
    ///
    /// # Errors
    /// [`OperationError`]; invalid if the SKU is already offered on other terms.
    pub async fn attach_offer(
        &self,
        id: ActivityId,
        expected: Option<u64>,
        offer: &OfferTerms,
        by: &Attribution,
    ) -> Result<Versioned<Activity>, OperationError> {
        self.change(id, expected, by, |activity| {
            if activity.offer(offer.sku()) != Some(offer) {
                activity.offers.push(offer.clone());
            }
            Ok(())
        })
        .await
    }

    /// Replaces an offer's terms by what `edit` returns. Only limits can change once published.
    ///
    /// # Errors
    /// [`OperationError`]; not found if there is no such offer; errors of `edit`.
    pub async fn edit_offer(
        &self,
        id: ActivityId,
        sku: SkuId,
        expected: Option<u64>,
        edit: impl Fn(&OfferTerms) -> Result<OfferTerms, Invalid> + Send + Sync,
        by: &Attribution,
    ) -> Result<Versioned<Activity>, OperationError> {
        self.change(id, expected, by, |activity| {
            let offer = activity.offers.iter_mut().find(|offer| offer.sku() == sku);
            let offer = offer.ok_or(CatalogueError::NotFound(crate::catalogue::Item::Offer(id, sku)))?;
            *offer = edit(offer)?;
            Ok(())
        })
        .await
    }

    /// Removes an offer from a draft.
    ///
    /// # Errors
    /// [`OperationError`]; not found if there is no such offer.
    pub async fn detach_offer(
        &self,
        id: ActivityId,
        sku: SkuId,
        expected: Option<u64>,
        by: &Attribution,
    ) -> Result<Versioned<Activity>, OperationError> {
        self.change(id, expected, by, |activity| {
            let before = activity.offers.len();
            activity.offers.retain(|offer| offer.sku() != sku);
            if activity.offers.len() == before {
                return Err(CatalogueError::NotFound(crate::catalogue::Item::Offer(id, sku)).into());
            }
            Ok(())
        })
        .await
    }

    /// Moves an activity one step through its life.
    ///
    /// # Errors
    /// [`OperationError`]: [`WrongState`](OperationError::WrongState) if its state does not allow
    /// the step, [`OwnWork`](OperationError::OwnWork) if the creator approves it.
    pub async fn step(
        &self,
        id: ActivityId,
        expected: Option<u64>,
        step: ActivityStep,
        by: &Attribution,
    ) -> Result<Versioned<Activity>, OperationError> {
        self.change(id, expected, by, |activity| self.take(activity, step, by)).await
    }

    fn take(
        &self,
        activity: &mut Activity,
        step: ActivityStep,
        by: &Attribution,
    ) -> Result<(), OperationError> {
        use ActivityStatus::{Approved, Archived, Draft, Published, Submitted};
        let now = self.sales.clock().now();
        let over = is_over(activity.selling, activity.window, now);
        match (step, activity.status, activity.selling) {
            (ActivityStep::Submit, Draft, _) => {
                // Report what a ledger would refuse before a reviewer looks at it.
                self.terms_of(activity)?;
                activity.status = Submitted;
            }
            (ActivityStep::Approve, Submitted, _) if activity.creator == by.actor => {
                return Err(OperationError::OwnWork);
            }
            (ActivityStep::Approve, Submitted, _) => {
                (activity.status, activity.reviewer) = (Approved, Some(by.actor.clone()));
            }
            (ActivityStep::Reject, Submitted | Approved, _) => {
                (activity.status, activity.reviewer) = (Draft, None);
            }
            (ActivityStep::Publish, Approved, _) if over => {
                let reason = "the window is over; reject the activity, change it and have it approved again";
                return Err(Invalid::new("ends_at", reason).into());
            }
            (ActivityStep::Publish, Approved, _) => activity.status = Published,
            (ActivityStep::Pause, Published, Selling::On) => activity.selling = Selling::Paused,
            (ActivityStep::Resume, Published, Selling::Paused) => activity.selling = Selling::On,
            (ActivityStep::End, Published, Selling::On | Selling::Paused) => {
                activity.selling = Selling::Ended
            }
            (ActivityStep::Archive, Published, _) if !over => return Err(OperationError::NotOver),
            (ActivityStep::Archive, Published, _) => activity.status = Archived,
            // A repeated step.
            (ActivityStep::Submit, Submitted, _)
            | (ActivityStep::Reject, Draft, _)
            | (ActivityStep::Publish, Published, _)
            | (ActivityStep::Pause, Published, Selling::Paused)
            | (ActivityStep::Resume, Published, Selling::On)
            | (ActivityStep::End, Published, Selling::Ended)
            | (ActivityStep::Archive, Archived, _) => {}
            (ActivityStep::Approve, Approved, _) if activity.reviewer.as_ref() == Some(&by.actor) => {}
            (_, status, selling) => return Err(OperationError::WrongState { status, selling }),
        }
        Ok(())
    }

    /// Reads, changes and writes an activity, and applies it to the ledger.
    async fn change(
        &self,
        id: ActivityId,
        expected: Option<u64>,
        by: &Attribution,
        change: impl Fn(&mut Activity) -> Result<(), OperationError> + Send + Sync,
    ) -> Result<Versioned<Activity>, OperationError> {
        let item = crate::catalogue::Item::Activity(id);
        for attempt in 1.. {
            let present = self.catalogue.activity(id).await?.ok_or(CatalogueError::NotFound(item))?;
            if expected.is_some_and(|expected| expected != present.version) {
                return Err(CatalogueError::Conflict { item, expected, found: present.version }.into());
            }
            let mut next = present.value;
            change(&mut next)?;
            match self.catalogue.put_activity(Some(present.version), next, by).await {
                Err(CatalogueError::Conflict { .. }) if expected.is_none() && attempt < ATTEMPTS => {}
                result => {
                    let written = result?;
                    self.apply(&written, by).await?;
                    if written.value.status == ActivityStatus::Archived {
                        self.sales.note_changes(id);
                        self.archived.notify_one();
                    }
                    return Ok(written);
                }
            }
        }
        unreachable!("the last attempt returns")
    }
}
