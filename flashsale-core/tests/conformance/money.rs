//! Sequences of what providers report on three payments of two orders in two lanes: captures, parts,
//! refunds, disputes, repeats and reorderings. Every authentic report is booked or left to a person,
//! and all money that was taken is kept for an order, awaited in part, or goes back.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{collections::BTreeMap, num::NonZeroU16, sync::Arc, time::Duration};

use fastrand::Rng;
use flashsale_core::{
    domain::{
        ActivityId, Attribution, Capture, Idempotency, Key, LateCapture, Money, Nonce, OfferTerms, Order,
        OrderKey, OrderStatus, Proceeds, Quantity, RefundOrder, RefundStatus, ReversalKind, ReversalReport,
        Strategy, Subjects, Timestamp, UserId, Window,
    },
    ledger::{
        Advance, Advanced, BatchId, Lane, LedgerRole, RefundOutcome, Reserve, ReserveMode, Terms, Timing,
        invariants::{self, OwedUnits},
        state_machine::{Batch, StateMachine},
    },
};

const PRICE: u64 = 10_000;
const LANES: NonZeroU16 = NonZeroU16::new(2).unwrap();
const SEQUENCES: u64 = 100_000;

fn activity() -> ActivityId {
    ActivityId::new(1).unwrap()
}

/// A sale of two orders in two lanes, and what was reported on their payments.
struct Shop {
    machine: StateMachine,
    random: Rng,
    now: u64,
    batches: u64,
    orders: [OrderKey; 2],
    /// Authentic captures that were booked, by (payment, transaction).
    booked: BTreeMap<(u64, String), u64>,
    /// Reports that can be sent again.
    sent: Vec<Advance>,
}

impl Shop {
    fn open(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let strategy = [Strategy::OrderTime, Strategy::PreDeduct, Strategy::PayTime][random.usize(0..3)];
        let hold = (strategy != Strategy::OrderTime).then_some(Duration::from_secs(50));
        let price = Money::new(PRICE, "CNY".parse().unwrap()).unwrap();
        let late = if random.bool() { LateCapture::Retake } else { LateCapture::Refund };
        let offer =
            OfferTerms::new(1.try_into().unwrap(), price, 4, strategy, hold).unwrap().with_late_capture(late);
        let window = Window::new(Timestamp::from_millis(1), Timestamp::from_millis(1_000_000)).unwrap();
        let terms = Terms::new(activity(), window, LANES, Timing::default(), vec![offer]).unwrap();
        let mut machine = StateMachine::new(LedgerRole::Single);
        let batch = Batch { id: BatchId(1), now: Timestamp::from_millis(1) };
        machine.open(batch, &Arc::new(terms)).unwrap();
        let orders = [0, 1].map(|bucket| {
            let of_lane = |user: &UserId| Lane::of(activity(), *user, LANES).bucket == bucket;
            let user = (1..).map(|id| UserId::new(id).unwrap()).find(of_lane).unwrap();
            let id = (100 + u64::from(bucket)).try_into().unwrap();
            let request = Reserve {
                order: id,
                user,
                sku: 1.try_into().unwrap(),
                quantity: Quantity::ONE,
                idempotency: Idempotency { key: Key(1), nonce: Nonce(1) },
                subjects: Subjects::default(),
                mode: ReserveMode::NewOrder,
            };
            machine.reserve(batch, Lane { activity: activity(), bucket }, None, &[request]).unwrap();
            OrderKey { activity: activity(), user, id }
        });
        Self { machine, random, now: 1, batches: 1, orders, booked: BTreeMap::new(), sent: Vec::new() }
    }

    /// Payments 1 and 2 belong to the first order, 3 to the second.
    fn order_of(&self, payment: u64) -> OrderKey {
        self.orders[usize::from(payment == 3)]
    }

    fn step(&mut self) -> Advance {
        let payment = self.random.u64(1..=3);
        let order = self.order_of(payment);
        let id = payment.try_into().unwrap();
        let provider = "sandbox".parse().unwrap();
        let amount = [PRICE, PRICE / 2, PRICE / 2, 4_000, 6_000, PRICE + 7, 1][self.random.usize(0..7)];
        let currency = if self.random.u8(0..20) == 0 { "USD" } else { "CNY" }.parse().unwrap();
        let name = |random: &mut Rng| format!("{}", random.u8(0..4)).parse().unwrap();
        match self.random.u8(0..20) {
            0..4 => Advance::OpenPayment { order, payment: id, provider, in_parts: true },
            4..10 => {
                let (event, transaction) = (name(&mut self.random), name(&mut self.random));
                let capture = Capture { provider, event, transaction, payment: id, amount, currency };
                let replacement = (900 + self.random.u64(0..50)).try_into().unwrap();
                Advance::Capture { order, capture, in_parts: self.random.u8(0..4) > 0, replacement }
            }
            10 => Advance::PaymentFailed { order, payment: id },
            11 => Advance::PaymentClosed { order, payment: id },
            12 => Advance::Cancel { order, by: None },
            13 => {
                let amount = self.random.bool().then(|| self.random.u64(0..=PRICE));
                let units = self.random.bool().then(|| self.random.u32(0..2));
                let refund = RefundOrder { key: Key(self.random.u128(0..3)), amount, units };
                let by = Attribution { actor: "Li".parse().unwrap(), reason: "asked".parse().unwrap() };
                Advance::Refund { order, refund, by }
            }
            14 => Advance::RefundSettled {
                order,
                payment: id,
                provider,
                transaction: self.random.u8(0..4).to_string(),
                number: self.random.u32(0..3),
                outcome: if self.random.bool() { RefundOutcome::Done } else { RefundOutcome::Failed },
            },
            _ => {
                let kind = [
                    ReversalKind::Refunded,
                    ReversalKind::Refunded,
                    ReversalKind::Disputed,
                    ReversalKind::DisputeWon,
                    ReversalKind::DisputeLost,
                ][self.random.usize(0..5)];
                let (event, transaction) = (name(&mut self.random), name(&mut self.random));
                let report =
                    ReversalReport { provider, kind, event, transaction, payment: id, amount, currency };
                Advance::Reversal { order, report }
            }
        }
    }

