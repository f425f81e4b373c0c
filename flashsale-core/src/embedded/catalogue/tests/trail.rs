//! The stored audit trail: changes made by hand are found.

use redb::ReadableTable as _;

use super::*;

const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");
const AUDIT_HEAD: TableDefinition<'_, (), &[u8]> = TableDefinition::new("audit_head");
const KILL_SWITCH: TableDefinition<'_, (), &[u8]> = TableDefinition::new("kill_switch");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const RECORDED: TableDefinition<'_, &str, u64> = TableDefinition::new("recorded");

fn adjusted(number: u64) -> (Name, Change) {
    let change = Change {
        action: "offer.adjusted".parse().unwrap(),
        subject: "offer/1/11".parse().unwrap(),
        detail: json!({"delta": number}),
    };
    (format!("adjusted/1/{number}").parse().unwrap(), change)
}

/// Writes a file with a trail of eight rows, two of them of events.
async fn written(directory: &Path) -> Vec<AuditRow> {
    let catalogue = EmbeddedCatalogue::open(directory, clock()).unwrap();
    catalogue.import(&set(ActivityStatus::Published), &by()).await.unwrap();
    for number in 1..=2 {
        let (event, change) = adjusted(number);
        catalogue.record(&event, change, &by()).await.unwrap();
    }
    let rows = catalogue.audit(0, 100).await.unwrap();
    let check = catalogue.verify_audit().await.unwrap();
    assert_eq!(check, AuditCheck { rows: 8, hash: rows[7].hash, broken: None });
    rows
}

/// Changes a closed file in ways the catalogue would not.
fn by_hand(directory: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(directory.join(EmbeddedCatalogue::FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

/// The file as the catalogue left it.
struct Original<'a> {
    path: &'a Path,
    content: &'a [u8],
}

impl Original<'_> {
    /// Changes the original file; returns the row that verification reports.
    async fn broken(&self, what: &str, change: impl FnOnce(&redb::WriteTransaction)) -> u64 {
        std::fs::write(self.path.join(EmbeddedCatalogue::FILE), self.content).unwrap();
        by_hand(self.path, change);
        let catalogue = EmbeddedCatalogue::open(self.path, clock()).unwrap();
        let check = catalogue.verify_audit().await.unwrap();
        check.broken.unwrap_or_else(|| panic!("{what} was not found")).sequence
    }
}

#[tokio::test]
async fn every_change_of_the_file_by_hand_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    written(path).await;
    let original = std::fs::read(path.join(EmbeddedCatalogue::FILE)).unwrap();
    let original = Original { path, content: &original };
    for key in 1..=8_u64 {
        let changed = original.broken("a changed actor", |transaction| {
            let mut trail = transaction.open_table(AUDIT).unwrap();
            let mut row = trail.get(key).unwrap().unwrap().value().to_vec();
            let name = row.windows(4).position(|bytes| bytes == b"chen").unwrap();
            row[name..name + 4].copy_from_slice(b"chan");
            trail.insert(key, row.as_slice()).unwrap();
        });
        assert_eq!(changed.await, key);
        let removed = original.broken("a removed row", |transaction| {
            transaction.open_table(AUDIT).unwrap().remove(key).unwrap();
        });
        assert_eq!(removed.await, key);
    }
    let inserted = original.broken("an inserted row", |transaction| {
        let mut trail = transaction.open_table(AUDIT).unwrap();
        let copy = trail.get(8).unwrap().unwrap().value().to_vec();
        trail.insert(9, copy.as_slice()).unwrap();
    });
    assert_eq!(inserted.await, 9);
    let shortened = original.broken("a removed last row and event", |transaction| {
        transaction.open_table(AUDIT).unwrap().remove(8).unwrap();
        transaction.open_table(RECORDED).unwrap().remove("adjusted/1/2").unwrap();
    });
    assert_eq!(shortened.await, 8);
    let unrecorded = original.broken("an event that is not recorded", |transaction| {
        transaction.open_table(RECORDED).unwrap().remove("adjusted/1/1").unwrap();
    });
    assert_eq!(unrecorded.await, 7);
    let headless = original.broken("a trail without its recorded end", |transaction| {
        transaction.open_table(AUDIT_HEAD).unwrap().remove(()).unwrap();
    });
    assert_eq!(headless.await, 1);
}

#[tokio::test]
async fn rows_of_format_1_are_chained_when_the_file_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let rows = written(path).await;
    by_hand(path, |transaction| {
        transaction.delete_table(AUDIT_HEAD).unwrap();
        transaction.delete_table(KILL_SWITCH).unwrap();
        transaction.open_table(META).unwrap().insert("format", 1).unwrap();
        let mut trail = transaction.open_table(AUDIT).unwrap();
        for row in &rows {
            let mut old = serde_json::to_value(row).unwrap();
            for field in ["previous", "event"] {
                old.as_object_mut().unwrap().remove(field);
            }
            trail.insert(row.sequence, old.to_string().as_bytes()).unwrap();
        }
    });

    let catalogue = EmbeddedCatalogue::open(path, clock()).unwrap();
    let chained = catalogue.audit(0, 100).await.unwrap();
    assert_eq!(chained[..8], rows);
    assert_eq!(chained[8].change.action.as_str(), "audit.chained");
    assert_eq!(catalogue.verify_audit().await.unwrap().broken, None);
    let (event, change) = adjusted(1);
    assert!(!catalogue.record(&event, change, &by()).await.unwrap(), "its row is known");
    assert!(!catalogue.import(&set(ActivityStatus::Published), &by()).await.unwrap().changed_anything());
    assert!(catalogue.kill_switch().await.unwrap().is_none());
    drop(catalogue);
    let again = EmbeddedCatalogue::open(path, clock()).unwrap();
    assert_eq!(again.audit(0, 100).await.unwrap(), chained, "it is done once");
}
