//! Activities out of memory.

use super::*;
use crate::{
    domain::{Capture, Order, PaymentId, RefundReason},
    ledger::{LedgerCalls as _, PaymentRef},
};

/// A time after the window.
const LATER: Timestamp = Timestamp::from_millis(20_000_000);

fn order_key(n: u64) -> OrderKey {
    OrderKey { activity: activity(), user: UserId::new(n).unwrap(), id: OrderId::new(n).unwrap() }
}

fn payment(n: u64) -> PaymentId {
    PaymentId::new(1_000 + n).unwrap()
}

fn capture(n: u64, transaction: &str) -> Capture {
    Capture {
        provider: "sandbox".parse().unwrap(),
        event: transaction.parse().unwrap(),
        transaction: transaction.parse().unwrap(),
        payment: payment(n),
        amount: 990,
        currency: "CNY".parse().unwrap(),
    }
}

async fn advance(engine: &EmbeddedLedger, step: Advance) -> Advanced {
    engine.advance(lane(), vec![step]).await.unwrap().outcomes.remove(0)
}

async fn pay(engine: &EmbeddedLedger, n: u64) {
    let provider = "sandbox".parse().unwrap();
    let open = Advance::OpenPayment { order: order_key(n), payment: payment(n), provider, in_parts: false };
    assert!(matches!(advance(engine, open).await, Advanced::Done(_)));
    assert!(matches!(capture_late(engine, n, "paid").await, Advanced::Done(_)));
}

async fn capture_late(engine: &EmbeddedLedger, n: u64, transaction: &str) -> Advanced {
    let (order, capture) = (order_key(n), capture(n, &format!("{transaction}-{n}")));
    advance(engine, Advance::Capture { order, capture, in_parts: false, replacement: order.id }).await
}

/// Sells to three buyers, of whom the first pays and the second cancels; the third's hold is open.
async fn sold(directory: &Path, clock: &Arc<ManualClock>) -> EmbeddedLedger {
    let engine = open_at(directory, clock);
    engine.open(terms(9)).await.unwrap();
    sell(&engine, 1..=3).await.unwrap();
    pay(&engine, 1).await;
    assert!(matches!(
        advance(&engine, Advance::Cancel { order: order_key(2), by: None }).await,
        Advanced::Done(_)
    ));
    engine
}

fn open_at(directory: &Path, clock: &Arc<ManualClock>) -> EmbeddedLedger {
    let options = EmbeddedOptions::new(directory, LedgerRole::Single, Arc::clone(clock) as _);
    EmbeddedLedger::open(options).unwrap()
}

/// What a reader can see of the activity.
async fn seen(engine: &EmbeddedLedger) -> String {
    let mut seen = format!("{:?}", engine.inspect(activity()).await.unwrap());
    for n in 1..=4 {
        let user = UserId::new(n).unwrap();
        let order: Option<Order> = engine.order(order_key(n)).await.unwrap();
        let orders = engine.orders_of(user, None, 9).await.unwrap();
        let below = engine.orders_of(user, OrderId::new(n), 9).await.unwrap();
        let by_id = engine.locate(None, order_key(n).id).await.unwrap();
        let reference = PaymentRef { lane: lane(), payment: payment(n) };
        let by_payment = engine.order_of_payment(reference).await.unwrap();
        seen += &format!("{order:?} {orders:?} {below:?} {by_id:?} {by_payment:?}");
    }
    let stock = engine.stock(activity(), SkuId::new(7).unwrap()).await.unwrap();
    let unknown = engine.stock(activity(), SkuId::new(8).unwrap()).await.unwrap();
    seen += &format!("{stock:?} {unknown:?} {:?}", engine.terms(activity()).await.unwrap());
    seen
}

#[tokio::test]
async fn an_activity_leaves_memory_when_it_rests_and_is_read_as_before() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(NOW)));
    let engine = sold(directory.path(), &clock).await;
    assert!(!engine.archive(activity()).await.unwrap(), "it sells");
    clock.set(LATER);
    assert!(!engine.archive(activity()).await.unwrap(), "a hold is open");
    engine.expire_due(lane(), 9).await.unwrap();
    let before = seen(&engine).await;
    assert!(engine.archive(activity()).await.unwrap());
    assert!(engine.archive(activity()).await.unwrap(), "a repeated call");
    assert_eq!(engine.activities().await.unwrap(), []);
    assert_eq!(seen(&engine).await, before);
    assert_eq!(engine.census(activity()).await.unwrap(), None, "reading did not bring it back");
    let stranger = OrderKey { user: UserId::new(2).unwrap(), ..order_key(1) };
    assert_eq!(engine.order(stranger).await.unwrap(), None);

    // From the journal, and from a snapshot.
    drop(engine);
    let engine = open_at(directory.path(), &clock);
    assert_eq!(seen(&engine).await, before);
    engine.close().await.unwrap();
    let engine = open_at(directory.path(), &clock);
    assert_eq!((seen(&engine).await, engine.activities().await.unwrap()), (before, Vec::new()));
}