    fn take(&mut self) {
        // Reports come again, and long after others that were sent later.
        let step = match self.sent.len() {
            0 => self.step(),
            sent if self.random.u8(0..4) == 0 => self.sent[self.random.usize(0..sent)].clone(),
            _ => self.step(),
        };
        self.now += if self.random.u8(0..16) == 0 { 1_000_000 } else { self.random.u64(1..400) };
        self.batches += 1;
        let batch = Batch { id: BatchId(self.batches), now: Timestamp::from_millis(self.now) };
        let lane = Lane::of(activity(), step.order().user, LANES);
        if self.random.u8(0..8) == 0 {
            self.machine.expire_due(batch, lane, 10).unwrap();
        }
        let before = self.order(step.order());
        let outcome =
            self.machine.advance(batch, lane, std::slice::from_ref(&step)).unwrap().outcomes.remove(0);
        self.judge(&before, &step, &outcome);
        self.sent.push(step);
    }

    fn order(&self, key: OrderKey) -> Order {
        self.machine.order(key).unwrap()
    }

    /// An authentic report changes what is booked, repeats it, or is left to a person. Nothing that
    /// is left to a person changes an order.
    fn judge(&mut self, before: &Order, step: &Advance, outcome: &Advanced) {
        let after = self.order(step.order());
        match outcome {
            Advanced::Conflict | Advanced::NotFound | Advanced::WrongState(_) => {
                assert_eq!(*before, after, "{step:?} was declined");
                if let (Advance::Capture { .. }, Advanced::WrongState(_)) = (step, outcome) {
                    panic!("a capture has no wrong state: {step:?}");
                }
            }
            Advanced::Done(_) | Advanced::RefundDue(..) | Advanced::Retaken(_) => {
                if let Advance::Capture { capture, .. } = step {
                    let key = (capture.payment.value(), capture.transaction.to_string());
                    let sum = self.booked.entry(key).or_default();
                    *sum += capture.amount;
                }
            }
            _ => {}
        }
    }

    /// All booked money stands in receipts, and every receipt is used up.
    fn check(&self) {
        let inspection = self.machine.inspect(activity()).unwrap();
        let broken = invariants::check(&inspection, OwedUnits::Forbidden);
        assert!(broken.is_empty(), "{broken:?}");
        let orders: Vec<_> = inspection.lanes.iter().flat_map(|lane| &lane.orders).collect();
        let mut seen: BTreeMap<(u64, String), u64> = BTreeMap::new();
        for receipt in orders.iter().flat_map(|order| &order.receipts) {
            let Capture { payment, transaction, amount, .. } = &receipt.capture;
            *seen.entry((payment.value(), transaction.to_string())).or_default() += amount;
            assert!(receipt.kept() <= receipt.unreturned());
        }
        assert_eq!(seen, self.booked, "every capture is in one receipt");
        for order in orders {
            let sum = |of: &dyn Fn(&Order) -> u64| of(order);
            let kept = sum(&|order| {
                let paid = order.receipts.iter().filter(|receipt| receipt.proceeds == Proceeds::Paid);
                paid.map(flashsale_core::domain::Receipt::kept).sum()
            });
            assert!(kept <= PRICE, "{order:?}");
            let sent_back: u64 = order
                .refunds()
                .filter(|(_, refund)| refund.status == RefundStatus::Done)
                .map(|(_, refund)| refund.amount)
                .sum();
            let taken: u64 = order.receipts.iter().map(|receipt| receipt.capture.amount).sum();
            assert!(sent_back <= taken, "more went back than was taken: {order:?}");
            assert!(order.status == OrderStatus::Paid || kept == 0, "{order:?}");
        }
    }
}

#[test]
fn all_money_is_kept_awaited_or_goes_back() {
    let scale: u64 =
        std::env::var("FLASHSALE_TEST_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut outcomes: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..SEQUENCES * scale {
        let mut shop = Shop::open(seed);
        let steps = shop.random.usize(8..32);
        let run = std::panic::AssertUnwindSafe(|| {
            (0..steps).for_each(|_| shop.take());
            shop.check();
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}, steps: {:#?}", shop.sent);
            std::panic::resume_unwind(panic);
        }
        for order in shop.orders.map(|key| shop.order(key)) {
            *outcomes.entry(order.status.as_str()).or_default() += 1;
            let parts = order.receipts.iter().any(|receipt| receipt.proceeds == Proceeds::Part);
            *outcomes.entry("with parts").or_default() += u64::from(parts);
            *outcomes.entry("disputed").or_default() += u64::from(order.dispute().is_some());
            *outcomes.entry("refunded").or_default() += u64::from(order.refund().is_some());
        }
    }
    println!("{outcomes:?}");
    for name in ["paid", "paying", "cancelled", "expired", "with parts", "disputed", "refunded"] {
        let seen = outcomes.get(name).copied().unwrap_or(0);
        assert!(seen >= SEQUENCES / 100, "the sequences hardly reach {name:?}: {seen}");
    }
}
