//! How do the three strategies differ, and what happens to late payments?
//!
//! `cargo run -p flashsale-examples --example strategies`
//!
//! One ledger with three offers of two units that differ only in their strategy. The same buyers do
//! the same things to each, and after each step a row shows the ledger's counts:
//!
//! - *available*: units that can be taken,
//! - *held*: units that belong to an unpaid order,
//! - *sold*: units that belong to a paid order,
//! - *pending*: units of orders that do not hold them yet, only with `pay_time`.
//!
//! The clock is a `ManualClock`, which moves only when told to. Test your own sale that way.

use std::{
    error::Error,
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use flashsale_core::{
    domain::{
        ActivityId, Capture, Clock, Idempotency, Key, LateCapture, ManualClock, Money, Nonce, OfferTerms,
        Order, OrderStatus, Provider, Quantity, RefundReason, RefundStatus, SkuId, Strategy, Subjects,
        SystemClock, Timestamp, UserId, Window,
    },
    embedded::EmbeddedLedger,
    ledger::{
        Advanced, Ledger, LedgerRole, Outcome, PaymentRef, RefundOutcome, RefundTask, Terms, Timing,
        invariants::{self, OwedUnits},
    },
    queue::{InMemoryQueue, RetryPolicy},
    service::{
        BatcherOptions, CaptureResult, Closed, Maintenance, OrderRequest, OrderService, PaymentProvider,
        Payments, Placement, ProviderError, Sales,
    },
    snowflake::{Generator, InMemoryLease, Settings},
};
use tokio::runtime::Handle;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Available, held, sold, pending.
type Units = [i64; 4];

const ANA: u64 = 1;
const BEN: u64 = 2;
const CHEN: u64 = 3;
const DORA: u64 = 4;

/// How long an unpaid order holds its units, and a payment stays open.
const HOLD: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    strategies().await?;
    late_money().await
}

/// Compares the three strategies.
async fn strategies() -> Result<()> {
    println!("Three offers of 2 units. Each cell shows: available held sold pending.\n");
    let fair = Fair::open([
        // Units are taken when the order is placed, and belong to it until it is paid or cancelled.
        // (With a hold time it behaves like pre_deduct.)
        ("order_time", offer(1, 2, Strategy::OrderTime, None)?),
        // Units are taken when the payment opens. Until then there may be more orders than units:
        // up to `overbook_percent` of what is available, by default 150 %.
        ("pay_time", offer(2, 2, Strategy::PayTime, Some(HOLD))?),
        // Units are taken when the order is placed, for a limited time.
        ("pre_deduct", offer(3, 2, Strategy::PreDeduct, Some(HOLD))?),
    ])
    .await?;
    fair.row("the sale opens", [[2, 0, 0, 0], [2, 0, 0, 0], [2, 0, 0, 0]], "").await?;

    // Two units, four buyers. Pay-time accepts three orders (150 % of 2) without moving a unit.
    let ana = fair.order_all(ANA).await?;
    let ben = fair.order_all(BEN).await?;
    let chen = fair.order_all(CHEN).await?;
    let dora = fair.order_all(DORA).await?;
    assert_eq!(
        [&ana, &ben, &chen, &dora].map(placed),
        [[true; 3], [true; 3], [false, true, false], [false; 3]]
    );
    fair.row(
        "Ana, Ben, Chen, Dora order",
        [[0, 2, 0, 0], [2, 0, 0, 3], [0, 2, 0, 0]],
        "pay_time accepts 3 orders for 2 units",
    )
    .await?;

    // If the buyer pays at once, the strategies do not differ.
    for order in ana.iter().flatten() {
        let payment = fair.open_payment(order).await?.map_err(unexpected)?;
        let Advanced::Done(paid) = fair.captured(order, payment).await? else {
            return Err("Ana's payment should be in time".into());
        };
        assert_eq!(paid.status, OrderStatus::Paid);
    }
    fair.row("Ana pays", [[0, 1, 1, 0], [1, 0, 1, 2], [0, 1, 1, 0]], "one unit is sold with every strategy")
        .await?;

    // Ben and Chen open payments. With pay-time, two orders compete for one unit: one is declined,
    // before any money moves.
    let mut payments = Vec::new();
    for order in ben.iter().flatten() {
        payments.push(fair.open_payment(order).await?.map_err(unexpected)?);
    }
    for order in chen.iter().flatten() {
        let declined = fair.open_payment(order).await?.err();
        assert_eq!(declined, Some(Advanced::SoldOut { available: 0 }));
    }
    fair.row(
        "Ben and Chen open payments",
        [[0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 0]],
        "pay_time declines Chen: sold out",
    )
    .await?;

    // Ben's card is declined, so his orders are pending again. Pay-time returns his unit.
    for payment in payments {
        assert!(matches!(fair.payments.failed(&fair.bank, payment).await?, Advanced::Done(_)));
    }
    fair.row(
        "Ben's card is declined",
        [[0, 1, 1, 0], [1, 0, 1, 2], [0, 1, 1, 0]],
        "only pay_time returns the unit at once",
    )
    .await?;

    // A minute after ordering, unpaid orders expire, except with order-time, which keeps Ben's.
    fair.pass(HOLD).await?;
    let mut statuses = Vec::new();
    for order in ben.iter().flatten() {
        statuses.push(fair.status(order).await?);
    }
    assert_eq!(statuses, [OrderStatus::Pending, OrderStatus::Expired, OrderStatus::Expired]);
    fair.row(
        "a minute passes",
        [[0, 1, 1, 0], [1, 0, 1, 0], [1, 0, 1, 0]],
        "order_time keeps Ben's order and its unit",
    )
    .await?;

    // Units of expired orders are sold again.
    assert_eq!(placed(&fair.order_all(DORA).await?), [false, true, true]);
    fair.row("Dora orders again", [[0, 1, 1, 0], [1, 0, 1, 1], [0, 1, 1, 0]], "expired units are sold again")
        .await?;

    // Order-time returns a unit when its order is cancelled. Expired orders cannot be cancelled.
    let mut outcomes = Vec::new();
    for order in ben.iter().flatten() {
        outcomes.push(fair.ordering.cancel(order.key, &fair.payments).await?);
    }
    let over = Advanced::WrongState(OrderStatus::Expired);
    assert!(matches!(&outcomes[..], [Advanced::Done(_), b, c] if *b == over && *c == over), "{outcomes:?}");
    fair.row(
        "Ben cancels",
        [[1, 0, 1, 0], [1, 0, 1, 1], [0, 1, 1, 0]],
        "in the other two his order has expired",
    )
    .await
}

