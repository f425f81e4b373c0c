mod archive;
mod bounds;

use std::{
    collections::BTreeSet,
    fs,
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    archive_file::ArchiveFile,
    faults::{Disk, Faults},
    journal::Journal,
    *,
};
use crate::{
    domain::{
        ActivityId, Clock, Idempotency, Key, LimitRule, ManualClock, Money, Nonce, OfferTerms, OrderId,
        OrderKey, Per, Quantity, SkuId, Strategy, Subject, Subjects, Timestamp, UserId, Window,
    },
    ledger::{
        Advance, Advanced, BatchId, Lane, Ledger, LedgerCalls as _, LedgerError, LedgerRole, Opened, Outcome,
        Reserve, ReserveMode, Terms, Timing,
        invariants::{self, OwedUnits},
    },
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn activity() -> ActivityId {
    ActivityId::new(1).unwrap()
}

fn lane() -> Lane {
    Lane::first(activity())
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(NOW))
}

fn terms(units: u32) -> Arc<Terms> {
    let price = Money::new(990, "CNY".parse().unwrap()).unwrap();
    let hold = Some(Duration::from_secs(600));
    let offer = OfferTerms::new(SkuId::new(7).unwrap(), price, units, Strategy::PreDeduct, hold).unwrap();
    let window = Window::new(Timestamp::EPOCH, Timestamp::from_millis(10_000_000)).unwrap();
    Arc::new(Terms::new(activity(), window, NonZeroU16::MIN, Timing::default(), vec![offer]).unwrap())
}

fn request(n: u64) -> Reserve {
    Reserve {
        order: OrderId::new(n).unwrap(),
        user: UserId::new(n).unwrap(),
        sku: SkuId::new(7).unwrap(),
        quantity: Quantity::try_from(1).unwrap(),
        idempotency: Idempotency { key: Key(n.into()), nonce: Nonce(n) },
        subjects: Subjects::default(),
        mode: ReserveMode::NewOrder,
    }
}

fn options(directory: &Path) -> EmbeddedOptions {
    EmbeddedOptions::new(directory, LedgerRole::Single, clock())
}

fn open(directory: &Path) -> EmbeddedLedger {
    EmbeddedLedger::open(options(directory)).unwrap()
}

/// Places orders, one commit each. Fails with the first error.
async fn sell(engine: &EmbeddedLedger, orders: impl IntoIterator<Item = u64>) -> Result<(), LedgerError> {
    for n in orders {
        let answer = engine.reserve(lane(), None, vec![request(n)]).await?;
        assert!(matches!(answer.outcomes[..], [Outcome::Reserved { .. }]), "{answer:?}");
    }
    Ok(())
}

async fn orders(engine: &EmbeddedLedger) -> BTreeSet<u64> {
    let inspection = engine.inspect(activity()).await.unwrap();
    let Some(inspection) = inspection else { return BTreeSet::new() };
    assert_eq!(invariants::check(&inspection, OwedUnits::Forbidden), []);
    inspection.lanes[0].orders.iter().map(|order| order.key.id.value()).collect()
}

