//! Activities out of memory: what leaves, what is kept of it elsewhere, and how it comes back.
//!
//! The state machine does no I/O. It hands out a leaving activity as a value, and takes it back as
//! one. Until the caller has stored the value, the state machine keeps the activity too, so that a
//! snapshot has it.
//!
//! A value is named by the batch in which its activity left, and so are the records of leaving and
//! coming back. A journal may be older or newer than the store. Replaying it, an activity leaves only if
//! the store has just that value. Records of an activity that is not in memory, but is in the store, are
//! skipped: the store has their effects.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    CorruptState,
    activity::ActivityState,
    away::{LeavingActivity, StoredActivity},
    batch::Batch,
    journal_record::Record,
    machine::StateMachine,
    prepared::Prepared,
    snapshot_image::SaleImage,
};
use crate::{
    domain::{ActivityId, Order, SkuId, Timestamp},
    ledger::{BatchId, Bucket, Consumer, Lane, LedgerRole, StepId, Stock, Terms, wire::Wire},
};

/// What is kept of an activity besides its orders. It can be stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct ArchivedActivity {
    terms: Arc<Terms>,
    stock: Vec<(SkuId, Stock)>,
    sale: SaleImage<Order>,
    steps: Vec<(Bucket, Vec<StepId>)>,
}

/// An activity that was read back and is ready for memory.
#[derive(Debug)]
pub struct ReturningActivity {
    left_in: BatchId,
    state: ActivityState,
}

impl StateMachine {
    /// Tells a state machine that was just loaded which activities are stored elsewhere, with the
    /// batches in which they left.
    pub fn set_archived(&mut self, stored: BTreeMap<ActivityId, StoredActivity>) {
        self.away.stored = stored;
    }

    /// The activities that are not in memory, with the batches in which they left.
    pub fn archived(&self) -> impl Iterator<Item = (ActivityId, StoredActivity)> + '_ {
        let stored = self.away.stored.iter().filter(|(activity, _)| !self.sales.contains_key(activity));
        stored.map(|(activity, left_in)| (*activity, *left_in))
    }

    /// Whether an activity is known but not in memory.
    pub fn is_archived(&self, activity: ActivityId) -> bool {
        if self.away.stored.is_empty() && self.away.leaving.is_empty() {
            return false;
        }
        !self.sales.contains_key(&activity)
            && (self.away.stored.contains_key(&activity) || self.away.leaving.contains_key(&activity))
    }

    /// Whether an activity is stored elsewhere and cannot be read here. One that is leaving can.
    pub fn is_stored(&self, activity: ActivityId) -> bool {
        self.is_archived(activity) && !self.away.leaving.contains_key(&activity)
    }

    /// The activities that can be read: those in memory, and those that are leaving.
    pub(super) fn readable(&self) -> impl Iterator<Item = (ActivityId, &ActivityState)> {
        let leaving = self.away.leaving.iter().map(|(activity, leaving)| (*activity, &leaving.state));
        self.sales.iter().map(|(activity, state)| (*activity, state)).chain(leaving)
    }

    /// The activities that can be read.
    pub fn in_memory(&self) -> Vec<ActivityId> {
        self.readable().map(|(activity, _)| activity).collect()
    }

    /// An activity that can be read.
    pub(super) fn to_read(&self, activity: ActivityId) -> Option<&ActivityState> {
        let leaving = || self.away.leaving.get(&activity).map(|leaving| &leaving.state);
        self.sales.get(&activity).or_else(leaving)
    }

    /// Takes an activity out of memory, if it rests: its window is over, and there are no open orders,
    /// refunds due, transfers, kept captures or entries that a consumer has not acknowledged. `None` if it
    /// does not.
    ///
    /// Store the value, then call [`StateMachine::left`]; or [`StateMachine::stay`] if that fails.
    pub fn leave(&mut self, batch: Batch, activity: ActivityId) -> Option<Arc<LeavingActivity>> {
        let rests = |sale: &&ActivityState| self.role == LedgerRole::Single && sale.rests(batch.now);
        self.sales.get(&activity).filter(rests)?;
        let skus: Vec<_> = self.terms(activity)?.offers().iter().map(|offer| offer.sku()).collect();
        let stock = skus.into_iter().filter_map(|sku| Some((sku, self.stock(activity, sku)?))).collect();
        let state = self.sales.remove(&activity)?;
        self.journal.push(&Record::Left(activity, batch.id));
        let leaving = Arc::new(LeavingActivity { left_in: batch.id, stock, state });
        self.away.leaving.insert(activity, Arc::clone(&leaving));
        Some(leaving)
    }

    /// Forgets a leaving activity that is now stored. Returns it, so that the caller can free its
    /// memory.
    pub fn left(&mut self, activity: ActivityId) -> Option<Arc<LeavingActivity>> {
        let leaving = self.away.leaving.remove(&activity)?;
        self.away.stored.insert(activity, leaving.stored());
        Some(leaving)
    }

    /// Keeps a leaving activity in memory after all.
    pub fn stay(&mut self, activity: ActivityId) {
        let Some(leaving) = self.away.leaving.remove(&activity) else { return };
        self.journal.push(&Record::Returned(activity, leaving.left_in));
        let mut state = match Arc::try_unwrap(leaving) {
            Ok(leaving) => leaving.state,
            Err(shared) => shared.state.clone(),
        };
        state.renew_consumers(&self.consumers);
        self.sales.insert(activity, state);
    }

    /// Brings a stored activity back into memory. Has no effect if it is there, or if the value is
    /// not the stored one any more.
    pub fn bring_back(&mut self, returning: ReturningActivity) {
        let ReturningActivity { left_in, mut state } = returning;
        let activity = state.lanes[0].lane.activity;
        if !self.returns(activity, left_in) {
            return;
        }
        state.renew_consumers(&self.consumers);
        if !mutant!("return-not-journalled") {
            self.journal.push(&Record::Returned(activity, left_in));
        }
        self.sales.insert(activity, state);
    }

    /// Replays that an activity left.
    pub(super) fn replay_left(&mut self, activity: ActivityId, left_in: BatchId) {
        if self.stored_from(activity) == Some(left_in) {
            self.sales.remove(&activity);
        }
    }

    fn stored_from(&self, activity: ActivityId) -> Option<BatchId> {
        self.away.stored.get(&activity).map(|stored| stored.left_in)
    }

    /// Whether an activity can come back as the value with this name.
    pub(super) fn returns(&self, activity: ActivityId, left_in: BatchId) -> bool {
        self.is_archived(activity)
            && !self.away.leaving.contains_key(&activity)
            && self.stored_from(activity) == Some(left_in)
    }
}

