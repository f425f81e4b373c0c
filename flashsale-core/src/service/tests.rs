//! Tests of queued work: refunds, notifications and dead letters.

use std::{
    collections::{BTreeSet, VecDeque},
    num::NonZeroU16,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{runtime::Handle, sync::watch};

use super::*;
use crate::{
    catalogue::Catalogue as _,
    circuit_breaker::BreakerState,
    domain::{
        ActivityId, Attribution, Capture, Idempotency, Key, ManualClock, Money, Nonce, OfferTerms, Order,
        OrderKey, OrderStatus, Provider, Quantity, RefundOrder, RefundStatus, SkuId, Strategy, Subjects,
        Timestamp, UserId, Window,
    },
    embedded::{EmbeddedCatalogue, EmbeddedLedger},
    ledger::{Ledger, LedgerCalls as _, LedgerRole, PaymentRef, RefundOutcome, RefundTask, Terms, Timing},
    queue::{InMemoryQueue, NewJob, Queue, RetryPolicy},
    service::BatcherOptions,
    snowflake::{Generator, InMemoryLease, Settings},
};

/// A provider that answers refunds as scripted, then always with `Done`.
#[derive(Debug)]
struct Bank {
    name: Provider,
    answers: Mutex<VecDeque<Result<RefundOutcome, ProviderError>>>,
    refunds: Mutex<Vec<String>>,
}

#[async_trait]
impl PaymentProvider for Bank {
    fn name(&self) -> &Provider {
        &self.name
    }

    fn captures_in_parts(&self) -> bool {
        true
    }

    async fn open(&self, payment: PaymentRef, _: Money, _: Timestamp) -> Result<String, ProviderError> {
        Ok(format!("https://bank.example/{payment}"))
    }

    async fn close(&self, _: PaymentRef) -> Result<Closed, ProviderError> {
        Ok(Closed::Closed)
    }

    async fn refund(&self, _: PaymentRef, task: &RefundTask) -> Result<RefundOutcome, ProviderError> {
        self.refunds.lock().unwrap().push(task.capture.transaction.as_str().to_owned());
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(RefundOutcome::Done))
    }
}

/// A receiver that answers as scripted, then accepts everything.
#[derive(Debug, Default)]
struct Receiver {
    answers: Mutex<VecDeque<Result<(), SinkError>>>,
    taken: Mutex<Vec<Notification>>,
}

#[async_trait]
impl EventSink for Receiver {
    async fn deliver(&self, notification: &Notification) -> Result<(), SinkError> {
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(()))?;
        self.taken.lock().unwrap().push(notification.clone());
        Ok(())
    }
}

impl Receiver {
    fn seen(&self) -> Vec<(String, NotificationKind, OrderStatus)> {
        let mut taken: Vec<_> = self.taken.lock().unwrap().clone();
        taken.sort_by_key(|notification| {
            notification.id.split('.').nth(3).and_then(|sequence| sequence.parse::<u64>().ok())
        });
        taken.iter().map(|taken| (taken.id.to_string(), taken.kind, taken.order.status)).collect()
    }
}

struct Shop {
    clock: Arc<ManualClock>,
    sales: Arc<Sales>,
    ordering: OrderService,
    payments: Payments,
    operations: Operations,
    maintenance: Arc<Maintenance>,
    queue: Arc<InMemoryQueue>,
    catalogue: Arc<EmbeddedCatalogue>,
    bank: Arc<Bank>,
}

const RETRIES: RetryPolicy = RetryPolicy {
    attempts: 3,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(4),
    lease: Duration::from_secs(30),
    at_once: 4,
};

fn activity() -> ActivityId {
    ActivityId::new(7).unwrap()
}

fn by() -> Attribution {
    Attribution { actor: "chen".parse().unwrap(), reason: "a test".parse().unwrap() }
}

