//! How do I connect my payment provider, and what if it is down?
//!
//! `cargo run -p flashsale-examples --example payment_provider`
//!
//! Your own `PaymentProvider` has three calls. The library makes and repeats them as needed, and
//! pauses if too many fail. Here the provider talks to a fictional acquirer in memory, with the
//! requests and answers that would otherwise go over HTTP.

use std::{
    collections::HashMap,
    error::Error,
    num::NonZeroU16,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use flashsale_core::{
    circuit_breaker::{BreakerOptions, BreakerReading, BreakerState},
    domain::{
        ActivityId, Capture, Clock, Idempotency, Key, ManualClock, Money, Nonce, OfferTerms, Order,
        OrderStatus, Provider, Quantity, RefundReason, RefundStatus, SkuId, Strategy, Subjects, SystemClock,
        Timestamp, UserId, Window,
    },
    embedded::EmbeddedLedger,
    ledger::{Advanced, Ledger, LedgerRole, PaymentRef, RefundOutcome, RefundTask, Terms, Timing},
    queue::{InMemoryQueue, RetryPolicy},
    service::{
        BatcherOptions, CaptureResult, Closed, Maintenance, OpenedPayment, OrderRequest, OrderService,
        PaymentProvider, Payments, Placement, ProviderError, Sales, ServiceError,
    },
    snowflake::{Generator, InMemoryLease, Settings},
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// How long a buyer has to pay.
const HOLD: Duration = Duration::from_secs(900);
/// How long the breaker stays open after too many failures.
const OPEN_FOR: Duration = Duration::from_secs(30);

/// The provider. It translates the library's calls into the acquirer's API.
#[derive(Debug)]
struct HarbourPay {
    name: Provider,
    acquirer: Arc<Acquirer>,
}

#[async_trait]
impl PaymentProvider for HarbourPay {
    fn name(&self) -> &Provider {
        &self.name
    }

    /// This acquirer takes the whole amount or nothing. Money of another amount is sent back.
    fn captures_in_parts(&self) -> bool {
        false
    }

    /// May be repeated for the same payment: after a lost answer, or when the buyer asks again. Our
    /// reference is therefore the acquirer's idempotency key: it yields one payment and one page.
    async fn open(
        &self,
        payment: PaymentRef,
        amount: Money,
        deadline: Timestamp,
    ) -> Result<String, ProviderError> {
        let body = json!({
            "amount": amount.amount(), "currency": amount.currency(), "expires_at_ms": deadline.as_millis(),
        });
        let answer = self.ask("POST", &format!("/payments/{payment}"), &payment.to_string(), &body).await?;
        Ok(text(&answer, "pay_url")?.to_owned())
    }

    /// `Closed` is a promise: no money will be taken for this payment. It must hold even if the
    /// acquirer does not know the payment yet, since the call that opens it may still be in flight.
    async fn close(&self, payment: PaymentRef) -> Result<Closed, ProviderError> {
        let key = format!("close-{payment}");
        let answer = self.ask("POST", &format!("/payments/{payment}/close"), &key, &json!({})).await?;
        match text(&answer, "status")? {
            "closed" => Ok(Closed::Closed),
            "captured" => Ok(Closed::Captured(self.capture(&answer)?.1)),
            other => Err(ProviderError::Failed(format!("unknown payment status {other:?}"))),
        }
    }

    /// Repeated until the refund is known to be done. This acquirer uses each transaction id
    /// once, so the key needs only it, the number and the amount.
    async fn refund(&self, _: PaymentRef, task: &RefundTask) -> Result<RefundOutcome, ProviderError> {
        let transaction = task.capture.transaction.as_str();
        let body = json!({ "transaction": transaction, "amount": task.amount });
        let key = format!("{transaction}-{}-{}", task.number, task.amount);
        match self.ask("POST", "/refunds", &key, &body).await {
            Ok(_) => Ok(RefundOutcome::Done),
            // For instance a closed card. A retry would not help; support has to handle it.
            Err(ProviderError::Refused(_)) => Ok(RefundOutcome::Failed),
            Err(error) => Err(error),
        }
    }
}

impl HarbourPay {
    /// Calls the acquirer. The distinction matters: `Refused` is a negative answer, `Failed` is no
    /// usable answer. Only failures open the breaker.
    async fn ask(&self, method: &str, path: &str, key: &str, body: &Value) -> Result<Value, ProviderError> {
        // In your service, use your HTTP client. The library drops this future after 10 s; a
        // shorter timeout in your client can log what it was waiting for.
        match self.acquirer.call(method, path, key, body).await {
            None => Err(ProviderError::Failed("connection refused".to_owned())),
            Some((200..300, answer)) => Ok(answer),
            // "Too many requests" and "timeout" say nothing about this payment.
            Some((status @ (408 | 429 | 500..), _)) => Err(ProviderError::Failed(format!("HTTP {status}"))),
            Some((status, answer)) => Err(ProviderError::Refused(format!("HTTP {status}: {answer}"))),
        }
    }

    /// Parses the acquirer's report of captured money, from callbacks and answers to closing. Returns also
    /// which payment it is about.
    fn capture(&self, report: &Value) -> Result<(PaymentRef, Capture), ProviderError> {
        let wrong = |error: &dyn Error| ProviderError::Failed(format!("invalid report: {error}"));
        let number = |field: &str| {
            report[field].as_u64().ok_or_else(|| ProviderError::Failed(format!("the report has no {field}")))
        };
        let payment: PaymentRef = text(report, "payment")?.parse().map_err(|error| wrong(&error))?;
        let capture = Capture {
            provider: self.name.clone(),
            event: text(report, "event")?.parse().map_err(|error| wrong(&error))?,
            transaction: text(report, "transaction")?.parse().map_err(|error| wrong(&error))?,
            payment: payment.payment,
            // The amount that was taken, not the one expected: the ledger compares them.
            amount: number("amount")?,
            currency: text(report, "currency")?.parse().map_err(|error| wrong(&error))?,
        };
        Ok((payment, capture))
    }
}

fn text<'a>(answer: &'a Value, field: &str) -> Result<&'a str, ProviderError> {
    answer[field].as_str().ok_or_else(|| ProviderError::Failed(format!("the answer has no {field}")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let shop = Shop::open().await?;

    // 1. Ana pays. She presses the button twice: one payment, one page.
    let ana = shop.order(1, TEAPOT).await?;
    let opened = shop.pay(&ana).await?;
    assert_eq!(shop.pay(&ana).await?.pay_url, opened.pay_url);
    assert_eq!(shop.acquirer.payments(), 1);
    println!("Ana pays at {}.", opened.pay_url);
    // The acquirer calls your callback, more than once. Verify its signature over the raw body
    // first (see the reference server's src/auth/signature.rs), pass it on, and answer 200.
    let report = shop.acquirer.buyer_pays(opened.reference)?;
    for _ in 0..3 {
        let paid = shop.callback(&report).await?;
        assert!(matches!(paid, Advanced::Done(_) | Advanced::Replayed(_)), "{paid:?}");
    }
    assert_eq!(shop.status(&ana).await?, OrderStatus::Paid);
    println!("The acquirer reports the payment three times; her order is paid once.");

    // 2. The acquirer refuses amounts below 1.00. That is an answer, not a failure.
    let cup = shop.order(1, CUP).await?;
    let refused = shop.pay(&cup).await;
    assert!(matches!(refused, Err(ServiceError::Provider(_))), "{refused:?}");
    assert_eq!((shop.breaker().state, shop.breaker().failed), (BreakerState::Closed, 0));
    println!("The acquirer refuses 0.50; the breaker stays closed.");

    // 3. The acquirer goes down just after Ben has paid; its report is stuck. Chen and Dana get
    //    errors, so their payments may or may not be open. These two failures open the breaker.
    let [ben, chen, dana, eve] = [
        shop.order(2, TEAPOT).await?,
        shop.order(3, TEAPOT).await?,
        shop.order(4, TEAPOT).await?,
        shop.order(5, TEAPOT).await?,
    ];
    let bens = shop.pay(&ben).await?;
    let stuck = shop.acquirer.buyer_pays(bens.reference)?;
    shop.acquirer.go_down(true);
    for order in [&chen, &dana] {
        let failed = shop.pay(order).await;
        assert!(matches!(failed, Err(ServiceError::Provider(_))), "{failed:?}");
        assert_eq!(shop.status(order).await?, OrderStatus::Paying);
    }
    assert_eq!(shop.breaker().state, BreakerState::Open);
    println!("The acquirer is down. After two failures, the breaker is open.");

    // 4. Eve is told at once when to try again, without a call to the acquirer. Her order is
    //    unchanged: it is pending, with its deadline.
    let asked = shop.acquirer.calls();
    let Err(ServiceError::ProviderUnavailable { retry_after }) = shop.pay(&eve).await else {
        return Err("the breaker should reject all calls".into());
    };
    assert_eq!((retry_after, shop.acquirer.calls()), (OPEN_FOR, asked));
    assert_eq!(shop.status(&eve).await?, OrderStatus::Pending);
    println!("Eve is told to try again in {} s; her order is unchanged.", retry_after.as_secs());

    // 5. After that time one probe is let through. The acquirer is up again, so the breaker closes.
    //    Chen's payment continues where it stopped.
    shop.acquirer.go_down(false);
    shop.clock.advance(OPEN_FOR);
    assert_eq!(shop.breaker().state, BreakerState::HalfOpen);
    let eves = shop.pay(&eve).await?;
    assert_eq!(shop.breaker().state, BreakerState::Closed);
    let chens = shop.pay(&chen).await?;
    assert!(!chens.new);
    for payment in [eves.reference, chens.reference] {
        shop.callback(&shop.acquirer.buyer_pays(payment)?).await?;
    }
    assert_eq!(shop.status(&eve).await?, OrderStatus::Paid);
    assert_eq!(shop.status(&chen).await?, OrderStatus::Paid);
    println!("Eve's second try is the probe. It succeeds, so the breaker closes. Eve and Chen pay.");

    // 6. The acquirer is down again, for longer. Ben's and Dana's orders are overdue, but their
    //    payments cannot be closed. After a grace period the orders expire and release their units.
    shop.acquirer.go_down(true);
    shop.clock.advance(HOLD);
    shop.maintenance.expire_once().await?;
    assert_eq!(shop.status(&ben).await?, OrderStatus::Paying);
    shop.clock.advance(Timing::default().close_grace);
    shop.maintenance.expire_once().await?;
    for order in [&ben, &dana] {
        assert_eq!(shop.status(order).await?, OrderStatus::Expired);
    }
    println!("The acquirer is down until Ben's and Dana's orders have expired.");

    // 7. The acquirer is back and reports Ben's payment. His order has expired, so a refund is due.
    //    Maintenance retries it until done, also after a crash, a lost answer or an open breaker.
    let late = shop.callback(&stuck).await?;
    assert!(matches!(late, Advanced::RefundDue(..)), "{late:?}");
    shop.maintenance.settle_once().await?;
    // The acquirer is still down for our calls: the refund waits in the queue.
    assert_eq!(shop.refund(&ben).await?, Some(RefundStatus::Due));
    shop.acquirer.go_down(false);
    shop.clock.advance(OPEN_FOR);
    shop.maintenance.settle_once().await?;
    assert_eq!(shop.refund(&ben).await?, Some(RefundStatus::Done));
    // A repeated call finds it done.
    let (payment, capture) = shop.provider.capture(&stuck)?;
    let (order, amount) = (ben.key, capture.amount);
    let task = RefundTask { order, capture, number: 0, amount, reason: RefundReason::OrderClosed };
    assert_eq!(shop.provider.refund(payment, &task).await?, RefundOutcome::Done);
    assert_eq!(shop.acquirer.refunds(), 1);
    println!("Ben's late payment is refunded, once.");
    let BreakerReading { succeeded, failed, rejected, .. } = shop.breaker();
    println!("The breaker counted {succeeded} answers, {failed} failures and {rejected} rejected calls.");
    Ok(())
}

/// SKU 11 at 99.00, and SKU 12 at 0.50.
const TEAPOT: u64 = 11;
const CUP: u64 = 12;

/// The parts that a service keeps; the `embed` example explains them.
struct Shop {
    clock: Arc<ManualClock>,
    acquirer: Arc<Acquirer>,
    provider: Arc<HarbourPay>,
    ordering: OrderService,
    payments: Payments,
    maintenance: Maintenance,
    asked: AtomicU64,
}

impl Shop {
    async fn open() -> Result<Self> {
        // 2026-11-27T00:00:00Z. The breakers use the clock of the sales.
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_795_737_600_000)));
        let ledger: Arc<dyn Ledger> =
            Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _));
        let settings = Settings { term: Duration::from_secs(3_600), ..Settings::default() };
        let ids = Generator::acquire(&InMemoryLease::new(0..=0), &settings, Arc::new(SystemClock)).await?;
        let ids = Arc::new(ids);
        let sales = Sales::new(ledger, Arc::clone(&clock) as _, Handle::current(), BatcherOptions::default());
        let sales = Arc::new(sales);

        let acquirer = Arc::new(Acquirer::default());
        let provider = Arc::new(HarbourPay { name: "harbour".parse()?, acquirer: Arc::clone(&acquirer) });
        // Two failures in the last four calls open the breaker, and one probe closes it: small
        // numbers, easy to follow. A service starts with the defaults of `Payments::new`.
        let breaker = BreakerOptions::new(4, 2, OPEN_FOR, 1)?;
        let providers = [Arc::clone(&provider) as Arc<dyn PaymentProvider>];
        let payments = Payments::with_breakers(Arc::clone(&sales), Arc::clone(&ids), providers, breaker);

        let offer = |sku, price| {
            let price = Money::new(price, "CNY".parse()?)?;
            let offer = OfferTerms::new(SkuId::try_from(sku)?, price, 10, Strategy::PreDeduct, Some(HOLD))?;
            Ok::<_, Box<dyn Error>>(offer)
        };
        let offers = vec![offer(TEAPOT, 9_900)?, offer(CUP, 50)?];
        let window = Window::new(clock.now(), clock.now().after(Duration::from_secs(7_200)))?;
        let terms = Terms::new(ActivityId::try_from(1)?, window, NonZeroU16::MIN, Timing::default(), offers)?;
        sales.open(Arc::new(terms)).await?;
        let queue = Arc::new(InMemoryQueue::new(Arc::clone(&clock) as _));
        Ok(Self {
            ordering: OrderService::new(Arc::clone(&sales), ids),
            maintenance: Maintenance::new(sales, payments.clone(), queue, RetryPolicy::default()),
            asked: AtomicU64::new(0),
            clock,
            acquirer,
            provider,
            payments,
        })
    }

    async fn order(&self, user: u64, sku: u64) -> Result<Order> {
        let number = self.asked.fetch_add(1, SeqCst);
        let request = OrderRequest {
            user: UserId::try_from(user)?,
            activity: ActivityId::try_from(1)?,
            sku: SkuId::try_from(sku)?,
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key::of_text(&number.to_string()), nonce: Nonce(number) },
            subjects: Subjects::default(),
            ticket_expired: false,
        };
        match self.ordering.place(&request).await? {
            Placement::Placed(order, _) => Ok(*order),
            other => Err(format!("there should be units: {other:?}").into()),
        }
    }

    /// The "pay" handler. A service answers `ProviderUnavailable` with 503 and `Retry-After`.
    async fn pay(&self, order: &Order) -> Result<OpenedPayment, ServiceError> {
        let opened = self.payments.open(order.key, self.provider.name()).await?;
        Ok(opened.expect("the orders of this example take payments"))
    }

    /// The callback handler, once the signature is verified.
    async fn callback(&self, report: &Value) -> Result<Advanced> {
        let (payment, capture) = self.provider.capture(report)?;
        match self.payments.captured(payment.lane, capture).await? {
            CaptureResult::Applied(advanced) => Ok(advanced),
            CaptureResult::Unmatched => Err("the payment should be known".into()),
        }
    }

    async fn read(&self, order: &Order) -> Result<Order> {
        Ok(self.ordering.order(order.key).await?.ok_or("the order is missing")?)
    }

    async fn status(&self, order: &Order) -> Result<OrderStatus> {
        Ok(self.read(order).await?.status)
    }

    async fn refund(&self, order: &Order) -> Result<Option<RefundStatus>> {
        Ok(self.read(order).await?.refund().map(|total| total.status))
    }

    /// For your metrics: the state and counts of a breaker.
    fn breaker(&self) -> BreakerReading {
        self.payments.breakers().next().expect("each provider has a breaker").read()
    }
}

