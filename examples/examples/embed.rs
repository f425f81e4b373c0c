//! How do I sell through the library in my own service?
//!
//! `cargo run -p flashsale-examples --example embed [DIRECTORY]`
//!
//! A shop opens a ledger in a directory (by default a temporary one), sells two units of an SKU,
//! takes payment through its own provider, and restarts: its orders are still there.
//!
//! This leaves out what your service already has: HTTP and user authentication.

use std::{
    collections::HashMap,
    error::Error,
    num::NonZeroU16,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use flashsale_core::{
    admission::{Claims, TicketKey, TicketKeys, TicketTerms},
    domain::{
        ActivityId, Capture, Clock, Idempotency, Key, LimitRule, Money, Name, OfferTerms, OrderKey,
        OrderStatus, Per, Provider, Quantity, SkuId, Strategy, Subject, Subjects, SystemClock, Timestamp,
        UserId, Window,
    },
    embedded::{EmbeddedLedger, EmbeddedOptions, EmbeddedQueue, LeaseFile},
    ledger::{
        Advanced, Ledger, LedgerCalls as _, LedgerRole, Outcome, PaymentRef, RefundOutcome, RefundTask,
        Terms, Timing,
    },
    queue::RetryPolicy,
    service::{
        BatcherOptions, CaptureResult, Closed, Maintenance, OrderRequest, OrderService, PaymentProvider,
        Payments, Placement, ProviderError, Sales,
    },
    snowflake::{self, Generator, LeaseError, Settings, WorkerLease},
};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let given = std::env::args_os().nth(1);
    let directory = given.as_deref().map_or(temporary.path(), Path::new);
    let bank = Arc::new(Bank::new()?);
    // This key signs tickets. Keep yours with your other secrets (`TicketKey::new`), so that
    // tickets survive a restart and every process accepts them.
    let key = TicketKey::random(1)?;

    // 1. Assemble the parts. `Shop` below is what you would keep in your service's state.
    let shop = Shop::open(directory, &bank, &key).await?;
    println!("The ledger is open in {}.", directory.display());

    // 2. Open a sale. Activity and SKU ids are your own; here the activity gets a generated one, so
    //    that the example can run twice in the same directory.
    let activity = ActivityId::try_from(shop.ids.next()?.value())?;
    let sku = SkuId::try_from(11)?;
    let price = Money::new(129_900, "CNY".parse()?)?;
    // Units are taken when an order is placed, and returned if it is not paid within 15 minutes.
    let offer = OfferTerms::new(sku, price, 2, Strategy::PreDeduct, Some(Duration::from_secs(900)))?
        .with_limits(vec![LimitRule::new(Subject::User, Per::Offer, 1)?])?;
    let now = shop.clock.now();
    let window = Window::new(now, now.after(Duration::from_secs(3_600)))?;
    let terms = Terms::new(activity, window, NonZeroU16::MIN, Timing::default(), vec![offer])?;
    shop.sales.open(Arc::new(terms)).await?;
    println!("The sale is open: 2 units at {price}, at most 1 per buyer.");

    // 3. Give the buyer a ticket: a credential in the purchase URL that is signed, short-lived,
    //    bound to this user and offer, and good for one order. Ana's name lets pages greet her.
    let ana = UserId::try_from(1)?;
    let claims = Claims { activity, sku, user: ana, user_name: Name::new("Ana")?, device: None };
    let expires_at = TicketTerms::default().expiry(&window, now).ok_or("it is too early for a ticket")?;
    let ticket = shop.tickets.issue(claims, now, expires_at)?.text;
    println!("Ana gets a ticket of {} characters.", ticket.len());

    // 4. Place the order: verify the ticket, without I/O, and send the request to the ledger.
    let request = shop.request(&ticket, "ana-1")?;
    let Placement::Placed(order, _) = shop.ordering.place(&request).await? else {
        return Err("Ana was first, so there should be a unit for her".into());
    };
    // The answer comes after the commit: the order now exists, whatever happens.
    assert!(order.persisted);
    assert_eq!((order.status, order.amount), (OrderStatus::Pending, price));
    // Pages and support name it by its reference. With the buyer from the session, that is its key.
    let reference = order.key.reference();
    println!("Ana's order {reference} is placed and costs {}.", order.amount);

    // 5. The answer is lost, so Ana's browser repeats the request with the same key. A repeat never
    //    makes a second order and never fails as a duplicate: it returns the order.
    let Placement::Existing(again, _) = shop.ordering.place(&request).await? else {
        return Err("the same key should return the same order".into());
    };
    assert_eq!(again.key, order.key);
    println!("Ana repeats the request with the same key, and gets the same order.");

    // 6. Ana pays. The payment is opened in the ledger before the provider is called, so no money
    //    arrives unexpectedly. Your callback handler then verifies and passes on the report.
    let opened = match shop.payments.open(reference.key(ana), bank.name()).await? {
        Ok(opened) => opened,
        Err(instead) => return Err(format!("the order cannot be paid: {instead:?}").into()),
    };
    println!("Ana pays at {}.", opened.pay_url);
    let capture = bank.pay(opened.reference)?;
    // Providers send callbacks more than once. Only the first one counts.
    for _ in 0..3 {
        let CaptureResult::Applied(Advanced::Done(paid) | Advanced::Replayed(paid)) =
            shop.payments.captured(opened.reference.lane, capture.clone()).await?
        else {
            return Err("the capture should be applied to Ana's order".into());
        };
        assert_eq!((paid.key, paid.status), (order.key, OrderStatus::Paid));
    }
    println!("The bank reports the payment three times; Ana's order is paid once.");

    // 7. Some requests are declined. That is a result, not an error, and says what your page should
    //    show. Ana has reached her limit; Ben takes the last unit, so Chen is too late.
    let outcome = shop.place(activity, sku, ana, "ana-2").await?;
    assert!(
        matches!(outcome, Placement::Declined(Outcome::LimitReached { remaining: 0, .. })),
        "{outcome:?}"
    );
    println!("Ana wants a second unit, but has reached her limit.");
    let (ben, chen) = (UserId::try_from(2)?, UserId::try_from(3)?);
    let Placement::Placed(bens, _) = shop.place(activity, sku, ben, "ben-1").await? else {
        return Err("one unit should be left for Ben".into());
    };
    let outcome = shop.place(activity, sku, chen, "chen-1").await?;
    assert_eq!(outcome, Placement::Declined(Outcome::SoldOut { available: 0 }));
    println!("Ben orders the last unit, so it is sold out for Chen.");

    // 8. Stop, and restart in the same directory.
    shop.close().await?;
    let shop = Shop::open(directory, &bank, &key).await?;
    println!("The shop has restarted.");

    // Ana's order is still paid, and a repeated request still returns it.
    let found = shop.ordering.order(order.key).await?.ok_or("Ana's order is missing")?;
    assert_eq!((found.status, found.amount), (OrderStatus::Paid, price));
    // Other users cannot read it.
    assert_eq!(shop.ordering.order(OrderKey { user: chen, ..order.key }).await?, None);
    let again = shop.ordering.place(&shop.request(&ticket, "ana-1")?).await?;
    assert!(matches!(again, Placement::Existing(again, _) if *again == found));
    println!("Ana's order {reference} is still there, and is paid.");

    // Ben's order still holds its unit, until he cancels it.
    assert_eq!(shop.stock(activity, sku).await?, (0, 1, 1));
    shop.ordering.cancel(bens.key, &shop.payments).await?;
    assert_eq!(shop.stock(activity, sku).await?, (1, 0, 1));
    println!("Ben cancels his order. Available, held, sold: 1, 0, 1.");
    shop.close().await
}