#[tokio::test]
async fn whoever_changes_an_archived_activity_brings_it_back() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(NOW)));
    let engine = sold(directory.path(), &clock).await;
    clock.set(LATER);
    engine.expire_due(lane(), 9).await.unwrap();
    assert!(engine.archive(activity()).await.unwrap());
    // A replay, an opening, and money that comes too late.
    let again = engine.reserve(lane(), None, vec![request(1)]).await.unwrap();
    assert!(
        matches!(&again.outcomes[..], [Outcome::Replayed { order, .. }] if order.key == order_key(1)),
        "{again:?}"
    );
    assert_eq!(engine.activities().await.unwrap(), [activity()]);
    assert!(engine.archive(activity()).await.unwrap());
    assert_eq!(engine.open(terms(9)).await.unwrap(), Opened::Before);
    assert!(engine.archive(activity()).await.unwrap());
    let late = capture_late(&engine, 1, "late").await;
    assert!(matches!(late, Advanced::RefundDue(_, RefundReason::PaidTwice)), "{late:?}");
    assert!(!engine.archive(activity()).await.unwrap(), "a refund is due");
    let before = seen(&engine).await;
    drop(engine);

    let engine = open_at(directory.path(), &clock);
    assert_eq!(seen(&engine).await, before);
    assert_eq!(engine.refunds_due(lane(), None, 9).await.unwrap().len(), 1);
    engine.close().await.unwrap();
    assert_eq!(seen(&open_at(directory.path(), &clock)).await, before);
}

#[tokio::test]
async fn an_activity_that_cannot_be_stored_stays_in_memory() {
    for spare in [0, 4_096, 1 << 20] {
        let clock = Arc::new(ManualClock::new(NOW));
        let (journal, archive) = (Disk::default(), Disk::default());
        let open = || {
            let clock: Arc<dyn Clock> = Arc::clone(&clock) as _;
            let options = EmbeddedOptions::new("test", LedgerRole::Single, clock);
            let journal = Journal::with_backend(journal.clone(), "test".into(), LedgerRole::Single)?;
            let archive = ArchiveFile::with_backend(archive.clone())?;
            EmbeddedLedger::with_journal(options, journal, archive, None)
        };
        let engine = open().unwrap();
        engine.open(terms(1_000_000)).await.unwrap();
        sell(&engine, 1..=300).await.unwrap();
        clock.set(LATER);
        engine.expire_due(lane(), 1_000).await.unwrap();
        let before = seen(&engine).await;
        archive.set(Faults { capacity: Some(archive.length() + spare), ..Faults::default() });
        let moved = engine.archive(activity()).await;
        assert_eq!(moved.is_ok(), spare > 4_096, "{moved:?}");
        assert_eq!(seen(&engine).await, before);
        archive.set(Faults::default());
        drop(engine);
        assert_eq!(seen(&open().unwrap()).await, before);
    }
}

/// Ids of orders are unique per buyer. The archive cannot keep two with one id.
#[tokio::test]
async fn an_activity_with_one_id_twice_stays_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOW));
    let engine = open_at(directory.path(), &clock);
    engine.open(terms(9)).await.unwrap();
    let other = Reserve { user: UserId::new(2).unwrap(), ..request(1) };
    engine.reserve(lane(), None, vec![request(1), other]).await.unwrap();
    for order in [order_key(1), OrderKey { user: other.user, ..order_key(1) }] {
        assert!(matches!(advance(&engine, Advance::Cancel { order, by: None }).await, Advanced::Done(_)));
    }
    clock.set(LATER);
    let error = engine.archive(activity()).await.unwrap_err();
    assert!(error.to_string().contains("orders of two buyers"), "{error}");
    for user in [1, 2] {
        let key = OrderKey { user: UserId::new(user).unwrap(), ..order_key(1) };
        assert!(engine.order(key).await.unwrap().is_some(), "user {user}");
    }
}

#[tokio::test]
async fn a_caller_who_goes_leaves_no_activity_half_way() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(NOW)));
    let engine = sold(directory.path(), &clock).await;
    clock.set(LATER);
    engine.expire_due(lane(), 9).await.unwrap();
    let before = seen(&engine).await;
    for polls in 0..4 {
        let mut moving = Box::pin(engine.archive(activity()));
        for _ in 0..polls {
            let _ = futures_poll(&mut moving).await;
        }
        drop(moving);
        assert_eq!(seen(&engine).await, before);
        // Whatever happened, a change finds the activity, and another caller can finish.
        let again = engine.reserve(lane(), None, vec![request(1)]).await.unwrap();
        assert!(matches!(&again.outcomes[..], [Outcome::Replayed { .. }]), "{again:?}");
    }
    assert!(engine.archive(activity()).await.unwrap());
    assert_eq!(engine.activities().await.unwrap(), []);
}

/// Polls a future once, and lets other tasks run.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let polled = std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context))
    })
    .await;
    tokio::task::yield_now().await;
    polled
}

