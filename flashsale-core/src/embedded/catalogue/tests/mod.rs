//! The contract of [`Catalogue`] for the embedded implementation, and damage to its file.

mod trail;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition, backends::InMemoryBackend};
use serde_json::json;

use super::*;
use crate::{
    catalogue::ImportedActivity,
    domain::{ActivityStatus, ManualClock, Timestamp, Window},
};

fn by() -> Attribution {
    Attribution { actor: "chen".parse().unwrap(), reason: "双十一".parse().unwrap() }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(1_000)))
}

fn empty() -> EmbeddedCatalogue {
    EmbeddedCatalogue::in_memory(clock()).unwrap()
}

fn product(id: u64) -> Product {
    serde_json::from_value(json!({"id": id.to_string(), "name": format!("product {id}")})).unwrap()
}

fn sku(id: u64, product: u64) -> Sku {
    let price = json!({"amount": 1_000, "currency": "CNY"});
    serde_json::from_value(
        json!({"id": id.to_string(), "product_id": product.to_string(), "name": "红色 / L", "list_price": price}),
    )
    .unwrap()
}

fn activity(status: ActivityStatus, skus: &[u64]) -> Activity {
    let offer = |sku: &u64| {
        json!({"sku_id": sku.to_string(), "price": {"amount": 900, "currency": "CNY"}, "units": 10,
               "strategy": "pre_deduct", "hold_seconds": 60})
    };
    let published = !matches!(status, ActivityStatus::Draft | ActivityStatus::Submitted);
    serde_json::from_value(json!({
        "id": "1", "name": "sale", "description": null, "window": [2_000, 3_000], "creator": "chen",
        "reviewer": published.then_some("li"), "status": status, "offers": skus.iter().map(offer).collect::<Vec<_>>(),
    }))
    .unwrap()
}

fn set(status: ActivityStatus) -> ImportSet {
    ImportSet {
        products: vec![product(1), product(2)],
        skus: vec![sku(11, 1), sku(12, 1), sku(21, 2)],
        activities: vec![ImportedActivity { activity: activity(status, &[11, 21]), relative_window: false }],
    }
}

fn with_terms(activity: &Activity, index: usize, field: &str, value: serde_json::Value) -> Activity {
    let mut document = serde_json::to_value(activity).unwrap();
    document["offers"][index][field] = value;
    serde_json::from_value(document).unwrap()
}

fn only_refusal<T: std::fmt::Debug>(result: Result<T, CatalogueError>) -> String {
    match result.unwrap_err() {
        CatalogueError::Refused(refusals) if refusals.len() == 1 => refusals[0].to_string(),
        other => panic!("expected one refusal: {other:?}"),
    }
}