fn snapshots(directory: &Path) -> Vec<PathBuf> {
    snapshot::list(directory).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[tokio::test]
async fn an_engine_in_memory_decides_and_reads() {
    let engine = EmbeddedLedger::in_memory(LedgerRole::Single, clock());
    assert_eq!(engine.open(terms(2)).await.unwrap(), Opened::Now);
    assert_eq!(engine.open(terms(2)).await.unwrap(), Opened::Before);
    let answer = engine.reserve(lane(), None, (1..=3).map(request).collect()).await.unwrap();
    assert_eq!(answer.at, NOW);
    assert!(matches!(
        answer.outcomes[..],
        [Outcome::Reserved { .. }, Outcome::Reserved { .. }, Outcome::SoldOut { available: 0 }]
    ));
    let key = OrderKey { activity: activity(), user: UserId::new(1).unwrap(), id: OrderId::new(1).unwrap() };
    let cancelled = engine.advance(lane(), vec![Advance::Cancel { order: key, by: None }]).await.unwrap();
    assert!(matches!(cancelled.outcomes[..], [Advanced::Done(_)]));
    assert_eq!(engine.stock(activity(), SkuId::new(7).unwrap()).await.unwrap().unwrap().available, 1);
    assert!(engine.health().is_ok());
    assert!(matches!(engine.backup(Path::new("/nowhere")).await, Err(EmbeddedError::InMemory)));
}

#[tokio::test]
async fn a_batch_beyond_the_bound_is_refused_whole() {
    let engine = EmbeddedLedger::in_memory(LedgerRole::Single, clock());
    engine.open(terms(10_000)).await.unwrap();
    let most = Ledger::bounds(&engine).max_batch as u64;
    let answer = engine.reserve(lane(), None, (1..=most + 1).map(request).collect()).await;
    assert!(matches!(answer, Err(LedgerError::Invalid(_))));
    assert_eq!(orders(&engine).await, BTreeSet::new());
}

#[tokio::test]
async fn a_gate_can_be_rolled_back_and_lose_everything() {
    let engine = EmbeddedLedger::in_memory(LedgerRole::Gate, clock());
    let truth = EmbeddedLedger::in_memory(LedgerRole::Truth, clock());
    truth.open(terms(5)).await.unwrap();
    let epoch = crate::ledger::LedgerCalls::next_epoch(&truth, activity(), Default::default()).await.unwrap();
    let content = crate::ledger::LedgerCalls::content(&truth, activity(), None, 100).await.unwrap();
    engine.load(activity(), epoch.epoch, content).await.unwrap();
    engine.reopen(activity(), epoch.epoch, BatchId(1)).await.unwrap();
    let before = engine.image().await.unwrap();
    sell(&engine, 1..=2).await.unwrap();
    assert_eq!(orders(&engine).await.len(), 2);
    engine.replace(before).await.unwrap();
    assert_eq!(orders(&engine).await.len(), 0);
    engine.wipe().await.unwrap();
    assert!(engine.activities().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_restart_from_journal_or_snapshot_restores_the_same_state() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    engine.open(terms(100)).await.unwrap();
    sell(&engine, 1..=10).await.unwrap();
    let seen = engine.inspect(activity()).await.unwrap();
    drop(engine);
    assert!(snapshots(directory.path()).is_empty());

    let replayed = open(directory.path());
    assert_eq!(replayed.inspect(activity()).await.unwrap(), seen);
    replayed.close().await.unwrap();
    assert!(matches!(replayed.health(), Err(EmbeddedError::Stopped(_))));
    assert!(matches!(replayed.activities().await, Err(LedgerError::Stopped(_))));
    assert!(matches!(replayed.close().await, Err(EmbeddedError::Stopped(_))));
    assert_eq!(snapshots(directory.path()).len(), 1);

    let from_snapshot = open(directory.path());
    assert_eq!(from_snapshot.inspect(activity()).await.unwrap(), seen);
    sell(&from_snapshot, 11..=12).await.unwrap();
    drop(from_snapshot);
    assert_eq!(orders(&open(directory.path())).await, (1..=12).collect());
}

/// An engine on a simulated disk, without snapshots.
fn on_disk(disk: &Disk) -> Result<EmbeddedLedger, EmbeddedError> {
    let journal = Journal::with_backend(disk.clone(), "test".into(), LedgerRole::Single)?;
    EmbeddedLedger::with_journal(options(Path::new("test")), journal, ArchiveFile::in_memory()?, None)
}

/// Sells until the disk fails. Returns the acknowledged orders and the number of requests.
async fn sell_until_failure(engine: &EmbeddedLedger) -> (BTreeSet<u64>, u64) {
    let mut acknowledged = BTreeSet::new();
    for n in 1.. {
        match sell(engine, [n]).await {
            Ok(()) => assert!(acknowledged.insert(n)),
            Err(error) => {
                assert!(matches!(error, LedgerError::Unknown(_)), "{error}");
                assert!(matches!(sell(engine, [n]).await, Err(LedgerError::Stopped(_))));
                assert!(matches!(engine.activities().await, Err(LedgerError::Stopped(_))));
                assert!(engine.health().is_err());
                assert!(matches!(engine.close().await, Err(EmbeddedError::Stopped(_))));
                return (acknowledged, n);
            }
        }
    }
    unreachable!("the disk never failed")
}

/// Checks that every acknowledged order is there, and none that was never requested.
async fn check_after_failure(disk: &Disk, acknowledged: &BTreeSet<u64>, asked: u64) {
    let found = orders(&on_disk(disk).unwrap()).await;
    assert!(found.is_superset(acknowledged), "{found:?} lacks some of {acknowledged:?}");
    assert!(found.iter().all(|n| *n <= asked));
}

#[tokio::test]
async fn a_full_disk_stops_the_engine_and_loses_nothing() {
    for spare in [0, 10_000, 100_000, 1_000_000] {
        let disk = Disk::default();
        let engine = on_disk(&disk).unwrap();
        engine.open(terms(1_000_000)).await.unwrap();
        disk.set(Faults { capacity: Some(disk.length() + spare), ..Faults::default() });
        let (acknowledged, asked) = sell_until_failure(&engine).await;
        drop(engine);
        check_after_failure(&disk.after_kill(), &acknowledged, asked).await;
    }
}

#[tokio::test]
async fn a_failed_write_or_sync_stops_the_engine_and_loses_nothing() {
    let mut random = fastrand::Rng::with_seed(1);
    for count in 0..30 {
        for faults in [
            Faults { syncs: Some(count), ..Faults::default() },
            Faults { writes: Some(count * 3), ..Faults::default() },
        ] {
            let disk = Disk::default();
            let engine = on_disk(&disk).unwrap();
            engine.open(terms(1_000)).await.unwrap();
            disk.set(faults);
            let (acknowledged, asked) = sell_until_failure(&engine).await;
            drop(engine);
            check_after_failure(&disk.after_kill(), &acknowledged, asked).await;
            check_after_failure(&disk.after_power_cut(&mut random), &acknowledged, asked).await;
        }
    }
}

#[tokio::test]
async fn a_power_cut_loses_nothing_acknowledged() {
    let mut random = fastrand::Rng::with_seed(2);
    let disk = Disk::default();
    let engine = on_disk(&disk).unwrap();
    engine.open(terms(1_000)).await.unwrap();
    for n in 1..=60 {
        let before = disk.syncs();
        sell(&engine, [n]).await.unwrap();
        assert_eq!(disk.syncs(), before + 1, "one sync per commit");
        check_after_failure(&disk.after_power_cut(&mut random), &(1..=n).collect(), n).await;
    }
    // A power cut during a commit: everything is written but not synced.
    disk.set(Faults { syncs: Some(0), ..Faults::default() });
    let (_, asked) = (sell(&engine, [61]).await.unwrap_err(), 61);
    for _ in 0..200 {
        check_after_failure(&disk.after_power_cut(&mut random), &(1..=60).collect(), asked).await;
    }
}

#[tokio::test]
async fn a_panic_stops_the_engine() {
    let engine = EmbeddedLedger::in_memory(LedgerRole::Single, clock());
    let answer = engine.call::<(), _>(|_, _| panic!("seeded")).await;
    assert!(matches!(answer, Err(LedgerError::Unknown(_))));
    let Err(LedgerError::Stopped(reason)) = engine.activities().await else { panic!("still running") };
    assert!(reason.contains("seeded"), "{reason}");
    assert!(engine.health().is_err());
}

#[tokio::test]
async fn a_corrupt_state_machine_stops_the_engine_before_the_commit() {
    let disk = Disk::default();
    let engine = on_disk(&disk).unwrap();
    engine.open(terms(10)).await.unwrap();
    let answer = engine
        .call::<(), _>(|machine, batch| {
            machine.reserve(batch, lane(), None, &[request(1)])?;
            Err(LedgerError::Stopped("an event does not fit".into()))
        })
        .await;
    assert!(matches!(answer, Err(LedgerError::Stopped(_))));
    assert!(matches!(engine.activities().await, Err(LedgerError::Stopped(_))));
    drop(engine);
    assert_eq!(orders(&on_disk(&disk.after_kill()).unwrap()).await, BTreeSet::new());
}

#[tokio::test]
async fn only_one_engine_can_open_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    assert!(matches!(EmbeddedLedger::open(options(directory.path())), Err(EmbeddedError::InUse { .. })));
    first.close().await.unwrap();
    open(directory.path());
}

#[tokio::test]
async fn another_role_or_a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    engine.open(terms(10)).await.unwrap();
    sell(&engine, 1..=3).await.unwrap();
    drop(engine);
    let other = EmbeddedOptions { role: LedgerRole::Truth, ..options(directory.path()) };
    assert!(matches!(
        EmbeddedLedger::open(other),
        Err(EmbeddedError::OtherRole { found: LedgerRole::Single, wanted: LedgerRole::Truth, .. })
    ));
    let set_format = |format: u64| {
        let database = redb::Database::open(directory.path().join(Journal::FILE)).unwrap();
        let writing = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        writing.open_table(meta).unwrap().insert("format", format).unwrap();
        writing.commit().unwrap();
    };
    set_format(3);
    assert!(matches!(
        EmbeddedLedger::open(options(directory.path())),
        Err(EmbeddedError::Newer { found: 3, supported: 2, .. })
    ));
    set_format(1);
    assert_eq!(orders(&open(directory.path())).await.len(), 3);
    // An earlier version would not know the records of this one.
    let database = redb::Database::open(directory.path().join(Journal::FILE)).unwrap();
    let meta = redb::ReadableDatabase::begin_read(&database).unwrap();
    let meta = meta.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap();
    assert_eq!(meta.get("format").unwrap().unwrap().value(), 2);
}

