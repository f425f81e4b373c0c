//! Images: the state of a state machine as one storable value.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    CorruptState, activity::ActivityState, away::StoredActivity, loading::Loading, machine::StateMachine,
    orders::RowId, outbox::Outbox, units::Units,
};
use crate::{
    domain::{ActivityId, Attribution, Capture, Order, OrderId, OrderStatus, SkuId, Timestamp},
    ledger::{
        AdjustmentId, Bucket, Change, ChangeId, Chunk, Consumer, Epoch, Lane, LedgerRole, Position, StepId,
        Terms, Transfer,
    },
};

/// The whole state. Derived values, such as counters and available units, are not stored but
/// derived again.
///
/// `O` is the format of an order: [`Order`] is the present one, [`OrderV1`](super::OrderV1) that of format 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image<O = Order> {
    role: LedgerRole,
    consumers: Vec<Consumer>,
    /// Captures of unknown payments, kept by versions that knew no lane of them.
    unmatched: Vec<Capture>,
    /// What gates were loading. Formats 1 to 3 kept it aside until it was whole; now lanes load in place.
    staged: Vec<(ActivityId, Epoch, Vec<Chunk>)>,
    sales: Vec<SaleImage<O>>,
    /// The steps of time that lanes have taken. Format 1 ends before them.
    #[serde(deserialize_with = "or_none")]
    steps: Vec<(ActivityId, Bucket, Vec<StepId>)>,
    /// The activities that are stored elsewhere. Format 2 ends before them.
    #[serde(deserialize_with = "or_none")]
    archived: Vec<(ActivityId, StoredActivity)>,
    /// Of a gate's lanes: the epoch of their content, up to which they are closed, and what they load.
    /// Format 3 ends before them.
    #[serde(deserialize_with = "or_none")]
    gates: Vec<(ActivityId, Bucket, Epoch, Epoch, Option<Loading>)>,
    /// The captures that lanes keep. Format 3 ends before them.
    #[serde(deserialize_with = "or_none")]
    kept: Vec<(Lane, Capture)>,
}

fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(T::deserialize(from).unwrap_or_default())
}

/// One activity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SaleImage<O> {
    terms: Arc<Terms>,
    epoch: Epoch,
    closed: bool,
    /// The numbers were fencing tokens and mean nothing now; they are written as 0.
    persisted: Vec<(Position, u64)>,
    lanes: Vec<LaneImage<O>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LaneImage<O> {
    last: Timestamp,
    head: Position,
    followed: Position,
    version: u64,
    changes: Vec<(ChangeId, Change, Attribution)>,
    adjustments: Vec<(AdjustmentId, SkuId, i64)>,
    /// Per offer: the share with which the lane began, and the units adjusted, sent and received.
    units: Vec<(i64, i64, i64, i64)>,
    transit: Vec<Transfer>,
    sent: BTreeMap<Bucket, u64>,
    received: BTreeMap<Bucket, u64>,
    orders: Vec<O>,
    /// Orders whose payment was handed out to be closed, and when it is handed out again.
    claimed: Vec<(OrderId, Timestamp)>,
    outbox: Outbox,
}

impl StateMachine {
    /// The state as a value.
    pub fn image(&self) -> Image {
        // One that leaves may never arrive elsewhere.
        let leaving = self.away.leaving.values().map(|leaving| {
            let mut state = leaving.state().clone();
            state.renew_consumers(&self.consumers);
            state
        });
        let leaving: Vec<_> = leaving.collect();
        let sales: Vec<_> = self.sales.values().chain(&leaving).collect();
        Image {
            role: self.role,
            consumers: self.consumers.clone(),
            unmatched: self.unmatched.values().flatten().cloned().collect(),
            staged: Vec::new(),
            sales: sales.iter().map(|sale| sale.image()).collect(),
            archived: self
                .archived()
                .filter(|(activity, _)| !self.away.leaving.contains_key(activity))
                .collect(),
            steps: sales
                .iter()
                .flat_map(|sale| &sale.lanes)
                .filter(|lane| !lane.steps.is_empty())
                .map(|lane| (lane.lane.activity, lane.lane.bucket, lane.steps.iter().copied().collect()))
                .collect(),
            gates: sales
                .iter()
                .flat_map(|sale| &sale.lanes)
                .filter(|lane| lane.role == LedgerRole::Gate)
                .map(|lane| {
                    let Lane { activity, bucket } = lane.lane;
                    (activity, bucket, lane.epoch, lane.closed_to, lane.loading.clone())
                })
                .collect(),
            kept: sales
                .iter()
                .flat_map(|sale| &sale.lanes)
                .flat_map(|lane| lane.kept.values().flatten().map(|capture| (lane.lane, capture.clone())))
                .collect(),
        }
    }

