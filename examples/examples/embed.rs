//! How do I sell through the library inside my own service?
//!
//! `cargo run -p flashsale-examples --example embed [DIRECTORY]`
//!
//! A shop opens a ledger in a directory (a temporary one unless you name one), sells two units of one SKU, takes money
//! through a payment provider of its own, and is started again: its orders are still there.
//!
//! What this leaves out is what your service has already: HTTP, and finding out who the user is.

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
        ActivityId, Capture, Clock, Idempotency, Key, LimitRule, Money, Name, OfferTerms, OrderStatus,
        PaymentId, Per, Provider, Quantity, SkuId, Strategy, Subject, Subjects, SystemClock, Timestamp,
        UserId, Window,
    },
    embedded::{EmbeddedLedger, EmbeddedOptions, EmbeddedQueue, LeaseFile},
    ledger::{Advanced, Ledger, LedgerRole, Outcome, RefundOutcome, Terms, Timing},
    queue::Retries,
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
    // The key that signs tickets. Keep yours with your other secrets (`TicketKey::new`), so that tickets outlive a
    // restart and every process accepts them.
    let key = TicketKey::random(1)?;

    // 1. Put the parts together. `Shop` below is what you would keep in your service's state.
    let shop = Shop::open(directory, &bank, &key).await?;
    println!("The ledger is open in {}.", directory.display());

    // 2. Open a sale. Ids of activities and SKUs are your own; here the generator makes one, so that the example can
    //    run twice in a directory.
    let activity = ActivityId::try_from(shop.ids.next()?.value())?;
    let sku = SkuId::try_from(11)?;
    let price = Money::new(129_900, "CNY".parse()?)?;
    // Units are taken when the order is placed, and come back if it is not paid within 15 minutes.
    let offer = OfferTerms::new(sku, price, 2, Strategy::PreDeduct, Some(Duration::from_secs(900)))?
        .with_limits(vec![LimitRule::new(Subject::User, Per::Offer, 1)?])?;
    let now = shop.clock.now();
    let window = Window::new(now, now.after(Duration::from_secs(3_600)))?;
    let terms = Terms::new(activity, window, NonZeroU16::MIN, Timing::default(), vec![offer])?;
    shop.sales.open(Arc::new(terms)).await?;
    println!("A sale is open: 2 units at {price}, at most 1 for each buyer.");

    // 3. Give the buyer a ticket. It is a credential that you put into the purchase URL: signed, short-lived, bound to
    //    this user and this offer, and good for one order. Ana's name goes in so that pages can greet her.
    let ana = UserId::try_from(1)?;
    let claims = Claims { activity, sku, user: ana, user_name: Name::new("Ana")?, device: None };
    let expires_at = TicketTerms::default().expiry(&window, now).ok_or("it is too early for a ticket")?;
    let ticket = shop.tickets.issue(claims, now, expires_at)?.text;
    println!("Ana gets a ticket of {} characters.", ticket.len());

    // 4. Take the order: verify the ticket, which needs no I/O, and hand what it says to the ledger.
    let request = shop.request(&ticket, "ana-1")?;
    let Placement::Placed(order, _) = shop.ordering.place(&request).await? else {
        return Err("Ana asked first, and there are units".into());
    };
    // The answer came after the commit: whatever happens now, this order exists.
    assert!(order.persisted);
    assert_eq!((order.status, order.amount), (OrderStatus::Pending, price));
    println!("Ana's order {} is placed and costs {}.", order.key.id, order.amount);

    // 5. The answer gets lost on its way to Ana, and her browser sends the request again with the same key. A repeat is
    //    never a second order, and never "you have one already": it is answered with the order.
    let Placement::Existing(again) = shop.ordering.place(&request).await? else {
        return Err("the same key finds the order that it made".into());
    };
    assert_eq!(again.key, order.key);
    println!("Ana asks again with the same key, and gets the same order.");

    // 6. Ana pays. The payment opens in the ledger before the provider hears of it, so no money can come that nobody
    //    expects. Then your callback's handler verifies what the provider says and hands it over.
    let opened = match shop.payments.open(ana, order.key.id, bank.name()).await? {
        Ok(opened) => opened,
        Err(instead) => return Err(format!("the order cannot be paid: {instead:?}").into()),
    };
    println!("Ana pays at {}.", opened.pay_url);
    let capture = bank.pay(opened.payment.id)?;
    // Providers deliver callbacks more than once; only the first counts.
    for _ in 0..3 {
        let CaptureResult::Applied(Advanced::Done(paid) | Advanced::Replayed(paid)) =
            shop.payments.captured(capture.clone()).await?
        else {
            return Err("the money is for Ana's order".into());
        };
        assert_eq!((paid.key, paid.status), (order.key, OrderStatus::Paid));
    }
    println!("The bank reports the money three times, and Ana's order is paid once.");

    // 7. Some are declined. That is a result and not an error, and says what your page has to show. Ana has reached her
    //    limit; Ben takes the last unit, so Chen is too late.
    let outcome = shop.place(activity, sku, ana, "ana-2").await?;
    assert!(
        matches!(outcome, Placement::Declined(Outcome::LimitReached { remaining: 0, .. })),
        "{outcome:?}"
    );
    println!("Ana wants another one: her limit is reached.");
    let (ben, chen) = (UserId::try_from(2)?, UserId::try_from(3)?);
    let Placement::Placed(bens, _) = shop.place(activity, sku, ben, "ben-1").await? else {
        return Err("one unit is left for Ben".into());
    };
    let outcome = shop.place(activity, sku, chen, "chen-1").await?;
    assert_eq!(outcome, Placement::Declined(Outcome::SoldOut { available: 0 }));
    println!("Ben orders the last unit, and Chen is told that it is sold out.");

    // 8. Stop, and start again on the same directory.
    shop.close().await?;
    let shop = Shop::open(directory, &bank, &key).await?;
    println!("The shop was stopped and started again.");

    // Ana's order is there, paid; and if her browser still repeats its request, it still gets that order.
    let found = shop.ordering.order(ana, order.key.id).await?.ok_or("Ana's order is gone")?;
    assert_eq!((found.status, found.amount), (OrderStatus::Paid, price));
    // Nobody else's user id finds it.
    assert_eq!(shop.ordering.order(chen, order.key.id).await?, None);
    assert_eq!(
        shop.ordering.place(&shop.request(&ticket, "ana-1")?).await?,
        Placement::Existing(Box::new(found))
    );
    println!("Ana's order {} is there, and is paid.", order.key.id);

    // Ben's order still holds its unit, until he gives it up.
    assert_eq!(shop.stock(activity, sku).await?, (0, 1, 1));
    shop.ordering.cancel(ben, bens.key.id, &shop.payments).await?;
    assert_eq!(shop.stock(activity, sku).await?, (1, 0, 1));
    println!("Ben gives his order up. Available, held, sold: 1, 0, 1.");
    shop.close().await
}

