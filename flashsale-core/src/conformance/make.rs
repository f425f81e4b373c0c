//! Constructors of test data. They panic on invalid values, since cases pass constants.

use std::{num::NonZeroU16, time::Duration};

use crate::{
    domain::{
        ActivityId, Attribution, Capture, Idempotency, Key, LimitRule, Money, Nonce, OfferTerms, Order,
        OrderId, PaymentId, Per, Provider, Quantity, RefundOrder, ReversalKind, ReversalReport, SkuId,
        Strategy, Subject, SubjectId, Subjects, Timestamp, UserId, Window,
    },
    ledger::{AdjustmentId, Change, Reserve, ReserveMode, Terms, Timing},
};

/// The start of a case's first sale: 2100-01-01, later than any real clock.
pub(super) const START: Timestamp = Timestamp::from_millis(4_102_444_800_000);
/// The duration of a hold.
pub(super) const HOLD: Duration = Duration::from_secs(100);
/// The duration of a sale.
pub(super) const SALE: Duration = Duration::from_secs(3_600);
/// The price of a unit, in fen (1/100 CNY).
pub(super) const PRICE: u64 = 129_900;
/// The time limits of payments in every sale.
pub(super) const TIMING: Timing = Timing {
    payment_window: Duration::from_secs(60),
    payment_cap: Duration::from_secs(40),
    close_grace: Duration::from_secs(30),
    close_retry: Duration::from_secs(10),
};
/// All strategies.
pub(super) const STRATEGIES: [Strategy; 3] = [Strategy::OrderTime, Strategy::PayTime, Strategy::PreDeduct];

pub(super) fn activity(n: u64) -> ActivityId {
    ActivityId::new(n).expect("at least 1")
}

pub(super) fn sku(n: u64) -> SkuId {
    SkuId::new(n).expect("at least 1")
}

pub(super) fn user(n: u64) -> UserId {
    UserId::new(n).expect("at least 1")
}

pub(super) fn order_id(n: u64) -> OrderId {
    OrderId::new(n).expect("at least 1")
}

pub(super) fn payment_id(n: u64) -> PaymentId {
    PaymentId::new(n).expect("at least 1")
}

pub(super) fn quantity(n: u32) -> Quantity {
    Quantity::try_from(n).expect("between 1 and 10,000")
}

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn window(from: Timestamp, to: Timestamp) -> Window {
    Window::new(from, to).expect("valid window")
}

pub(super) fn by() -> Attribution {
    Attribution {
        actor: "Wang Fang".parse().expect("valid name"),
        reason: "counted again".parse().expect("valid text"),
    }
}

pub(super) fn adjustment_id(text: &str) -> AdjustmentId {
    AdjustmentId::new(text).expect("valid adjustment id")
}

pub(super) fn provider(name: &str) -> Provider {
    name.parse().expect("valid provider name")
}

/// Makes an offer of SKU `n` whose holds last [`HOLD`]; under order-time they never expire.
pub(super) fn offer(n: u64, strategy: Strategy, units: u32) -> OfferTerms {
    let hold = (strategy != Strategy::OrderTime).then_some(HOLD);
    let price = Money::new(PRICE, "CNY".parse().expect("valid currency")).expect("valid price");
    OfferTerms::new(sku(n), price, units, strategy, hold).expect("valid offer")
}

pub(super) fn rule(subject: Subject, per: Per, max: u32) -> LimitRule {
    LimitRule::new(subject, per, max).expect("valid limit")
}

pub(super) fn limited(offer: OfferTerms, rules: &[LimitRule]) -> OfferTerms {
    offer.with_limits(rules.to_vec()).expect("valid limits")
}

pub(super) fn limits(n: u64, rules: &[LimitRule]) -> Change {
    Change::Limits { sku: sku(n), limits: rules.to_vec() }
}

/// Makes terms of activity `n`, on sale from `start` for [`SALE`].
pub(super) fn terms(n: u64, buckets: u16, start: Timestamp, offers: Vec<OfferTerms>) -> Terms {
    let buckets = NonZeroU16::new(buckets).expect("at least 1");
    Terms::new(activity(n), window(start, start.after(SALE)), buckets, TIMING, offers).expect("valid terms")
}

/// A request builder; the default is one unit of SKU 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask(pub(super) Reserve);

impl Ask {
    /// Makes a request whose order id, key and nonce are all `id`.
    pub(super) fn new(id: u64, buyer: u64) -> Self {
        Self(Reserve {
            order: order_id(id),
            user: user(buyer),
            sku: sku(1),
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key(id.into()), nonce: Nonce(id) },
            subjects: Subjects::default(),
            mode: ReserveMode::NewOrder,
        })
    }

    pub(super) fn id(mut self, n: u64) -> Self {
        self.0.order = order_id(n);
        self
    }

    pub(super) fn of(mut self, n: u64) -> Self {
        self.0.sku = sku(n);
        self
    }

    pub(super) fn units(mut self, n: u32) -> Self {
        self.0.quantity = quantity(n);
        self
    }

    pub(super) fn key(mut self, key: u128) -> Self {
        self.0.idempotency.key = Key(key);
        self
    }

    pub(super) fn nonce(mut self, nonce: u64) -> Self {
        self.0.idempotency.nonce = Nonce(nonce);
        self
    }

    pub(super) fn device(mut self, device: u64) -> Self {
        self.0.subjects.device = Some(SubjectId(device));
        self
    }

    pub(super) fn address(mut self, address: u64) -> Self {
        self.0.subjects.address = Some(SubjectId(address));
        self
    }

    pub(super) fn mode(mut self, mode: ReserveMode) -> Self {
        self.0.mode = mode;
        self
    }
}

/// Makes a report of money that went back or a dispute; `n` names the provider's event and
/// transaction.
pub(super) fn reversal_of(
    order: &Order,
    payment: u64,
    kind: ReversalKind,
    n: u64,
    amount: u64,
) -> ReversalReport {
    let Capture { provider, event, transaction, payment, currency, .. } = capture_of(order, payment, n);
    ReversalReport { provider, kind, event, transaction, payment, amount, currency }
}

/// Makes a refund of all that is left, with all units.
pub(super) fn whole_refund(key: u64) -> RefundOrder {
    RefundOrder { key: Key(key.into()), amount: None, units: None }
}

/// Makes a capture of an order's full amount; `n` names the provider's event and transaction.
pub(super) fn capture_of(order: &Order, payment: u64, n: u64) -> Capture {
    Capture {
        provider: provider("sandbox"),
        event: format!("evt-{n}").parse().expect("valid text"),
        transaction: format!("txn-{n}").parse().expect("valid text"),
        payment: payment_id(payment),
        amount: order.amount.amount(),
        currency: order.amount.currency(),
    }
}
