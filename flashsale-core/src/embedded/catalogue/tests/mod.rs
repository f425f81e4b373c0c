//! The file of the catalogue: its format, backup, damage and a full disk. The conformance suite tests
//! the contract.

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
    domain::{ActivityStatus, ManualClock, Timestamp},
};

fn by() -> Attribution {
    Attribution { actor: "chen".parse().unwrap(), reason: "双十一".parse().unwrap() }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(1_000)))
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
