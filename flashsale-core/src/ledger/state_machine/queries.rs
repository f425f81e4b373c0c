//! Queries: the methods of the state machine that change nothing.

use std::sync::Arc;

use super::{lane::LaneState, machine::StateMachine, orders::RowId};
use crate::{
    domain::{ActivityId, Order, OrderId, OrderKey, PaymentId, SkuId, Timestamp, UserId},
    ledger::{AdjustmentId, Lane, LedgerError, PaymentRef, RefundTask, Stock, Terms, View},
};

impl StateMachine {
    /// The open activities.
    pub fn activities(&self) -> Vec<ActivityId> {
        self.sales.keys().copied().collect()
    }

    /// The current terms of an activity.
    pub fn terms(&self, activity: ActivityId) -> Option<Arc<Terms>> {
        self.to_read(activity).map(|sale| Arc::clone(&sale.lanes[0].terms))
    }

    /// The units of an offer, over all lanes.
    pub fn stock(&self, activity: ActivityId, sku: SkuId) -> Option<Stock> {
        let sale = self.to_read(activity)?;
        let index = sale.lanes[0].terms.index(sku)?;
        let mut stock = Stock { epoch: sale.lanes[0].epoch, ..Stock::default() };
        for lane in &sale.lanes {
            let units = lane.units[index];
            stock.units += units.share;
            stock.adjusted += units.adjusted;
            stock.available += units.available;
            stock.held += units.held;
            stock.sold += units.sold;
            stock.transit += units.sent - units.received;
        }
        Some(stock)
    }

    /// A view of one lane, for declining requests without asking the ledger.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    pub fn view(&self, now: Timestamp, lane: Lane) -> Result<View, LedgerError> {
        Ok(self.admitting(lane)?.view(now))
    }

    /// An order of a user.
    pub fn order(&self, key: OrderKey) -> Option<Order> {
        let sale = self.to_read(key.activity)?;
        let lane = sale.lane(self.lane_of(sale, key.activity, key.user).bucket)?;
        lane.owned(key.user, key.id).map(|row| lane.order(row))
    }

    /// Up to `limit` orders of a user with ids below `after`, highest first.
    pub fn orders_of(&self, user: UserId, after: Option<OrderId>, limit: usize) -> Vec<Order> {
        let mut found = Vec::new();
        for (activity, sale) in self.readable() {
            let bucket = self.lane_of(sale, activity, user).bucket;
            let Some(lane) = sale.lane(bucket) else { continue };
            found.extend(lane.orders.of_user(user).map(|row| (lane.orders.row(row).id, lane, row)));
        }
        found.retain(|(id, ..)| after.is_none_or(|after| *id < after));
        found.sort_unstable_by_key(|(id, ..)| std::cmp::Reverse(*id));
        found.into_iter().take(limit).map(|(_, lane, row)| lane.order(row)).collect()
    }

    /// The order of a payment in the lane of its reference.
    pub fn order_of_payment(&self, payment: PaymentRef) -> Option<OrderKey> {
        let PaymentRef { lane: Lane { activity, bucket }, payment } = payment;
        let sale = self.to_read(activity)?;
        if mutant!("payment-of-any-lane") {
            return sale.lanes.iter().find_map(|lane| lane.order_of_payment(payment));
        }
        sale.lane(bucket)?.order_of_payment(payment)
    }

    /// An order with this id in one activity, or in all that are in memory.
    pub fn locate(&self, activity: Option<ActivityId>, order: OrderId) -> Option<OrderKey> {
        let sales = self.readable().filter(|(known, _)| activity.is_none_or(|activity| activity == *known));
        sales.flat_map(|(_, sale)| &sale.lanes).find_map(|lane| {
            let row = lane.orders.with_id(order).next()?;
            Some(OrderKey { activity: lane.lane.activity, user: lane.orders.row(row).user, id: order })
        })
    }

    /// An adjustment, if it is in force.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`].
    pub fn adjustment(
        &self,
        activity: ActivityId,
        id: &AdjustmentId,
    ) -> Result<Option<(SkuId, i64)>, LedgerError> {
        Ok(self.lane(Lane::first(activity))?.adjustments.get(id).copied())
    }

    /// Refunds that are due, from orders after the given one.
    pub fn refunds_due(&self, lane: Lane, after: Option<OrderKey>, limit: usize) -> Vec<RefundTask> {
        let Ok(state) = self.lane(lane) else { return Vec::new() };
        let known = after.and_then(|after| state.owned(after.user, after.id));
        let from = known.map_or(0, |row| row + 1);
        state.refunds.range(from..).take(limit).flat_map(|row| state.refund_tasks(*row)).collect()
    }

    /// Refunds that are due of one order in a lane.
    pub fn refund_tasks_in(&self, lane: Lane, order: OrderKey) -> Vec<RefundTask> {
        let Ok(state) = self.lane(lane) else { return Vec::new() };
        let row = state.owned(order.user, order.id);
        row.map(|row| state.refund_tasks(row).collect()).unwrap_or_default()
    }
}

impl LaneState {
    pub(super) fn order_of_payment(&self, payment: PaymentId) -> Option<OrderKey> {
        let (user, id) = self.orders.by_payment(payment)?;
        Some(OrderKey { activity: self.lane.activity, user, id })
    }

    fn refund_tasks(&self, row: RowId) -> impl Iterator<Item = RefundTask> + '_ {
        let row = self.orders.row(row);
        let order = OrderKey { activity: self.lane.activity, user: row.user, id: row.id };
        row.refunds_due().map(move |(receipt, number)| {
            let refund = receipt.refunds[number];
            RefundTask {
                order,
                capture: receipt.capture.clone(),
                number: u32::try_from(number).unwrap_or(u32::MAX),
                amount: refund.amount,
                reason: refund.reason,
            }
        })
    }
}
