//! Inspection: the full state of an activity, for checking invariants.

use std::sync::Arc;

use super::machine::StateMachine;
use crate::{
    domain::{ActivityId, Order, SkuId, Subject, Timestamp},
    ledger::{Bucket, Epoch, Terms, Transfer},
};

/// An activity at one moment, with every stored counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The current terms.
    pub terms: Arc<Terms>,
    /// The current epoch.
    pub epoch: Epoch,
    /// Its lanes, by bucket.
    pub lanes: Vec<LaneInspection>,
}

/// A lane at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneInspection {
    /// The bucket.
    pub bucket: Bucket,
    /// The time of its last decision.
    pub last: Timestamp,
    /// The terms that this lane knows: a change reaches the lanes one after another.
    pub terms: Arc<Terms>,
    /// Every offer, in the order of the terms.
    pub offers: Vec<OfferInspection>,
    /// Every limit counter above 0, sorted.
    pub counters: Vec<CounterInspection>,
    /// Every order, sorted by id.
    pub orders: Vec<Order>,
    /// Transfers out of the lane that are not forgotten yet, sorted.
    pub transit: Vec<Transfer>,
}

/// The units of an offer in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferInspection {
    /// The offer.
    pub sku: SkuId,
    /// Units that the lane began with.
    pub share: i64,
    /// The sum of adjustments.
    pub adjusted: i64,
    /// Units sent to other buckets.
    pub sent: i64,
    /// Units received from other buckets.
    pub received: i64,
    /// Units that can be ordered.
    pub available: i64,
    /// Units of unpaid orders.
    pub held: i64,
    /// Units of paid orders.
    pub sold: i64,
    /// Units that pending orders wait for under the pay-time strategy.
    pub pending: i64,
}

/// What one limit counter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CounterInspection {
    /// What kind of subject is counted.
    pub subject: Subject,
    /// The user id, or the digest of device or address.
    pub id: u64,
    /// The offer; `None` for the whole activity.
    pub sku: Option<SkuId>,
    /// Units counted.
    pub used: u32,
}

impl StateMachine {
    /// The full state of an activity. `None` if it is not open.
    pub fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
        let sale = self.to_read(activity)?;
        let terms = Arc::clone(&sale.lanes[0].terms);
        let lanes = sale.lanes.iter().map(|lane| {
            debug_assert!(lane.orders.statuses_are_right(), "order counts must match the orders' statuses");
            let offers = terms.offers().iter().zip(&lane.units);
            let mut counters: Vec<_> = lane
                .counters
                .iter()
                .map(|(counter, used)| CounterInspection {
                    subject: counter.subject(),
                    id: counter.id(),
                    sku: counter.offer().and_then(|offer| terms.offers().get(offer)).map(|offer| offer.sku()),
                    used,
                })
                .collect();
            counters.sort_unstable();
            let mut orders: Vec<_> = lane.orders.iter().map(|(row, _)| lane.order(row)).collect();
            orders.sort_unstable_by_key(|order| order.key.id);
            LaneInspection {
                bucket: lane.lane.bucket,
                last: lane.last,
                terms: Arc::clone(&lane.terms),
                offers: offers
                    .map(|(offer, units)| OfferInspection {
                        sku: offer.sku(),
                        share: units.share,
                        adjusted: units.adjusted,
                        sent: units.sent,
                        received: units.received,
                        available: units.available,
                        held: units.held,
                        sold: units.sold,
                        pending: units.pending,
                    })
                    .collect(),
                counters,
                orders,
                transit: lane.transit.values().copied().collect(),
            }
        });
        Some(Inspection { terms: Arc::clone(&terms), epoch: sale.lanes[0].epoch, lanes: lanes.collect() })
    }
}