/// A payment after expiry is never kept without a unit, and no unit is sold twice.
async fn late_money() -> Result<()> {
    println!("\nLate payments. Three offers of 1 unit, all pre_deduct.\n");
    let refund = offer(1, 1, Strategy::PreDeduct, Some(HOLD))?;
    let retake = |sku| -> Result<OfferTerms> {
        Ok(offer(sku, 1, Strategy::PreDeduct, Some(HOLD))?.with_late_capture(LateCapture::Retake))
    };
    let fair = Fair::open([("refund", refund), ("retake", retake(2)?), ("retake, gone", retake(3)?)]).await?;

    let ana = fair.order_all(ANA).await?;
    let mut payments = Vec::new();
    for order in ana.iter().flatten() {
        payments.push((order, fair.open_payment(order).await?.map_err(unexpected)?));
    }
    fair.row("Ana orders, opens payments", [[0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]], "").await?;

    // Ana's time is over. Her payments are closed at the bank, unpaid; then her orders expire.
    fair.pass(HOLD).await?;
    for (order, _) in &payments {
        assert_eq!(fair.status(order).await?, OrderStatus::Expired);
    }
    fair.row("a minute passes", [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]], "the unpaid orders expire")
        .await?;

    // In the third offer, Ben is faster than Ana's money.
    let ben = fair.order(BEN, 2).await?.ok_or("there should be a unit for Ben")?;
    let payment = fair.open_payment(&ben).await?.map_err(unexpected)?;
    fair.captured(&ben, payment).await?;
    fair.row("Ben buys the third", [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]], "").await?;

    // The bank was wrong: the money was on its way. EXPIRED is final, so Ana's orders stay expired.
    // With `retake` she gets a new, paid order if there is a unit; otherwise a refund is due.
    let mut outcomes = Vec::new();
    for (order, payment) in &payments {
        outcomes.push(fair.captured(order, *payment).await?);
    }
    let [Advanced::RefundDue(first, too_late), Advanced::Retaken(new), Advanced::RefundDue(third, gone)] =
        outcomes.as_slice()
    else {
        return Err(format!("unexpected outcomes of late payments: {outcomes:?}").into());
    };
    assert_eq!((*too_late, *gone), (RefundReason::OrderClosed, RefundReason::NoUnits));
    assert_eq!((new.status, new.replaces), (OrderStatus::Paid, Some(payments[1].0.key.id)));
    fair.row(
        "Ana's money arrives",
        [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]],
        "refund due, new paid order, refund due",
    )
    .await?;

    // Maintenance sends due refunds, and retries until the bank has made them.
    fair.settle().await?;
    for order in [first, third] {
        let order = fair.ordering.order(order.key).await?.ok_or("an order is missing")?;
        let refund = order.refund().map(|total| (total.amount, total.status));
        assert_eq!(refund, Some((order.amount.amount(), RefundStatus::Done)));
    }
    println!("\nAna has one paid order; the other two payments were refunded.");
    Ok(())
}