#[test]
fn a_directory_that_cannot_be_used_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let error = EmbeddedLedger::open(options(&file.join("data"))).unwrap_err();
    assert!(matches!(error, EmbeddedError::Unusable { .. }), "{error}");
    // A file that is not a journal is left as it is.
    let other = directory.path().join(Journal::FILE);
    for content in ["somebody else's", ""] {
        fs::write(&other, content).unwrap();
        let error = EmbeddedLedger::open(options(directory.path())).unwrap_err();
        assert!(matches!(error, EmbeddedError::Damaged { .. }), "{error}");
        assert_eq!(fs::read_to_string(&other).unwrap(), content);
    }
}

#[tokio::test]
async fn a_flipped_bit_is_detected_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(Journal::FILE);
    let engine = open(directory.path());
    engine.open(terms(1_000)).await.unwrap();
    for first in (0..20).map(|batch| batch * 30 + 1) {
        engine.reserve(lane(), None, (first..first + 30).map(request).collect()).await.unwrap();
    }
    drop(engine);
    let whole = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut found = 0;
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.u8(..8);
        fs::write(&path, &bytes).unwrap();
        match EmbeddedLedger::open(options(directory.path())) {
            Ok(engine) => assert_eq!(orders(&engine).await.len(), 600, "byte {at}"),
            Err(error) => {
                assert!(matches!(error, EmbeddedError::Damaged { .. }), "byte {at}: {error}");
                found += 1;
            }
        }
    }
    assert!(found > 0, "no damage was detected");
}