#[tokio::test]
async fn consumers_that_come_and_go_during_a_failed_move_are_known() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(NOW)));
    let engine = sold(directory.path(), &clock).await;
    clock.set(LATER);
    engine.expire_due(lane(), 9).await.unwrap();
    let leaving = engine.call(|machine, batch| Ok(machine.leave(batch, activity()))).await.unwrap();
    assert!(leaving.is_some());
    let mail = crate::ledger::Consumer::new("mail");
    engine.register(&mail).await.unwrap();
    engine.close().await.unwrap();
    let reopened = open_at(directory.path(), &clock);
    assert_eq!(reopened.events(&mail, lane(), None, 9).await.unwrap(), []);
    let leave = |machine: &mut crate::ledger::state_machine::StateMachine, batch| {
        let leaving = machine.leave(batch, activity());
        machine.register(&crate::ledger::Consumer::new("search"));
        machine.stay(activity());
        Ok(leaving.is_some())
    };
    assert!(reopened.call(leave).await.unwrap());
    assert_eq!(reopened.events(&crate::ledger::Consumer::new("search"), lane(), None, 9).await.unwrap(), []);
}

#[tokio::test]
async fn an_older_archive_is_refused() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(NOW)));
    let engine = sold(directory.path(), &clock).await;
    clock.set(LATER);
    engine.expire_due(lane(), 9).await.unwrap();
    assert!(engine.archive(activity()).await.unwrap());
    engine.close().await.unwrap();
    let old = fs::read(directory.path().join(ArchiveFile::FILE)).unwrap();

    let engine = open_at(directory.path(), &clock);
    assert!(matches!(capture_late(&engine, 1, "late").await, Advanced::RefundDue(..)));
    let task = engine.refunds_due(lane(), None, 9).await.unwrap().remove(0);
    let done = Advance::RefundSettled {
        order: task.order,
        payment: task.capture.payment,
        provider: task.capture.provider,
        transaction: task.capture.transaction.to_string(),
        number: task.number,
        outcome: crate::ledger::RefundOutcome::Done,
    };
    advance(&engine, done).await;
    assert!(engine.archive(activity()).await.unwrap());
    engine.close().await.unwrap();
    fs::write(directory.path().join(ArchiveFile::FILE), old).unwrap();
    let options = EmbeddedOptions::new(directory.path(), LedgerRole::Single, Arc::clone(&clock) as _);
    let refused = EmbeddedLedger::open(options).map(drop).unwrap_err();
    assert!(refused.to_string().contains("older than the ledger"), "{refused}");
}

#[tokio::test]
async fn a_copy_from_the_middle_of_a_move_has_everything() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(NOW)));
    let engine = sold(&directory.path().join("first"), &clock).await;
    clock.set(LATER);
    engine.expire_due(lane(), 9).await.unwrap();
    let before = seen(&engine).await;
    // The activity has left, and nothing is stored yet.
    let leaving = engine.call(|machine, batch| Ok(machine.leave(batch, activity()))).await.unwrap().unwrap();
    let (copy, backup) = (directory.path().join("copy"), directory.path().join("backup"));
    copy_files(&directory.path().join("first"), &copy);
    assert_eq!(seen(&open_at(&copy, &clock)).await, before);
    engine.backup(&backup).await.unwrap();
    assert_eq!(seen(&open_at(&backup, &clock)).await, before);
    // It is stored, but the engine does not know it.
    engine.archived().unwrap().store(activity(), &leaving).unwrap();
    let stored = directory.path().join("stored");
    copy_files(&directory.path().join("first"), &stored);
    let reopened = open_at(&stored, &clock);
    assert_eq!((seen(&reopened).await, reopened.activities().await.unwrap()), (before.clone(), Vec::new()));
    engine.close().await.unwrap();
    assert_eq!(seen(&open_at(&directory.path().join("first"), &clock)).await, before);
}

#[tokio::test]
async fn a_backup_has_archived_activities_and_none_is_lost_unnoticed() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(NOW)));
    let path = |name: &str| directory.path().join(name);
    let engine = sold(&path("first"), &clock).await;
    clock.set(LATER);
    engine.expire_due(lane(), 9).await.unwrap();
    let before = seen(&engine).await;
    assert!(engine.archive(activity()).await.unwrap());
    engine.backup(&path("backup")).await.unwrap();
    restore(&path("backup"), &path("restored"), LedgerRole::Single).unwrap();
    let restored = open_at(&path("restored"), &clock);
    assert_eq!((seen(&restored).await, restored.activities().await.unwrap()), (before, Vec::new()));
    restored.close().await.unwrap();

    fs::remove_file(path("restored").join(ArchiveFile::FILE)).unwrap();
    let options = EmbeddedOptions::new(path("restored"), LedgerRole::Single, Arc::clone(&clock) as _);
    let lost = EmbeddedLedger::open(options).map(drop).unwrap_err();
    assert!(lost.to_string().contains("archive.redb is damaged: activity 1"), "{lost}");
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