/// The parts that a service keeps.
struct Shop {
    clock: Arc<dyn Clock>,
    engine: Arc<EmbeddedLedger>,
    ids: Arc<Generator>,
    tickets: TicketKeys,
    sales: Arc<Sales>,
    ordering: OrderService,
    payments: Payments,
    stop: watch::Sender<bool>,
    maintenance: JoinHandle<()>,
    lease: JoinHandle<std::result::Result<(), LeaseError>>,
}

impl Shop {
    async fn open(directory: &Path, bank: &Arc<Bank>, key: &TicketKey) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);

        // The ledger. `Single`: it decides everything itself. One process may open a directory.
        let engine = EmbeddedOptions::new(directory, LedgerRole::Single, Arc::clone(&clock));
        let engine = Arc::new(EmbeddedLedger::open(engine)?);
        let ledger: Arc<dyn Ledger> = Arc::clone(&engine) as _;

        // Ids. A lease ensures that no two processes share a worker id; `keep` below renews it.
        let leases: Arc<dyn WorkerLease> = Arc::new(LeaseFile::new(directory.join("workers"), 0..=1023)?);
        let ids = Generator::acquire(&*leases, &Settings::default(), Arc::clone(&clock)).await?;
        let ids = Arc::new(ids);

        // The services. Queues run on the given runtime, so a request is decided even if its client
        // disconnects. A busy server gives them their own runtime.
        let sales = Sales::new(ledger, Arc::clone(&clock), Handle::current(), BatcherOptions::default());
        let sales = Arc::new(sales);
        let providers = [Arc::clone(bank) as Arc<dyn PaymentProvider>];
        let payments = Payments::new(Arc::clone(&sales), Arc::clone(&ids), providers);
        // Resume the sales that are open in the ledger, which matters after a restart.
        sales.resume().await?;

        // Background jobs: expiry, refunds, view renewal. Without them, holds never end.
        let (stop, stopped) = watch::channel(false);
        // Failed refunds are retried from a queue, and finally become dead letters there.
        let queue = Arc::new(EmbeddedQueue::open(directory, Arc::clone(&clock))?);
        let maintenance =
            Maintenance::new(Arc::clone(&sales), payments.clone(), queue, RetryPolicy::default());
        let maintenance = Arc::new(maintenance).run(stopped.clone());
        let lease = snowflake::renew_lease(Arc::clone(&ids), leases, wait_for(stopped));
        Ok(Self {
            // Further keys are accepted too, for key rotation while tickets are in use.
            tickets: TicketKeys::new(key.clone(), [])?,
            ordering: OrderService::new(Arc::clone(&sales), Arc::clone(&ids)),
            maintenance: tokio::spawn(maintenance),
            lease: tokio::spawn(lease),
            clock,
            engine,
            ids,
            sales,
            payments,
            stop,
        })
    }

    /// Call this when no requests are in progress, after your HTTP server has stopped.
    async fn close(self) -> Result<()> {
        self.stop.send_replace(true);
        self.maintenance.await?;
        self.lease.await??;
        self.sales.drain().await;
        // Not needed for safety: a killed process loses no orders. It speeds up the next start.
        self.engine.close().await?;
        Ok(())
    }

    /// Builds an order request from a ticket and the client's idempotency key.
    fn request(&self, ticket: &str, key: &str) -> Result<OrderRequest> {
        let ticket = self.tickets.verify(ticket, self.clock.now(), None)?;
        Ok(OrderRequest {
            user: ticket.claims.user,
            activity: ticket.claims.activity,
            sku: ticket.claims.sku,
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key::of_text(key), nonce: ticket.nonce },
            // For limits per device or address; this offer has none.
            subjects: Subjects::default(),
            // An expired but authentic ticket is no error: it still finds its order.
            ticket_expired: ticket.expired,
        })
    }

    /// Issues a ticket to a buyer and orders with it at once.
    async fn place(&self, activity: ActivityId, sku: SkuId, user: UserId, key: &str) -> Result<Placement> {
        let claims = Claims { activity, sku, user, user_name: Name::new(key)?, device: None };
        let now = self.clock.now();
        let ticket = self.tickets.issue(claims, now, now.after(Duration::from_secs(60)))?;
        Ok(self.ordering.place(&self.request(&ticket.text, key)?).await?)
    }

    /// Returns the units available, held and sold.
    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Result<(i64, i64, i64)> {
        let stock = self.engine.stock(activity, sku).await?.ok_or("no such offer")?;
        Ok((stock.available, stock.held, stock.sold))
    }
}