#[tokio::test]
async fn a_damaged_snapshot_is_skipped_only_if_its_rows_still_exist() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    engine.open(terms(1_000)).await.unwrap();
    sell(&engine, 1..=5).await.unwrap();
    drop(engine);
    let rows = fs::read(directory.path().join(Journal::FILE)).unwrap();
    open(directory.path()).close().await.unwrap();
    let [snapshot] = &snapshots(directory.path())[..] else { panic!("one snapshot") };
    let mut bytes = fs::read(snapshot).unwrap();
    for at in [0, 8, 16, 24, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(snapshot, damaged).unwrap();
        assert!(EmbeddedLedger::open(options(directory.path())).is_err(), "byte {at}");
    }
    bytes.truncate(bytes.len() - 1);
    fs::write(snapshot, &bytes).unwrap();
    assert!(matches!(EmbeddedLedger::open(options(directory.path())), Err(EmbeddedError::Damaged { .. })));
    fs::write(directory.path().join(Journal::FILE), rows).unwrap();
    assert_eq!(orders(&open(directory.path())).await, (1..=5).collect());
}

#[tokio::test]
async fn a_snapshot_without_its_journal_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    engine.open(terms(10)).await.unwrap();
    engine.close().await.unwrap();
    fs::remove_file(directory.path().join(Journal::FILE)).unwrap();
    assert!(matches!(EmbeddedLedger::open(options(directory.path())), Err(EmbeddedError::Damaged { .. })));
    assert!(!directory.path().join(Journal::FILE).exists());
}

