//! How does another system learn about order events? Here a mailer is an event sink.
//!
//! ```text
//! cargo run -p flashsale-examples --example event_sink
//! ```
//!
//! An order event is written in the same step as the change. A [`Notifier`] moves it to a queue and
//! from there to a sink: at least once, possibly concurrently. A refused one becomes a dead letter.

use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    num::NonZeroU16,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use flashsale_core::{
    domain::{
        ActivityId, Clock, Idempotency, Key, ManualClock, Money, Nonce, OfferTerms, OrderId, OrderStatus,
        Quantity, SkuId, Strategy, Subjects, SystemClock, Timestamp, UserId, Window,
    },
    embedded::{EmbeddedLedger, EmbeddedQueue},
    ledger::{Ledger, LedgerRole, Terms, Timing},
    queue::{Queue, RetryPolicy},
    service::{
        BatcherOptions, EventSink, Maintenance, Notification, NotificationKind, Notifier, OrderRequest,
        OrderService, Payments, Placement, Sales, SinkError,
    },
    snowflake::{Generator, InMemoryLease, Settings},
};
use tokio::runtime::Handle;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Mails "your order is reserved" and "your order has expired". Ignores repeated and stale events.
#[derive(Debug, Default)]
struct Mailer {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    down: bool,
    blocked: HashSet<u64>,
    written: HashSet<String>,
    newest: BTreeMap<OrderId, u64>,
    outbox: Vec<String>,
}

impl Mailer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventSink for Mailer {
    async fn deliver(&self, notification: &Notification) -> std::result::Result<(), SinkError> {
        let Notification { id, kind, order, .. } = notification;
        let mut state = self.state();
        if state.down {
            // Delivered again, with growing delays.
            return Err(SinkError::Unavailable("the mail server does not answer".to_owned()));
        }
        if state.blocked.contains(&order.key.user.value()) {
            // Not delivered again until someone replays the dead letter.
            return Err(SinkError::Refused(format!("user {} does not accept mail", order.key.user)));
        }
        // Repeated deliveries of an event have the same id.
        if !state.written.insert(id.to_string()) {
            return Ok(());
        }
        // The order is shown in its present state, so a late notification may be stale.
        if state.newest.insert(order.key.id, order.revision).is_some_and(|newest| newest >= order.revision) {
            return Ok(());
        }
        let text = match (kind, order.status) {
            (_, OrderStatus::Expired) => "your order has expired",
            (NotificationKind::Placed, _) => "your order is reserved",
            _ => return Ok(()),
        };
        state.outbox.push(format!("user {}: {text}", order.key.user));
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    // 2026-11-27T00:00:00Z; from here on the program moves the clock.
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_795_737_600_000)));
    let ledger: Arc<dyn Ledger> =
        Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _));
    let settings = Settings { term: Duration::from_secs(3_600), ..Settings::default() };
    let ids = Generator::acquire(&InMemoryLease::new(0..=0), &settings, Arc::new(SystemClock)).await?;
    let ids = Arc::new(ids);
    let sales = Sales::new(ledger, Arc::clone(&clock) as _, Handle::current(), BatcherOptions::default());
    let sales = Arc::new(sales);
    let ordering = OrderService::new(Arc::clone(&sales), Arc::clone(&ids));

    // The queue must survive the process: the ledger drops an event once it is queued.
    let queue: Arc<dyn Queue> =
        Arc::new(EmbeddedQueue::open(directory.path(), Arc::clone(&clock) as Arc<dyn Clock>)?);
    let mailer = Arc::new(Mailer::default());
    let sink = Arc::clone(&mailer) as Arc<dyn EventSink>;
    let notifier = Notifier::new(Arc::clone(&sales), Arc::clone(&queue), sink, RetryPolicy::default());
    // From now on the ledger keeps events until the notifier has read them.
    notifier.register().await?;

    let price = Money::new(9_900, "CNY".parse()?)?;
    let hold = Duration::from_secs(900);
    let offer = OfferTerms::new(SkuId::try_from(11)?, price, 10, Strategy::PreDeduct, Some(hold))?;
    let window = Window::new(clock.now(), clock.now().after(Duration::from_secs(3_600)))?;
    let activity = ActivityId::try_from(1)?;
    let terms = Terms::new(activity, window, NonZeroU16::MIN, Timing::default(), vec![offer])?;
    sales.open(Arc::new(terms)).await?;
    let order = async |user: u64| -> Result<()> {
        let request = OrderRequest {
            user: UserId::try_from(user)?,
            activity,
            sku: SkuId::try_from(11)?,
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key(user.into()), nonce: Nonce(user) },
            subjects: Subjects::default(),
            ticket_expired: false,
        };
        match ordering.place(&request).await? {
            Placement::Placed(..) => Ok(()),
            other => Err(format!("there should be units: {other:?}").into()),
        }
    };

    // A service would spawn `Notifier::run`. Here single rounds run after the clock moves.
    order(1).await?;
    notifier.notify_once().await?;
    assert_eq!(mailer.state().outbox, ["user 1: your order is reserved"]);
    println!("An order is placed, and its buyer gets a mail.");

    mailer.state().down = true;
    order(2).await?;
    notifier.notify_once().await?;
    assert_eq!(notifier.worker().counts().retried, 1);
    mailer.state().down = false;
    clock.advance(Duration::from_secs(1));
    notifier.notify_once().await?;
    assert_eq!(mailer.state().outbox.last().map(String::as_str), Some("user 2: your order is reserved"));
    println!("The mail server was down for a moment; the second buyer got the mail a little later.");

    mailer.state().blocked.insert(3);
    order(3).await?;
    order(4).await?;
    notifier.notify_once().await?;
    assert_eq!(mailer.state().outbox.len(), 3, "a refused notification blocks no other");
    let letters = queue.dead_letters(None, 10).await?;
    assert_eq!((letters.len(), letters[0].error.as_str()), (1, "user 3 does not accept mail"));
    mailer.state().blocked.clear();
    assert!(queue.replay(letters[0].number).await?);
    notifier.notify_once().await?;
    assert_eq!(mailer.state().outbox.last().map(String::as_str), Some("user 3: your order is reserved"));
    println!("One mail was refused, became a dead letter, and was replayed when the cause was fixed.");

    let payments = Payments::new(Arc::clone(&sales), ids, []);
    let maintenance =
        Maintenance::new(Arc::clone(&sales), payments, Arc::clone(&queue), RetryPolicy::default());
    clock.advance(hold);
    maintenance.expire_once().await?;
    notifier.notify_once().await?;
    let expired = mailer.state().outbox.iter().filter(|mail| mail.ends_with("has expired")).count();
    assert_eq!(expired, 4);
    println!("Nobody paid: four orders have expired, and their buyers have been told.");
    Ok(())
}