/// What a service keeps to sell.
struct Shop {
    clock: Arc<dyn Clock>,
    engine: Arc<EmbeddedLedger>,
    ids: Arc<Generator>,
    tickets: TicketKeys,
    sales: Arc<Sales>,
    ordering: OrderService,
    payments: Payments,
    stop: watch::Sender<bool>,
    upkeep: JoinHandle<()>,
    lease: JoinHandle<std::result::Result<(), LeaseError>>,
}

impl Shop {
    async fn open(directory: &Path, bank: &Arc<Bank>, key: &TicketKey) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);

        // The ledger. `Single` says that it decides everything itself. A second process on this directory is refused.
        let engine = EmbeddedOptions::new(directory, LedgerRole::Single, Arc::clone(&clock));
        let engine = Arc::new(EmbeddedLedger::open(engine)?);
        let ledger: Arc<dyn Ledger> = Arc::clone(&engine) as _;

        // Ids. A lease makes sure that no two processes use the same worker id; `keep`, below, renews it.
        let leases: Arc<dyn WorkerLease> = Arc::new(LeaseFile::new(directory.join("workers"), 0..=1023)?);
        let ids = Generator::acquire(&*leases, &Settings::default(), Arc::clone(&clock)).await?;
        let ids = Arc::new(ids);

        // The services. Queues work on the runtime that they are given: a request whose client goes away is decided all
        // the same. A busy server gives them a runtime of their own.
        let sales = Sales::new(ledger, Arc::clone(&clock), Handle::current(), BatcherOptions::default());
        let sales = Arc::new(sales);
        let providers = [Arc::clone(bank) as Arc<dyn PaymentProvider>];
        let payments = Payments::new(Arc::clone(&sales), Arc::clone(&ids), providers);
        // Takes part in what is open in the ledger already: after a restart, every sale that was open before.
        sales.resume().await?;

        // What nobody asks for: expiry, refunds, fresh views. Without it unpaid orders hold their units for ever.
        let (stop, stopped) = watch::channel(false);
        // Refunds that fail are tried again from a queue; those that cannot be done wait there for somebody.
        let queue = Arc::new(EmbeddedQueue::open(directory, Arc::clone(&clock))?);
        let upkeep = Maintenance::new(Arc::clone(&sales), payments.clone(), queue, Retries::default());
        let upkeep = Arc::new(upkeep).run(stopped.clone());
        let lease = snowflake::keep(Arc::clone(&ids), leases, wait_for(stopped));
        Ok(Self {
            // The keys behind the first are accepted too: that is how a key is replaced while tickets are out.
            tickets: TicketKeys::new(key.clone(), [])?,
            ordering: OrderService::new(Arc::clone(&sales), Arc::clone(&ids)),
            upkeep: tokio::spawn(upkeep),
            lease: tokio::spawn(lease),
            clock,
            engine,
            ids,
            sales,
            payments,
            stop,
        })
    }

    /// Call it when no request is under way any more: your HTTP server stops first.
    async fn close(self) -> Result<()> {
        self.stop.send_replace(true);
        self.upkeep.await?;
        self.lease.await??;
        self.sales.drain().await;
        // Not needed for safety: a process that is killed loses no order. It makes the next start quick.
        self.engine.close().await?;
        Ok(())
    }

    /// What a ticket and the client's idempotency key ask for.
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
            // An authentic ticket that has expired is no error: it finds the order that it made.
            ticket_expired: ticket.expired,
        })
    }

    /// Gives a buyer a ticket, and orders with it at once.
    async fn place(&self, activity: ActivityId, sku: SkuId, user: UserId, key: &str) -> Result<Placement> {
        let claims = Claims { activity, sku, user, user_name: Name::new(key)?, device: None };
        let now = self.clock.now();
        let ticket = self.tickets.issue(claims, now, now.after(Duration::from_secs(60)))?;
        Ok(self.ordering.place(&self.request(&ticket.text, key)?).await?)
    }

    /// Units that are available, held, sold.
    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Result<(i64, i64, i64)> {
        let stock = self.engine.stock(activity, sku).await?.ok_or("there is no such offer")?;
        Ok((stock.available, stock.held, stock.sold))
    }
}