/// The acquirer at the other end.
#[derive(Debug, Default)]
struct Acquirer {
    books: Mutex<Books>,
    is_down: AtomicBool,
    calls: AtomicU64,
}

#[derive(Debug, Default)]
struct Books {
    /// By our reference, as in the path.
    payments: HashMap<String, Account>,
    /// By transaction.
    refunds: HashMap<String, u64>,
}

#[derive(Debug)]
enum Account {
    Open {
        amount: u64,
        currency: String,
    },
    /// With the report of the capture.
    Captured(Value),
    Closed,
}

impl Acquirer {
    /// Handles a request; `None` if there is no answer.
    async fn call(&self, method: &str, path: &str, key: &str, body: &Value) -> Option<(u16, Value)> {
        self.calls.fetch_add(1, SeqCst);
        if self.is_down.load(SeqCst) {
            return None;
        }
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        Some(self.with(|books| match (method, parts.as_slice()) {
            ("POST", ["payments", id]) => books.open(id, body),
            ("POST", ["payments", id, "close"]) => books.close(id),
            ("POST", ["refunds"]) => {
                let amount = body["amount"].as_u64().unwrap_or_default();
                books.refunds.entry(key.to_owned()).or_insert(amount);
                (200, json!({ "status": "refunded" }))
            }
            _ => (404, json!({ "error": "no such endpoint" })),
        }))
    }