#[tokio::test]
async fn importing_twice_changes_nothing_and_a_difference_creates_a_version() {
    let catalogue = empty();
    let mut set = set(ActivityStatus::Published);
    let first = catalogue.import(&set, &by()).await.unwrap();
    assert_eq!((first.products.created, first.skus.created, first.activities.created), (2, 3, 1));
    let trail = catalogue.audit(0, 100).await.unwrap();
    assert_eq!(trail.iter().map(|row| row.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(trail[5].change.subject.as_str(), "activity/1");
    assert_eq!((trail[5].actor.as_str(), trail[5].reason.as_str()), ("chen", "双十一"));

    let second = catalogue.import(&set, &by()).await.unwrap();
    assert!(!second.changed_anything());
    assert_eq!(second.skus.unchanged, 3);
    assert_eq!(catalogue.audit(0, 100).await.unwrap(), trail);

    set.skus[1].name = "蓝色 / L".parse().unwrap();
    let third = catalogue.import(&set, &by()).await.unwrap();
    assert_eq!((third.skus.changed, third.skus.unchanged), (1, 2));
    assert_eq!(catalogue.sku(SkuId::new(12).unwrap()).await.unwrap().unwrap().version, 2);
    let added = catalogue.audit(6, 100).await.unwrap();
    assert_eq!(added.len(), 1);
    assert_eq!(
        added[0].change.detail,
        json!({"version": 2, "changed": {"name": {"was": "红色 / L", "is": "蓝色 / L"}}})
    );
}

#[tokio::test]
async fn an_import_is_all_or_nothing_and_reports_every_fault() {
    let catalogue = empty();
    let mut set = set(ActivityStatus::Published);
    set.skus[0].product_id = ProductId::new(9).unwrap();
    set.products.push(product(2));
    set.activities[0].activity = activity(ActivityStatus::Published, &[12, 99]);
    let Err(CatalogueError::Refused(refusals)) = catalogue.import(&set, &by()).await else { panic!("taken") };
    let refusals: Vec<_> = refusals.iter().map(ToString::to_string).collect();
    assert_eq!(
        refusals,
        [
            "product/2: id: appears twice",
            "sku/11: product_id: the product 9 does not exist",
            "offer/1/99: sku_id: the SKU 99 does not exist",
        ]
    );
    assert!(catalogue.products(None, 10).await.unwrap().is_empty());
    assert!(catalogue.audit(0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_import_cannot_change_the_terms_of_a_published_offer() {
    let catalogue = empty();
    let before = set(ActivityStatus::Published);
    catalogue.import(&before, &by()).await.unwrap();
    let changed = |activity: Activity| ImportSet {
        activities: vec![ImportedActivity { activity, relative_window: false }],
        ..ImportSet::default()
    };
    let old = &before.activities[0].activity;
    let while_published = "cannot change while the activity is published";
    let cases = [
        ("price", json!({"amount": 800, "currency": "CNY"}), format!("offer/1/21: price: {while_published}")),
        ("units", json!(11), format!("offer/1/21: units: {while_published}; use an adjustment")),
        ("strategy", json!("order_time"), format!("offer/1/21: strategy: {while_published}")),
        ("hold_seconds", json!(61), format!("offer/1/21: hold_seconds: {while_published}")),
        ("late_capture", json!("retake"), format!("offer/1/21: late_capture: {while_published}")),
    ];
    for (field, value, message) in cases {
        let set = changed(with_terms(old, 1, field, value));
        assert_eq!(only_refusal(catalogue.import(&set, &by()).await), message);
    }
    let fewer = changed(activity(ActivityStatus::Published, &[11]));
    assert!(
        only_refusal(catalogue.import(&fewer, &by()).await)
            .starts_with("offer/1/21: sku_id: the offer is missing")
    );
    let more = changed(activity(ActivityStatus::Published, &[11, 21, 12]));
    assert!(
        only_refusal(catalogue.import(&more, &by()).await)
            .starts_with("offer/1/12: sku_id: an offer cannot be")
    );

    let mut allowed = with_terms(old, 0, "limits", json!([{"subject": "user", "per": "offer", "max": 2}]));
    allowed.name = "renamed".parse().unwrap();
    allowed.window = Window::new(Timestamp::from_millis(2_500), Timestamp::from_millis(9_000)).unwrap();
    let report = catalogue.import(&changed(allowed.clone()), &by()).await.unwrap();
    assert_eq!(report.activities.changed, 1);
    let now = catalogue.activity(allowed.id).await.unwrap().unwrap();
    assert_eq!((now.version, now.value), (2, allowed));
}

#[tokio::test]
async fn a_relative_window_is_fixed_by_the_first_import() {
    let catalogue = empty();
    let mut set = set(ActivityStatus::Published);
    set.activities[0].relative_window = true;
    catalogue.import(&set, &by()).await.unwrap();
    let later = Window::new(Timestamp::from_millis(5_000), Timestamp::from_millis(6_000)).unwrap();
    set.activities[0].activity.window = later;
    assert!(!catalogue.import(&set, &by()).await.unwrap().changed_anything());
    set.activities[0].relative_window = false;
    assert_eq!(catalogue.import(&set, &by()).await.unwrap().activities.changed, 1);
}

#[tokio::test]
async fn a_file_with_a_draft_moves_no_activity_back() {
    use ActivityStatus::{Approved, Archived, Draft, Published, Submitted};
    let catalogue = empty();
    let draft = set(Draft);
    catalogue.import(&draft, &by()).await.unwrap();
    for (version, status) in (1..).zip([Submitted, Approved, Published, Archived]) {
        let mut next = catalogue.activity(ActivityId::new(1).unwrap()).await.unwrap().unwrap().value;
        next.status = status;
        if status == Approved {
            next.reviewer = Some("li".parse().unwrap());
        }
        assert_eq!(catalogue.put_activity(Some(version), next, &by()).await.unwrap().version, version + 1);
        assert!(!catalogue.import(&draft, &by()).await.unwrap().changed_anything(), "{status:?}");
        let mut renamed = draft.clone();
        renamed.activities[0].activity.name = "other".parse().unwrap();
        if status != Published {
            assert!(only_refusal(catalogue.import(&renamed, &by()).await).contains("name: cannot change"));
        }
    }
}

#[tokio::test]
async fn edits_follow_the_status() {
    use ActivityStatus::{Approved, Draft, Published, Submitted};
    let catalogue = empty();
    catalogue.import(&ImportSet { activities: vec![], ..set(Draft) }, &by()).await.unwrap();
    let put = |expected, activity: Activity| {
        let catalogue = catalogue.clone();
        async move { catalogue.put_activity(expected, activity, &by()).await }
    };
    assert_eq!(
        only_refusal(put(None, activity(Published, &[11])).await),
        "activity/1: status: a new activity is a draft, not published"
    );
    put(None, activity(Draft, &[11])).await.unwrap();
    assert_eq!(
        only_refusal(put(Some(1), activity(Published, &[11])).await),
        "activity/1: status: cannot go from draft to published"
    );
    put(Some(1), activity(Submitted, &[11, 21])).await.unwrap();
    assert!(only_refusal(put(Some(2), activity(Approved, &[11])).await).starts_with("offer/1/21: sku_id"));
    let approved_by_creator =
        Activity { reviewer: Some("chen".parse().unwrap()), ..activity(Approved, &[11, 21]) };
    assert_eq!(
        only_refusal(put(Some(2), approved_by_creator).await),
        "activity/1: reviewer: must not be the creator"
    );
    put(Some(2), activity(Approved, &[11, 21])).await.unwrap();
    put(Some(3), activity(Published, &[11, 21])).await.unwrap();
    let dearer = with_terms(&activity(Published, &[11, 21]), 0, "units", json!(1));
    assert!(only_refusal(put(Some(4), dearer).await).starts_with("offer/1/11: units: cannot change"));
}

#[tokio::test]
async fn of_two_writers_of_one_version_one_wins() {
    let catalogue = empty();
    catalogue.put_product(None, product(1), &by()).await.unwrap();
    let renamed = |name: &str| Product { name: name.parse().unwrap(), ..product(1) };
    let (one, two) = (by(), by());
    let (a, b) = tokio::join!(
        catalogue.put_product(Some(1), renamed("a"), &one),
        catalogue.put_product(Some(1), renamed("b"), &two),
    );
    assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1);
    let lost = if a.is_err() { a } else { b };
    assert!(matches!(lost, Err(CatalogueError::Conflict { expected: Some(1), found: 2, .. })));
    assert!(matches!(
        catalogue.put_product(None, renamed("c"), &by()).await,
        Err(CatalogueError::Conflict { expected: None, found: 2, .. })
    ));
    assert!(matches!(
        catalogue.put_product(Some(1), product(9), &by()).await,
        Err(CatalogueError::NotFound(Item::Product(_)))
    ));
    assert_eq!(catalogue.audit(0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn skus_keep_their_currency_and_are_listed_by_product() {
    let catalogue = empty();
    catalogue.import(&set(ActivityStatus::Draft), &by()).await.unwrap();
    let dollars: Sku = {
        let mut document = serde_json::to_value(sku(11, 1)).unwrap();
        document["list_price"]["currency"] = json!("USD");
        serde_json::from_value(document).unwrap()
    };
    assert!(
        only_refusal(catalogue.put_sku(Some(1), dollars, &by()).await)
            .starts_with("sku/11: currency: is CNY")
    );
    catalogue.put_sku(Some(1), sku(12, 2), &by()).await.unwrap();
    let ids = |page: Vec<Versioned<Sku>>| page.iter().map(|sku| sku.value.id.value()).collect::<Vec<_>>();
    let of = |product| ProductId::new(product).unwrap();
    assert_eq!(ids(catalogue.skus_of(of(1), None, 10).await.unwrap()), [11]);
    assert_eq!(ids(catalogue.skus_of(of(2), None, 10).await.unwrap()), [12, 21]);
    assert_eq!(ids(catalogue.skus_of(of(2), SkuId::new(12), 10).await.unwrap()), [21]);
    assert_eq!(ids(catalogue.skus(SkuId::new(11), 1).await.unwrap()), [12]);
    assert_eq!(ids(catalogue.skus_of(of(9), None, 10).await.unwrap()), [0; 0]);
}

#[tokio::test]
async fn a_change_made_elsewhere_is_recorded_once() {
    let clock = clock();
    let catalogue = EmbeddedCatalogue::in_memory(clock.clone()).unwrap();
    let event = "ledger/1/0/17".parse().unwrap();
    let change = Change {
        action: "offer.adjusted".parse().unwrap(),
        subject: Item::Offer(ActivityId::new(1).unwrap(), SkuId::new(11).unwrap())
            .to_string()
            .parse()
            .unwrap(),
        detail: json!({"delta": -5}),
    };
    assert!(catalogue.record(&event, change.clone(), &by()).await.unwrap());
    assert!(!catalogue.record(&event, change.clone(), &by()).await.unwrap());
    clock.set(Timestamp::from_millis(10));
    assert!(catalogue.record(&"other".parse().unwrap(), change.clone(), &by()).await.unwrap());
    let rows = catalogue.audit(0, 10).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].change, change);
    assert_eq!(rows[1].at, rows[0].at, "the trail's time does not go back");
}

#[tokio::test]
async fn everything_is_there_after_reopening_and_in_a_backup() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("deep/data");
    let catalogue = EmbeddedCatalogue::open(&data, clock()).unwrap();
    catalogue.import(&set(ActivityStatus::Published), &by()).await.unwrap();
    let trail = catalogue.audit(0, 100).await.unwrap();

    let restored = directory.path().join("restored");
    std::fs::create_dir(&restored).unwrap();
    let copy = restored.join(EmbeddedCatalogue::FILE);
    catalogue.backup(&copy).await.unwrap();
    let again = catalogue.backup(&copy).await.unwrap_err();
    assert!(again.to_string().contains("a backup never overwrites"), "{again}");
    catalogue.put_product(None, product(3), &by()).await.unwrap();
    drop(catalogue);

    for (place, products) in [(&data, 3), (&restored, 2)] {
        let reopened = EmbeddedCatalogue::open(place, clock()).unwrap();
        assert_eq!(reopened.products(None, 10).await.unwrap().len(), products);
        assert_eq!(reopened.audit(0, 6).await.unwrap(), trail);
        assert!(!reopened.import(&set(ActivityStatus::Published), &by()).await.unwrap().changed_anything());
        assert_eq!(reopened.skus_of(ProductId::new(1).unwrap(), None, 10).await.unwrap().len(), 2);
    }
    assert_eq!(std::fs::read_dir(&restored).unwrap().count(), 1, "no partial copy is left");
}

#[tokio::test]
async fn a_file_in_use_is_refused_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let first = EmbeddedCatalogue::open(directory.path(), clock()).unwrap();
    let second = EmbeddedCatalogue::open(directory.path(), clock()).unwrap_err();
    assert!(second.to_string().contains("is in use by another process"), "{second}");
    assert!(second.is_definite() && !second.retry_may_help());
    drop(first);
    EmbeddedCatalogue::open(directory.path(), clock()).unwrap();
}

#[test]
fn newer_and_foreign_files_are_left_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(EmbeddedCatalogue::FILE);
    let meta = TableDefinition::<&str, u64>::new("meta");
    drop(EmbeddedCatalogue::open(directory.path(), clock()).unwrap());
    set_format(&path, meta);
    let newer = EmbeddedCatalogue::open(directory.path(), clock()).unwrap_err();
    assert!(matches!(newer, CatalogueError::Newer { found: 3, supported: 2 }));
    let database = Database::open(&path).unwrap();
    let format =
        database.begin_read().unwrap().open_table(meta).unwrap().get("format").unwrap().unwrap().value();
    assert_eq!(format, 3);
    drop(database);

    for content in [b"SQLite format 3\0 and then some".repeat(300), b"x".to_vec()] {
        std::fs::write(&path, &content).unwrap();
        let foreign = EmbeddedCatalogue::open(directory.path(), clock()).unwrap_err();
        assert!(matches!(foreign, CatalogueError::Damaged(_)), "{foreign:?}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }

    std::fs::remove_file(&path).unwrap();
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TableDefinition::<u64, u64>::new("another program's")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let foreign = EmbeddedCatalogue::open(directory.path(), clock()).unwrap_err();
    assert!(foreign.to_string().contains("the file is not a catalogue"), "{foreign}");
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(EmbeddedCatalogue::FILE);
    let catalogue = EmbeddedCatalogue::open(directory.path(), clock()).unwrap();
    catalogue.import(&set(ActivityStatus::Published), &by()).await.unwrap();
    drop(catalogue);
    let whole = std::fs::read(&path).unwrap();

    for length in [0, whole.len() / 4, whole.len() / 2, whole.len() - 4_096] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = EmbeddedCatalogue::open(directory.path(), clock()).unwrap_err();
        assert!(matches!(error, CatalogueError::Damaged(_)), "cut to {length} bytes: {error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), &whole[..length]);
    }

    let word = "红色 / L".as_bytes();
    let mut scratched = whole.clone();
    for start in 0..scratched.len() - word.len() {
        if whole[start..].starts_with(word) {
            scratched[start..start + word.len()].fill(0);
        }
    }
    assert_ne!(scratched, whole);
    std::fs::write(&path, &scratched).unwrap();
    let read = match EmbeddedCatalogue::open(directory.path(), clock()) {
        Ok(catalogue) => catalogue.skus(None, 10).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(read, Err(CatalogueError::Damaged(_))), "{read:?}");
}

fn set_format(path: &Path, meta: TableDefinition<'_, &str, u64>) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("format", 3).unwrap();
    transaction.commit().unwrap();
}

/// A disk that outlives its database and is full after a given number of operations.
#[derive(Clone, Debug)]
struct Disk {
    content: Arc<InMemoryBackend>,
    operations_left: Arc<AtomicUsize>,
}

impl Disk {
    fn new() -> Self {
        Self { content: Arc::default(), operations_left: Arc::new(AtomicUsize::new(usize::MAX)) }
    }

    fn operation(&self) -> io::Result<()> {
        let left = self.operations_left.load(Ordering::SeqCst);
        self.operations_left.store(left.saturating_sub(1), Ordering::SeqCst);
        if left == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.content.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.content.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operation()?;
        self.content.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operation()?;
        self.content.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operation()?;
        self.content.write(offset, data)
    }
}

#[tokio::test]
async fn an_import_is_all_or_nothing_on_a_full_disk() {
    let import = set(ActivityStatus::Published);
    let mut failures = 0;
    for operations in 0.. {
        let disk = Disk::new();
        let catalogue = EmbeddedCatalogue::with_backend(disk.clone(), clock()).unwrap();
        catalogue.put_product(None, product(9), &by()).await.unwrap();

        disk.operations_left.store(operations, Ordering::SeqCst);
        let answer = catalogue.import(&import, &by()).await;
        disk.operations_left.store(usize::MAX, Ordering::SeqCst);
        if answer.is_err() {
            let after = catalogue.put_product(None, product(8), &by()).await.unwrap_err();
            assert!(after.to_string().contains("open it again"), "{after}");
        }
        drop(catalogue);

        let reopened = EmbeddedCatalogue::with_backend(disk, clock()).unwrap();
        let sizes = (
            reopened.products(None, 10).await.unwrap().len(),
            reopened.skus(None, 10).await.unwrap().len(),
            reopened.activities(None, 10).await.unwrap().len(),
            reopened.audit(0, 10).await.unwrap().len(),
        );
        let (before, done) = ((1, 0, 0, 1), (3, 3, 1, 7));
        match answer {
            Ok(_) => {
                assert_eq!(sizes, done);
                break;
            }
            Err(error) if error.is_definite() => assert_eq!(sizes, before, "{error:?}"),
            Err(error) => assert!(sizes == before || sizes == done, "{sizes:?} after {error:?}"),
        }
        failures += 1;
        reopened.import(&import, &by()).await.unwrap();
        assert_eq!(reopened.audit(0, 10).await.unwrap().len(), 7, "a retry completes it once");
    }
    assert!(failures >= 3, "the import took only {failures} operations of the disk");
}

#[tokio::test]
async fn a_dropped_call_is_all_or_nothing() {
    let catalogue = empty();
    let import = set(ActivityStatus::Published);
    for _ in 0..20 {
        let author = by();
        let mut call = Box::pin(catalogue.import(&import, &author));
        let waker = std::task::Waker::noop();
        let _ = call.as_mut().poll(&mut std::task::Context::from_waker(waker));
        drop(call);
        let rows = catalogue.audit(0, 100).await.unwrap().len();
        assert!(rows == 0 || rows == 6, "{rows}");
    }
    catalogue.import(&import, &by()).await.unwrap();
    assert_eq!(catalogue.audit(0, 100).await.unwrap().len(), 6);
}