/// Builds an offer at 99.00 CNY.
fn offer(sku: u64, units: u32, strategy: Strategy, hold: Option<Duration>) -> Result<OfferTerms> {
    let price = Money::new(9_900, "CNY".parse()?)?;
    Ok(OfferTerms::new(SkuId::try_from(sku)?, price, units, strategy, hold)?)
}

/// Which of the offers accepted the order.
fn placed(orders: &[Option<Order>; 3]) -> [bool; 3] {
    orders.each_ref().map(Option::is_some)
}

fn unexpected(outcome: Advanced) -> String {
    format!("unexpected outcome: {outcome:?}")
}

/// Three offers of one activity, and the services that sell them.
struct Fair {
    skus: [SkuId; 3],
    activity: ActivityId,
    clock: Arc<ManualClock>,
    engine: Arc<EmbeddedLedger>,
    ordering: OrderService,
    payments: Payments,
    maintenance: Maintenance,
    bank: Provider,
    asked: AtomicU64,
}

impl Fair {
    async fn open(columns: [(&str, OfferTerms); 3]) -> Result<Self> {
        // 2026-11-27T00:00:00Z.
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_795_737_600_000)));
        let engine = Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _));
        let ledger: Arc<dyn Ledger> = Arc::clone(&engine) as _;

        // Ids can use another clock. This lease outlasts the program, so it needs no renewal.
        let settings = Settings { term: Duration::from_secs(3_600), ..Settings::default() };
        let ids = Generator::acquire(&InMemoryLease::new(0..=0), &settings, Arc::new(SystemClock)).await?;
        let ids = Arc::new(ids);

        let sales = Sales::new(ledger, Arc::clone(&clock) as _, Handle::current(), BatcherOptions::default());
        let sales = Arc::new(sales);
        let bank: Provider = "bank".parse()?;
        let provider: Arc<dyn PaymentProvider> = Arc::new(Bank(bank.clone()));
        let payments = Payments::new(Arc::clone(&sales), Arc::clone(&ids), [provider]);

        let activity = ActivityId::try_from(1)?;
        let window = Window::new(clock.now(), clock.now().after(Duration::from_secs(3_600)))?;
        let timing = Timing { payment_window: HOLD, ..Timing::default() };
        let skus = columns.each_ref().map(|(_, offer)| offer.sku());
        println!("{:28}{:^14}{:^14}{:^14}", "", columns[0].0, columns[1].0, columns[2].0);
        let offers = columns.into_iter().map(|(_, offer)| offer).collect();
        sales.open(Arc::new(Terms::new(activity, window, NonZeroU16::MIN, timing, offers)?)).await?;

        let queue = Arc::new(InMemoryQueue::new(Arc::clone(&clock) as _));
        Ok(Self {
            ordering: OrderService::new(Arc::clone(&sales), ids),
            // A service would spawn `Maintenance::run`. Here single rounds run on demand.
            maintenance: Maintenance::new(
                Arc::clone(&sales),
                payments.clone(),
                queue,
                RetryPolicy::default(),
            ),
            asked: AtomicU64::new(0),
            skus,
            activity,
            clock,
            engine,

            payments,
            bank,
        })
    }

    /// Prints the ledger's counts, and fails if they are not as expected.
    async fn row(&self, step: &str, expected: [Units; 3], remark: &str) -> Result<()> {
        let inspection = self.engine.inspect(self.activity).await?.ok_or("the sale should be open")?;
        // The invariant checks shared by tests, `audit` and load runs: no unit is gained or lost.
        assert_eq!(invariants::check(&inspection, OwedUnits::Forbidden), []);
        let mut units = [[0; 4]; 3];
        for (units, offer) in units.iter_mut().zip(&inspection.lanes[0].offers) {
            *units = [offer.available, offer.held, offer.sold, offer.pending];
        }
        let cells =
            units.map(|[available, held, sold, pending]| format!("{available} {held} {sold} {pending}"));
        let row = format!("{step:28}{:^14}{:^14}{:^14}  {remark}", cells[0], cells[1], cells[2]);
        println!("{}", row.trim_end());
        assert_eq!(units, expected, "{step}");
        Ok(())
    }

    /// Orders one unit of each offer for a buyer; `None` if it is sold out.
    async fn order_all(&self, buyer: u64) -> Result<[Option<Order>; 3]> {
        Ok([self.order(buyer, 0).await?, self.order(buyer, 1).await?, self.order(buyer, 2).await?])
    }

    async fn order(&self, buyer: u64, column: usize) -> Result<Option<Order>> {
        // A service takes key and nonce from request and ticket; see the `embed` example.
        let number = self.asked.fetch_add(1, Relaxed);
        let request = OrderRequest {
            user: UserId::try_from(buyer)?,
            activity: self.activity,
            sku: self.skus[column],
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key::of_text(&number.to_string()), nonce: Nonce(number) },
            subjects: Subjects::default(),
            ticket_expired: false,
        };
        match self.ordering.place(&request).await? {
            Placement::Placed(order, _) => Ok(Some(*order)),
            Placement::Declined(Outcome::SoldOut { .. }) => Ok(None),
            other => Err(format!("expected a sold-out offer: {other:?}").into()),
        }
    }

    async fn open_payment(&self, order: &Order) -> Result<std::result::Result<PaymentRef, Advanced>> {
        let opened = self.payments.open(order.key, &self.bank).await?;
        Ok(opened.map(|opened| opened.reference))
    }

    /// Reports a capture as the bank would.
    async fn captured(&self, order: &Order, payment: PaymentRef) -> Result<Advanced> {
        let capture = Capture {
            provider: self.bank.clone(),
            event: format!("event-{payment}").parse()?,
            transaction: format!("transaction-{payment}").parse()?,
            payment: payment.payment,
            amount: order.amount.amount(),
            currency: order.amount.currency(),
        };
        match self.payments.captured(payment.lane, capture).await? {
            CaptureResult::Applied(advanced) => Ok(advanced),
            CaptureResult::Unmatched => Err("the payment should be known".into()),
        }
    }

    async fn status(&self, order: &Order) -> Result<OrderStatus> {
        let order = self.ordering.order(order.key).await?;
        Ok(order.ok_or("the order is missing")?.status)
    }

    /// Advances the clock and expires what is due.
    async fn pass(&self, span: Duration) -> Result<()> {
        self.clock.advance(span);
        Ok(self.maintenance.expire_once().await?)
    }

    /// Sends due refunds.
    async fn settle(&self) -> Result<()> {
        Ok(self.maintenance.settle_once().await?)
    }
}

/// A bank that accepts everything, but may report a closed payment as captured later.
#[derive(Debug)]
struct Bank(Provider);

#[async_trait]
impl PaymentProvider for Bank {
    fn name(&self) -> &Provider {
        &self.0
    }

    async fn open(
        &self,
        payment: PaymentRef,
        _: Money,
        _: Timestamp,
    ) -> std::result::Result<String, ProviderError> {
        Ok(format!("https://bank.example/pay/{payment}"))
    }

    async fn close(&self, _: PaymentRef) -> std::result::Result<Closed, ProviderError> {
        Ok(Closed::Closed)
    }

    fn captures_in_parts(&self) -> bool {
        false
    }

    async fn refund(
        &self,
        _: PaymentRef,
        _: &RefundTask,
    ) -> std::result::Result<RefundOutcome, ProviderError> {
        Ok(RefundOutcome::Done)
    }
}