#[tokio::test]
async fn snapshots_are_written_while_it_sells_and_the_journal_shrinks() {
    let directory = tempfile::tempdir().unwrap();
    let small = EmbeddedOptions { snapshot_after_bytes: 20_000, ..options(directory.path()) };
    let engine = EmbeddedLedger::open(small.clone()).unwrap();
    engine.open(terms(100_000)).await.unwrap();
    let mut sold = 0;
    let mut seen = BTreeSet::new();
    // Two, so that the second one is built from the first.
    while seen.len() < 2 {
        sell(&engine, sold + 1..=sold + 10).await.unwrap();
        sold += 10;
        seen.extend(snapshots(directory.path()));
        assert!(sold < 50_000, "no snapshot after {sold} orders");
    }
    drop(engine);
    let engine = EmbeddedLedger::open(small).unwrap();
    assert_eq!(orders(&engine).await, (1..=sold).collect());
    // Later commits delete the rows that a snapshot contains.
    while snapshot::list(directory.path()).unwrap()[0].0 > trimmed(&engine) {
        sold += 1;
        sell(&engine, [sold]).await.unwrap();
        assert!(sold < 50_000, "the rows were not deleted");
    }
    drop(engine);
    assert_eq!(orders(&open(directory.path())).await, (1..=sold).collect());
}

fn trimmed(engine: &EmbeddedLedger) -> u64 {
    let (journal, directory) = engine.files().unwrap();
    let archive = ArchiveFile::in_memory().unwrap();
    journal.load(directory.as_deref(), LedgerRole::Single, &archive, &|| true).unwrap().unwrap().trimmed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_taken_while_it_sells_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    let [data, backup, restored] = ["data", "backup", "restored"].map(|name| directory.path().join(name));
    let engine = Arc::new(open(&data));
    engine.open(terms(100_000)).await.unwrap();
    sell(&engine, 1..=50).await.unwrap();
    let selling = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { sell(&engine, 51..=500).await }
    });
    engine.backup(&backup).await.unwrap();
    selling.await.unwrap().unwrap();
    assert!(matches!(engine.backup(&backup).await, Err(EmbeddedError::NotEmpty { .. })));

    restore(&backup, &restored, LedgerRole::Single).unwrap();
    let copy = open(&restored);
    let there = orders(&copy).await;
    let last = there.len() as u64;
    assert!((50..=500).contains(&last) && there == (1..=last).collect());
    sell(&copy, last + 1..=last + 10).await.unwrap();
    copy.close().await.unwrap();
    assert_eq!(orders(&open(&restored)).await, (1..=last + 10).collect());

    assert!(matches!(restore(&backup, &restored, LedgerRole::Single), Err(EmbeddedError::NotEmpty { .. })));
    let [snapshot] = &snapshots(&backup)[..] else { panic!("one snapshot") };
    let mut bytes = fs::read(snapshot).unwrap();
    bytes[100] ^= 1;
    fs::write(snapshot, bytes).unwrap();
    let elsewhere = directory.path().join("elsewhere");
    assert!(matches!(restore(&backup, &elsewhere, LedgerRole::Single), Err(EmbeddedError::Damaged { .. })));
    assert!(!elsewhere.join(Journal::FILE).exists());
}

#[tokio::test]
async fn an_empty_engine_can_be_backed_up() {
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("backup");
    open(&directory.path().join("data")).backup(&backup).await.unwrap();
    assert!(open(&backup).activities().await.unwrap().is_empty());
}