impl Shop {
    async fn open() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
        let ledger: Arc<dyn Ledger> =
            Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _));
        let leases = InMemoryLease::new(0..=9);
        // The test clock jumps; a long term needs no lease renewal.
        let settings = Settings { term: Duration::from_secs(86_400), ..Settings::default() };
        let ids = Generator::acquire(&leases, &settings, Arc::clone(&clock) as _).await.unwrap();
        let ids = Arc::new(ids);
        let options = BatcherOptions::default();
        let sales = Arc::new(Sales::new(ledger, Arc::clone(&clock) as _, Handle::current(), options));
        let price = Money::new(9_900, "CNY".parse().unwrap()).unwrap();
        let hold = Some(Duration::from_secs(60));
        let offer = OfferTerms::new(SkuId::new(11).unwrap(), price, 10, Strategy::PreDeduct, hold).unwrap();
        let window = Window::new(Timestamp::EPOCH, Timestamp::MAX).unwrap();
        let terms = Terms::new(activity(), window, NonZeroU16::MIN, Timing::default(), vec![offer]).unwrap();
        sales.open(Arc::new(terms)).await.unwrap();
        let bank = Arc::new(Bank {
            name: "bank".parse().unwrap(),
            answers: Mutex::default(),
            refunds: Mutex::default(),
        });
        let payments = Payments::new(Arc::clone(&sales), Arc::clone(&ids), [Arc::clone(&bank) as _]);
        let queue = Arc::new(InMemoryQueue::new(Arc::clone(&clock) as _));
        let catalogue = Arc::new(EmbeddedCatalogue::in_memory(Arc::clone(&clock) as _).unwrap());
        let operations = Operations::new(
            Arc::clone(&catalogue) as _,
            Arc::clone(&sales),
            payments.clone(),
            Arc::clone(&ids),
            Arc::clone(&queue) as _,
            Timing::default(),
        );
        operations.recorder().register().await.unwrap();
        let maintenance =
            Maintenance::new(Arc::clone(&sales), payments.clone(), Arc::clone(&queue) as _, RETRIES);
        let ordering = OrderService::new(Arc::clone(&sales), ids);
        Self {
            clock,
            sales,
            ordering,
            payments,
            operations,
            maintenance: Arc::new(maintenance),
            queue,
            catalogue,
            bank,
        }
    }

    fn notifier(&self, sink: &Arc<Receiver>) -> Notifier {
        let sink = Arc::clone(sink) as Arc<dyn EventSink>;
        Notifier::new(Arc::clone(&self.sales), Arc::clone(&self.queue) as _, sink, RETRIES)
    }

    async fn order(&self, user: u64) -> Order {
        let request = OrderRequest {
            activity: activity(),
            user: UserId::new(user).unwrap(),
            sku: SkuId::new(11).unwrap(),
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key(u128::from(user)), nonce: Nonce(user) },
            subjects: Subjects::default(),
            ticket_expired: false,
        };
        match self.ordering.place(&request).await.unwrap() {
            Placement::Placed(order, _) => *order,
            other => panic!("{other:?}"),
        }
    }

    /// Places an order and pays it with this transaction.
    async fn paid(&self, user: u64, transaction: &str) -> OrderKey {
        let order = self.order(user).await;
        let opened = self.payments.open(order.key, &self.bank.name).await.unwrap().unwrap();
        let capture = Capture {
            provider: self.bank.name.clone(),
            event: format!("event of {transaction}").parse().unwrap(),
            transaction: transaction.parse().unwrap(),
            payment: opened.payment.id,
            amount: order.amount.amount(),
            currency: order.amount.currency(),
        };
        let result = self.payments.captured(opened.reference.lane, capture).await.unwrap();
        assert!(matches!(result, CaptureResult::Applied(_)));
        order.key
    }

    /// Places and pays an order, then makes its refund due.
    async fn owed(&self, user: u64, transaction: &str) -> OrderKey {
        let order = self.paid(user, transaction).await;
        self.operations
            .refund(order, RefundOrder { key: Key(1), amount: None, units: None }, &by())
            .await
            .unwrap();
        order
    }

    async fn refund_of(&self, user: u64) -> Option<RefundStatus> {
        let orders = self.sales.ledger().orders_of(UserId::new(user).unwrap(), None, 9).await.unwrap();
        orders[0].refund().map(|total| total.status)
    }

    async fn actions(&self) -> Vec<String> {
        let rows = self.catalogue.audit(0, 100).await.unwrap();
        rows.iter().map(|row| row.change.action.to_string()).collect()
    }

    /// Advances the clock by the longest wait, and does what is ready.
    async fn round(&self) {
        self.clock.advance(RETRIES.longest);
        self.maintenance.settle_once().await.unwrap();
    }
}

fn refused() -> Result<RefundOutcome, ProviderError> {
    Err(ProviderError::Refused("closed on Sundays".to_owned()))
}

#[tokio::test]
async fn a_refund_is_tried_until_the_provider_answers() {
    let shop = Shop::open().await;
    shop.bank.answers.lock().unwrap().extend([refused(), refused()]);
    shop.owed(1, "t1").await;
    for expected in [RefundStatus::Due, RefundStatus::Due, RefundStatus::Done] {
        shop.round().await;
        assert_eq!(shop.refund_of(1).await, Some(expected));
    }
    shop.round().await;
    assert_eq!(*shop.bank.refunds.lock().unwrap(), ["t1"; 3], "not sent again");
    assert_eq!(shop.queue.depths().await.unwrap()[0].waiting, 0);
}

