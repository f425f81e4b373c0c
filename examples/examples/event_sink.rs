//! Tells a mailer what happens to orders: an event sink of one's own.
//!
//! ```text
//! cargo run -p flashsale-examples --example event_sink
//! ```
//!
//! What happens to an order is written in the step that changes it. A [`Notifier`] brings it from there into a queue, and from the
//! queue to a sink: at least once each, several at a time, again when the sink fails, and aside when the sink will never take it.

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
    queue::{Queue, Retries},
    service::{
        BatcherOptions, EventSink, Maintenance, Notification, NotificationKind, Notifier, OrderRequest,
        OrderService, Payments, Placement, Sales, SinkError,
    },
    snowflake::{Generator, InMemoryLease, Settings},
};
use tokio::runtime::Handle;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Writes mails: "we have your order", "it has expired". What it is told twice it writes once, and an older word about an order
/// does not follow a newer one.
#[derive(Debug, Default)]
struct Mailer {
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    closed: bool,
    blocked: HashSet<u64>,
    written: HashSet<String>,
    newest: BTreeMap<OrderId, u64>,
    outbox: Vec<String>,
}

impl Mailer {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventSink for Mailer {
    async fn deliver(&self, notification: &Notification) -> std::result::Result<(), SinkError> {
        let Notification { id, kind, order, .. } = notification;
        let mut desk = self.desk();
        if desk.closed {
            // It comes again, later and later.
            return Err(SinkError::Unavailable("the mail server does not answer".to_owned()));
        }
        if desk.blocked.contains(&order.key.user.value()) {
            // It does not come again by itself: somebody has to look.
            return Err(SinkError::Refused(format!("user {} takes no mail", order.key.user)));
        }
        // The same event has the same id, however often it is delivered.
        if !desk.written.insert(id.to_string()) {
            return Ok(());
        }
        // The order is shown as it is now, so a late word may be old news.
        if desk.newest.insert(order.key.id, order.revision).is_some_and(|newest| newest >= order.revision) {
            return Ok(());
        }
        let text = match (kind, order.status) {
            (_, OrderStatus::Expired) => "your time to pay is over",
            (NotificationKind::Placed, _) => "we keep it for you",
            _ => return Ok(()),
        };
        desk.outbox.push(format!("user {}: {text}", order.key.user));
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    // 2026-11-27T00:00:00Z, and then as this program says.
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_795_737_600_000)));
    let ledger: Arc<dyn Ledger> =
        Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _));
    let settings = Settings { term: Duration::from_secs(3_600), ..Settings::default() };
    let ids = Generator::acquire(&InMemoryLease::new(0..=0), &settings, Arc::new(SystemClock)).await?;
    let ids = Arc::new(ids);
    let sales = Sales::new(ledger, Arc::clone(&clock) as _, Handle::current(), BatcherOptions::default());
    let sales = Arc::new(sales);
    let ordering = OrderService::new(Arc::clone(&sales), Arc::clone(&ids));

    // The queue has to survive the process: the ledger forgets an event when the queue has it.
    let queue: Arc<dyn Queue> =
        Arc::new(EmbeddedQueue::open(directory.path(), Arc::clone(&clock) as Arc<dyn Clock>)?);
    let mailer = Arc::new(Mailer::default());
    let sink = Arc::clone(&mailer) as Arc<dyn EventSink>;
    let notifier = Notifier::new(Arc::clone(&sales), Arc::clone(&queue), sink, Retries::default());
    // From here on the ledger keeps events until the notifier has read them.
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
            other => Err(format!("there are units: {other:?}").into()),
        }
    };

    // A service spawns `Notifier::run`. Here its rounds are called one by one, when the clock has moved.
    order(1).await?;
    notifier.notify_once().await?;
    assert_eq!(mailer.desk().outbox, ["user 1: we keep it for you"]);
    println!("An order is placed, and its buyer has a mail.");

    mailer.desk().closed = true;
    order(2).await?;
    notifier.notify_once().await?;
    assert_eq!(notifier.worker().counts().retried, 1);
    mailer.desk().closed = false;
    clock.advance(Duration::from_secs(1));
    notifier.notify_once().await?;
    assert_eq!(mailer.desk().outbox.last().map(String::as_str), Some("user 2: we keep it for you"));
    println!("The mail server was away for a moment; the second buyer's mail has come a little later.");

    mailer.desk().blocked.insert(3);
    order(3).await?;
    order(4).await?;
    notifier.notify_once().await?;
    assert_eq!(mailer.desk().outbox.len(), 3, "nobody waits for the one that is refused");
    let letters = queue.dead_letters(None, 10).await?;
    assert_eq!((letters.len(), letters[0].error.as_str()), (1, "user 3 takes no mail"));
    mailer.desk().blocked.clear();
    assert!(queue.replay(letters[0].number).await?);
    notifier.notify_once().await?;
    assert_eq!(mailer.desk().outbox.last().map(String::as_str), Some("user 3: we keep it for you"));
    println!("One was refused, lay aside as a dead letter, and was replayed when its cause was gone.");

    let payments = Payments::new(Arc::clone(&sales), ids, []);
    let upkeep = Maintenance::new(Arc::clone(&sales), payments, Arc::clone(&queue), Retries::default());
    clock.advance(hold);
    upkeep.expire_once().await?;
    notifier.notify_once().await?;
    let over = mailer.desk().outbox.iter().filter(|mail| mail.ends_with("is over")).count();
    assert_eq!(over, 4);
    println!("Nobody has paid: four orders have expired, and four buyers know.");
    Ok(())
}