    /// The state machine with the state of an image.
    ///
    /// # Errors
    /// [`CorruptState`] if the image contradicts itself.
    pub fn of_image<O: Into<Order>>(image: Image<O>) -> Result<Self, CorruptState> {
        let mut machine = Self::new(image.role);
        machine.consumers = image.consumers;
        for capture in image.unmatched {
            machine.unmatched.entry(capture.payment).or_default().push(capture);
        }
        for image in image.sales {
            let terms = Arc::clone(&image.terms);
            let mut sale = machine.new_sale(&terms);
            image.restore(&mut sale)?;
            machine.sales.insert(terms.activity(), sale);
        }
        machine.away.stored = image.archived.into_iter().collect();
        for (activity, bucket, steps) in image.steps {
            let lane = machine.lane_mut(Lane { activity, bucket });
            lane.map_err(|_| CorruptState("a step of time has no lane"))?.steps = steps.into_iter().collect();
        }
        for (activity, bucket, epoch, closed, loading) in image.gates {
            let lane = machine.lane_mut(Lane { activity, bucket });
            let lane = lane.map_err(|_| CorruptState("a gate's epoch has no lane"))?;
            (lane.epoch, lane.closed_to, lane.loading) = (epoch, closed, loading);
        }
        for (activity, epoch, chunks) in image.staged {
            for chunk in chunks {
                let loaded = machine.load(activity, epoch, chunk);
                loaded.map_err(|_| CorruptState("a gate's content cannot be loaded"))?;
            }
        }
        for (lane, capture) in image.kept {
            machine.lane_mut(lane).map_err(|_| CorruptState("a kept capture has no lane"))?.keep(capture);
        }
        Ok(machine)
    }
}

impl<O: Into<Order>> SaleImage<O> {
    /// The terms with which the activity was opened.
    pub(super) fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// Adds an order to a lane.
    pub(super) fn add_order(&mut self, bucket: Bucket, order: O) -> Result<(), CorruptState> {
        let lane = self.lanes.get_mut(usize::from(bucket));
        lane.ok_or(CorruptState("an order has no lane"))?.orders.push(order);
        Ok(())
    }

    /// Restores an activity that has just been opened.
    pub(super) fn restore(self, sale: &mut ActivityState) -> Result<(), CorruptState> {
        if sale.lanes.len() != self.lanes.len() || sale.persisted.len() != self.persisted.len() {
            return Err(CorruptState("the image has the wrong number of lanes"));
        }
        sale.persisted = self.persisted.into_iter().map(|(position, _)| position).collect();
        for (index, image) in self.lanes.into_iter().enumerate() {
            let lane = &mut sale.lanes[index];
            lane.epoch = self.epoch;
            lane.closed_to = if self.closed { self.epoch } else { lane.closed_to };
            image.restore(lane)?;
        }
        Ok(())
    }
}

impl ActivityState {
    fn image(&self) -> SaleImage<Order> {
        let mut image = self.image_without_orders();
        for (image, lane) in image.lanes.iter_mut().zip(&self.lanes) {
            image.orders = lane.orders.iter().map(|(row, _)| lane.order(row)).collect();
        }
        image
    }

    /// The image of the activity, but with no orders.
    pub(super) fn image_without_orders(&self) -> SaleImage<Order> {
        let lanes = self.lanes.iter().map(|lane| LaneImage {
            last: lane.last,
            head: lane.head,
            followed: lane.followed,
            version: lane.version,
            changes: lane
                .changes
                .iter()
                .map(|(id, (change, by))| (*id, change.clone(), by.clone()))
                .collect(),
            adjustments: lane
                .adjustments
                .iter()
                .map(|(id, (sku, delta))| (id.clone(), *sku, *delta))
                .collect(),
            units: lane
                .units
                .iter()
                .map(|units| (units.share, units.adjusted, units.sent, units.received))
                .collect(),
            transit: lane.transit.values().copied().collect(),
            sent: lane.sent.clone(),
            received: lane.received.clone(),
            orders: Vec::new(),
            claimed: lane
                .orders
                .iter()
                .filter(|(_, row)| row.status == OrderStatus::Paying)
                .filter(|(_, row)| row.payments().last().is_some_and(|payment| payment.deadline != row.due))
                .map(|(_, row)| (row.id, row.due))
                .collect(),
            outbox: lane.outbox.clone(),
        });
        SaleImage {
            terms: Arc::clone(&self.lanes[0].base),
            epoch: self.lanes[0].epoch,
            closed: !self.lanes[0].is_open(),
            persisted: self.persisted.iter().map(|position| (*position, 0)).collect(),
            lanes: lanes.collect(),
        }
    }
}

impl<O: Into<Order>> LaneImage<O> {
    fn restore(self, lane: &mut super::lane::LaneState) -> Result<(), CorruptState> {
        if lane.units.len() != self.units.len() {
            return Err(CorruptState("the image has the wrong number of offers"));
        }
        for (units, (share, adjusted, sent, received)) in lane.units.iter_mut().zip(self.units) {
            let available = share + adjusted - sent + received;
            *units = Units { share, adjusted, sent, received, available, ..Units::default() };
        }
        lane.changes = self.changes.into_iter().map(|(id, change, by)| (id, (change, by))).collect();
        lane.renew_terms()?;
        lane.reserve(self.orders.len());
        for order in self.orders {
            lane.insert(&order.into())?;
        }
        for (id, due) in self.claimed {
            let is_paying = |row: &RowId| lane.orders.row(*row).status == OrderStatus::Paying;
            let row = lane.orders.with_id(id).find(is_paying);
            let row = row.ok_or(CorruptState("a claimed payment has no order"))?;
            lane.set_due(row, due);
        }
        lane.last = self.last;
        lane.head = self.head;
        lane.followed = self.followed;
        lane.version = self.version;
        lane.adjustments = self.adjustments.into_iter().map(|(id, sku, delta)| (id, (sku, delta))).collect();
        lane.transit =
            self.transit.into_iter().map(|transfer| ((transfer.to, transfer.number), transfer)).collect();
        lane.sent = self.sent;
        lane.received = self.received;
        lane.outbox = self.outbox;
        Ok(())
    }
}