#[tokio::test]
async fn a_refund_that_keeps_failing_blocks_no_other_and_becomes_a_dead_letter() {
    let shop = Shop::open().await;
    shop.owed(1, "bad").await;
    shop.bank.answers.lock().unwrap().extend([refused(), refused(), refused()]);
    for _ in 0..4 {
        shop.round().await;
    }
    shop.owed(2, "good").await;
    shop.round().await;
    assert_eq!(
        (shop.refund_of(1).await, shop.refund_of(2).await),
        (Some(RefundStatus::Due), Some(RefundStatus::Done))
    );
    let letters = shop.operations.dead_letters(None, 9).await.unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.topic.as_str(), letter.attempts), ("refunds", 3));
    assert!(letter.error.contains("closed on Sundays"), "{letter:?}");

    let replayed = shop.operations.replay_dead_letter(letter.number, &by()).await.unwrap();
    assert_eq!(replayed.as_ref(), Some(letter));
    assert_eq!(shop.operations.replay_dead_letter(letter.number, &by()).await.unwrap(), None);
    shop.round().await;
    assert_eq!(shop.refund_of(1).await, Some(RefundStatus::Done));
    let actions = shop.actions().await;
    assert_eq!(actions.iter().filter(|action| *action == "dead_letter.replayed").count(), 1, "{actions:?}");
}

#[tokio::test]
async fn a_discarded_refund_has_failed_and_is_not_queued_again() {
    let shop = Shop::open().await;
    shop.owed(1, "t1").await;
    shop.bank.answers.lock().unwrap().extend([refused(), refused(), refused()]);
    for _ in 0..4 {
        shop.round().await;
    }
    let number = shop.operations.dead_letters(None, 9).await.unwrap()[0].number;
    assert!(shop.operations.discard_dead_letter(number, &by()).await.unwrap().is_some());
    assert_eq!(shop.refund_of(1).await, Some(RefundStatus::Failed));
    shop.round().await;
    assert_eq!(shop.bank.refunds.lock().unwrap().len(), 3);
    assert_eq!(shop.operations.dead_letters(None, 9).await.unwrap(), []);
    assert_eq!(shop.operations.discard_dead_letter(number, &by()).await.unwrap(), None);
    let rows = shop.catalogue.audit(0, 100).await.unwrap();
    let row = rows.iter().find(|row| row.change.action.as_str() == "dead_letter.discarded").unwrap();
    assert_eq!(
        (row.actor.as_str(), row.change.subject.as_str()),
        ("chen", format!("dead_letter/{number}").as_str())
    );
}

#[tokio::test]
async fn a_refund_that_was_paid_is_neither_abandoned_nor_sent_again() {
    let shop = Shop::open().await;
    shop.owed(1, "t1").await;
    shop.bank.answers.lock().unwrap().extend([refused(), refused(), refused()]);
    for _ in 0..4 {
        shop.round().await;
    }
    let letters = shop.operations.dead_letters(None, 9).await.unwrap();
    let task = serde_json::from_str(&letters[0].content).unwrap();
    shop.payments.refund(&task).await.unwrap();
    let refused = shop.operations.discard_dead_letter(letters[0].number, &by()).await.unwrap_err();
    assert!(matches!(refused, OperationError::AlreadyRefunded), "{refused:?}");
    assert_eq!(shop.refund_of(1).await, Some(RefundStatus::Done));
    assert_eq!(shop.operations.dead_letters(None, 9).await.unwrap(), []);
    assert_eq!(shop.actions().await.last().map(String::as_str), Some("dead_letter.found_done"));

    // A job that is older than the decision calls nobody.
    let stale = NewJob::now(&"refunds".parse().unwrap(), "an older one", &task).unwrap();
    shop.queue.put(vec![stale]).await.unwrap();
    shop.round().await;
    assert_eq!(shop.bank.refunds.lock().unwrap().len(), 4);
    assert_eq!(shop.queue.depths().await.unwrap()[0].waiting, 0);
}