async fn wait_for(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which also means to stop.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Our own payment provider. It tracks payments by id, because every call may be repeated.
#[derive(Debug)]
struct Bank {
    name: Provider,
    accounts: Mutex<HashMap<PaymentRef, Account>>,
}

#[derive(Clone, Debug)]
enum Account {
    Open(Money),
    Captured(Capture),
    Closed,
}

#[async_trait]
impl PaymentProvider for Bank {
    fn name(&self) -> &Provider {
        &self.name
    }

    fn captures_in_parts(&self) -> bool {
        false
    }

    async fn open(
        &self,
        payment: PaymentRef,
        amount: Money,
        _deadline: Timestamp,
    ) -> std::result::Result<String, ProviderError> {
        self.with(|accounts| accounts.entry(payment).or_insert(Account::Open(amount)).clone());
        Ok(format!("https://bank.example/pay/{payment}"))
    }

    async fn close(&self, payment: PaymentRef) -> std::result::Result<Closed, ProviderError> {
        // The answer must be true: after `Closed`, no money may be taken.
        self.with(|accounts| match accounts.get(&payment) {
            Some(Account::Captured(capture)) => Ok(Closed::Captured(capture.clone())),
            _ => {
                accounts.insert(payment, Account::Closed);
                Ok(Closed::Closed)
            }
        })
    }

    async fn refund(
        &self,
        _: PaymentRef,
        _: &RefundTask,
    ) -> std::result::Result<RefundOutcome, ProviderError> {
        Ok(RefundOutcome::Done)
    }
}

impl Bank {
    fn new() -> Result<Self> {
        Ok(Self { name: "bank".parse()?, accounts: Mutex::default() })
    }

    /// Lets the buyer pay on the bank's page. Returns what the bank's callback reports.
    fn pay(&self, payment: PaymentRef) -> Result<Capture> {
        self.with(|accounts| match accounts.get(&payment) {
            Some(Account::Open(amount)) => {
                let capture = Capture {
                    provider: self.name.clone(),
                    event: format!("captured-{payment}").parse()?,
                    transaction: format!("transaction-{payment}").parse()?,
                    payment: payment.payment,
                    amount: amount.amount(),
                    currency: amount.currency(),
                };
                accounts.insert(payment, Account::Captured(capture.clone()));
                Ok(capture)
            }
            other => Err(format!("the payment is not open: {other:?}").into()),
        })
    }

    fn with<T>(&self, use_of: impl FnOnce(&mut HashMap<PaymentRef, Account>) -> T) -> T {
        use_of(&mut self.accounts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