async fn wait_for(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which stops as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// A payment provider of our own. It keeps accounts by our payment id, because every call may come twice.
#[derive(Debug)]
struct Bank {
    name: Provider,
    accounts: Mutex<HashMap<PaymentId, Account>>,
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

    async fn open(
        &self,
        payment: PaymentId,
        amount: Money,
        _deadline: Timestamp,
    ) -> std::result::Result<String, ProviderError> {
        self.with(|accounts| accounts.entry(payment).or_insert(Account::Open(amount)).clone());
        Ok(format!("https://bank.example/pay/{payment}"))
    }

    async fn close(&self, payment: PaymentId) -> std::result::Result<Closed, ProviderError> {
        // The answer has to be true: after `Closed` no money may be taken any more.
        self.with(|accounts| match accounts.get(&payment) {
            Some(Account::Captured(capture)) => Ok(Closed::Captured(capture.clone())),
            _ => {
                accounts.insert(payment, Account::Closed);
                Ok(Closed::Closed)
            }
        })
    }

    async fn refund(&self, _: &Capture) -> std::result::Result<RefundOutcome, ProviderError> {
        Ok(RefundOutcome::Done)
    }
}

impl Bank {
    fn new() -> Result<Self> {
        Ok(Self { name: "bank".parse()?, accounts: Mutex::default() })
    }

    /// The buyer pays on the bank's page. Answers what the bank's callback then says.
    fn pay(&self, payment: PaymentId) -> Result<Capture> {
        self.with(|accounts| match accounts.get(&payment) {
            Some(Account::Open(amount)) => {
                let capture = Capture {
                    provider: self.name.clone(),
                    event: format!("captured-{payment}").parse()?,
                    transaction: format!("transaction-{payment}").parse()?,
                    payment,
                    amount: amount.amount(),
                    currency: amount.currency(),
                };
                accounts.insert(payment, Account::Captured(capture.clone()));
                Ok(capture)
            }
            other => Err(format!("the payment cannot be made: {other:?}").into()),
        })
    }

    fn with<T>(&self, use_of: impl FnOnce(&mut HashMap<PaymentId, Account>) -> T) -> T {
        use_of(&mut self.accounts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