#[tokio::test]
async fn a_sink_that_is_down_is_not_called_and_waiting_uses_up_no_attempt() {
    let shop = Shop::open().await;
    let sink = Arc::new(Receiver::default());
    let notifier = shop.notifier(&sink);
    notifier.register().await.unwrap();
    let gone = || Err(SinkError::Unavailable("no route".to_owned()));
    sink.answers.lock().unwrap().extend((0..10).map(|_| gone()));
    for user in 1..=10 {
        shop.order(user).await;
    }
    for _ in 0..3 {
        notifier.notify_once().await.unwrap();
        shop.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(notifier.breaker().read().state, BreakerState::Open);
    assert!(notifier.worker().counts().postponed >= 10, "{:?}", notifier.worker().counts());
    for _ in 0..20 {
        shop.clock.advance(Duration::from_secs(45));
        notifier.notify_once().await.unwrap();
    }
    assert_eq!(sink.seen().len(), 10);
    assert_eq!(shop.operations.dead_letters(None, 9).await.unwrap(), []);
}

#[tokio::test]
async fn more_refunds_than_one_read_returns_are_all_done() {
    let shop = Shop::open().await;
    for user in 1..=150 {
        // A capture of the wrong amount is refunded; cancelling the order returns its unit.
        let order = shop.order(user).await;
        let opened = shop.payments.open(order.key, &shop.bank.name).await.unwrap().unwrap();
        let capture = Capture {
            provider: shop.bank.name.clone(),
            event: format!("e{user}").parse().unwrap(),
            transaction: format!("t{user}").parse().unwrap(),
            payment: opened.payment.id,
            amount: 1,
            currency: "CNY".parse().unwrap(),
        };
        shop.payments.captured(opened.reference.lane, capture).await.unwrap();
        shop.payments.close(order.key).await.unwrap();
        shop.ordering.cancel(order.key, &shop.payments).await.unwrap();
    }
    shop.round().await;
    assert_eq!(shop.bank.refunds.lock().unwrap().len(), 150);
    assert_eq!(shop.queue.depths().await.unwrap()[0].waiting, 0);
}

#[tokio::test]
async fn each_order_event_is_delivered_once() {
    use NotificationKind::{Cancelled, Expired, Paid, PaymentOpened, Placed, RefundDone, RefundDue};
    let shop = Shop::open().await;
    let sink = Arc::new(Receiver::default());
    let notifier = shop.notifier(&sink);
    notifier.register().await.unwrap();
    shop.owed(1, "t1").await;
    shop.maintenance.settle_once().await.unwrap();
    let second = shop.order(2).await;
    shop.ordering.cancel(second.key, &shop.payments).await.unwrap();
    shop.order(3).await;
    shop.clock.advance(Duration::from_secs(61));
    shop.maintenance.expire_once().await.unwrap();
    notifier.notify_once().await.unwrap();
    let kinds: Vec<_> = sink.seen().into_iter().map(|(_, kind, _)| kind).collect();
    let expected = [Placed, PaymentOpened, Paid, RefundDue, RefundDone, Placed, Cancelled, Placed, Expired];
    assert_eq!(kinds, expected);
    assert!(sink.seen()[0].0.starts_with("7.0."), "{:?}", sink.seen());
    assert_eq!(sink.seen()[0].2, OrderStatus::Paid, "the order in its present state");
    notifier.notify_once().await.unwrap();
    assert_eq!(sink.seen().len(), expected.len(), "nothing is delivered twice without a failure");

    // A new process starts with the last entry that this one acknowledged.
    shop.order(4).await;
    shop.notifier(&sink).notify_once().await.unwrap();
    let told = sink.seen();
    let different: BTreeSet<_> = told.iter().map(|(id, _, _)| id).collect();
    assert_eq!((told.len(), different.len()), (expected.len() + 2, expected.len() + 1));
}

#[tokio::test]
async fn failed_deliveries_are_retried_and_refused_ones_are_not() {
    let shop = Shop::open().await;
    let sink = Arc::new(Receiver::default());
    let notifier = shop.notifier(&sink);
    notifier.register().await.unwrap();
    let gone = || Err(SinkError::Unavailable("no route".to_owned()));
    sink.answers.lock().unwrap().extend([gone(), gone()]);
    shop.order(1).await;
    for _ in 0..3 {
        notifier.notify_once().await.unwrap();
        shop.clock.advance(RETRIES.longest);
    }
    assert_eq!(sink.seen().len(), 1);
    sink.answers.lock().unwrap().push_back(Err(SinkError::Refused("no such order here".to_owned())));
    shop.order(2).await;
    notifier.notify_once().await.unwrap();
    assert_eq!(sink.seen().len(), 1);
    let letters = shop.operations.dead_letters(None, 9).await.unwrap();
    assert_eq!((letters.len(), letters[0].error.as_str(), letters[0].attempts), (1, "no such order here", 1));
    shop.operations.replay_dead_letter(letters[0].number, &by()).await.unwrap();
    notifier.notify_once().await.unwrap();
    assert_eq!(sink.seen().len(), 2);
}

#[tokio::test]
async fn running_maintenance_refunds_and_expires_by_itself_and_stops() {
    let shop = Shop::open().await;
    shop.owed(1, "t1").await;
    let held = shop.order(2).await;
    shop.clock.advance(Duration::from_secs(61));
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(Arc::clone(&shop.maintenance).run(stopped));
    // Polls the ledger: maintenance has no other signal.
    while shop.refund_of(1).await != Some(RefundStatus::Done)
        || shop.sales.ledger().order(held.key).await.unwrap().unwrap().status != OrderStatus::Expired
    {
        tokio::task::yield_now().await;
    }
    stop.send_replace(true);
    running.await.unwrap();
}