    /// Lets a buyer pay on the acquirer's page, and returns the report for us.
    fn buyer_pays(&self, payment: PaymentRef) -> Result<Value> {
        self.with(|books| {
            let id = payment.to_string();
            let Some(Account::Open { amount, currency }) = books.payments.get(&id) else {
                return Err("this payment is not open".into());
            };
            let report = json!({
                "status": "captured", "event": format!("event-{id}"), "transaction": format!("transaction-{id}"),
                "payment": id, "amount": amount, "currency": currency,
            });
            books.payments.insert(id, Account::Captured(report.clone()));
            Ok(report)
        })
    }

    fn go_down(&self, is_down: bool) {
        self.is_down.store(is_down, SeqCst);
    }

    fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    fn payments(&self) -> usize {
        self.with(|books| books.payments.len())
    }

    fn refunds(&self) -> usize {
        self.with(|books| books.refunds.len())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Books) -> T) -> T {
        look(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Books {
    fn open(&mut self, id: &str, body: &Value) -> (u16, Value) {
        let amount = body["amount"].as_u64().unwrap_or_default();
        if amount < 100 {
            return (422, json!({ "error": "the minimum amount is 1.00" }));
        }
        let currency = body["currency"].as_str().unwrap_or_default().to_owned();
        // The same id is the same payment. A closed one stays closed.
        match self.payments.entry(id.to_owned()).or_insert(Account::Open { amount, currency }) {
            Account::Closed => (409, json!({ "error": "this payment is closed" })),
            _ => (201, json!({ "pay_url": format!("https://pay.harbour.example/{id}") })),
        }
    }

    /// Closes a payment for good, even if it was never opened.
    fn close(&mut self, id: &str) -> (u16, Value) {
        match self.payments.get(id) {
            Some(Account::Captured(report)) => (200, report.clone()),
            _ => {
                self.payments.insert(id.to_owned(), Account::Closed);
                (200, json!({ "status": "closed" }))
            }
        }
    }
}