impl ActivityState {
    /// Brings the outboxes up to date with the consumers that came and went meanwhile.
    pub(super) fn renew_consumers(&mut self, consumers: &[Consumer]) {
        for lane in &mut self.lanes {
            if !mutant!("archive-keeps-old-consumers") {
                lane.outbox.retain(consumers);
                lane.outbox.add(consumers, lane.head.sequence);
            }
        }
    }

    /// Whether nothing happens in the activity at `now` or later, unless somebody asks.
    fn rests(&self, now: Timestamp) -> bool {
        let lane_rests = |lane: &super::lane::LaneState| {
            lane.is_over(now)
                && lane.orders.open() == 0
                && lane.refunds.is_empty()
                && lane.transit.is_empty()
                && (lane.kept.is_empty() || mutant!("kept-captures-archived"))
        };
        let is_read = |lane: &super::lane::LaneState| {
            lane.outbox.acknowledged.iter().all(|(_, sequence)| *sequence == lane.head.sequence)
        };
        self.lanes.iter().all(lane_rests) && self.lanes.iter().all(is_read)
    }
}

impl LeavingActivity {
    /// What names it among the stored values of its activity.
    pub fn stored(&self) -> StoredActivity {
        let events = self.state.lanes.iter().map(|lane| lane.head.sequence).sum();
        StoredActivity { left_in: self.left_in, events }
    }

    pub(super) fn state(&self) -> &ActivityState {
        &self.state
    }

    /// What is kept besides the orders.
    pub fn content(&self) -> ArchivedActivity {
        let lanes = &self.state.lanes;
        let steps = lanes.iter().map(|lane| (lane.lane.bucket, lane.steps.iter().copied().collect()));
        ArchivedActivity {
            terms: Arc::clone(&lanes[0].terms),
            stock: self.stock.clone(),
            sale: self.state.image_without_orders(),
            steps: steps.collect(),
        }
    }

    /// Its orders, in the order in which they must be given back.
    pub fn orders(&self) -> impl Iterator<Item = Order> + '_ {
        self.state.lanes.iter().flat_map(|lane| lane.orders.iter().map(|(row, _)| lane.order(row)))
    }
}

impl Wire for ArchivedActivity {
    const KIND: &str = "an archived activity";
    const VERSION: u8 = 1;
}

impl ArchivedActivity {
    /// The terms with all changes.
    pub fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// The units of an offer.
    pub fn stock(&self, sku: SkuId) -> Option<Stock> {
        self.stock.iter().find(|(known, _)| *known == sku).map(|(_, stock)| *stock)
    }

    /// Builds the activity for memory. `orders` are those of [`LeavingActivity::orders`], in the same
    /// order.
    ///
    /// # Errors
    /// [`CorruptState`] if the content contradicts itself.
    pub fn returning(
        self,
        left_in: BatchId,
        orders: impl IntoIterator<Item = Order>,
    ) -> Result<ReturningActivity, CorruptState> {
        let Self { mut sale, steps, .. } = self;
        let terms = Arc::clone(sale.terms());
        for order in orders {
            let lane = Lane::of(terms.activity(), order.key.user, terms.buckets());
            sale.add_order(lane.bucket, order)?;
        }
        let mut state = ActivityState::of(&terms, Prepared::bare(LedgerRole::Single, &terms).lanes, &[]);
        sale.restore(&mut state)?;
        for (bucket, steps) in steps {
            let lane = state.lanes.get_mut(usize::from(bucket));
            lane.ok_or(CorruptState("a step of time has no lane"))?.steps = steps.into_iter().collect();
        }
        Ok(ReturningActivity { left_in, state })
    }
}
