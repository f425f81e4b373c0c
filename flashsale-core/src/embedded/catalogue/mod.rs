//! The catalogue in one redb file.

mod audit_chain;
mod format;
mod tables;
#[cfg(test)]
mod tests;
mod trail;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, WriteTransaction, backends::InMemoryBackend,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use self::{
    audit_chain::differences,
    format::copy_all,
    tables::{
        ACTIVITIES, AUDIT, Bytes, CACHE_BYTES, KILL_SWITCH, PRODUCTS, RECORDED, SKUS, SKUS_OF_PRODUCT,
        damaged, storage,
    },
    trail::{append, change, unreadable, verify},
};
use crate::{
    catalogue::{
        AuditCheck, AuditRow, Catalogue, CatalogueError, Change, Counts, ImportReport, ImportSet, Item,
        KillSwitch, MAX_PAGE, Refusal, Versioned, rules,
    },
    domain::{Activity, ActivityId, Attribution, Clock, Name, Product, ProductId, Sku, SkuId},
    embedded::file::{self, StoreError, blocking},
};

/// A [`Catalogue`] in one file, `catalogue.redb`, or in memory.
///
/// Values are JSON, so that a field can be added without rewriting the file. A write is on disk
/// before the call returns. One process at a time can open the file. Calls wait for the disk on
/// tokio's threads for blocking work, so any tokio runtime will do.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// use std::sync::Arc;
///
/// use flashsale_core::{
///     catalogue::Catalogue,
///     domain::{Attribution, Product, SystemClock},
///     embedded::EmbeddedCatalogue,
/// };
///
/// let catalogue = EmbeddedCatalogue::in_memory(Arc::new(SystemClock))?;
/// let product: Product = serde_json::from_str(r#"{"id": "7", "name": "青花瓷杯"}"#)?;
/// let by = Attribution { actor: "chen".parse()?, reason: "new in the shop".parse()? };
/// assert_eq!(catalogue.put_product(None, product, &by).await?.version, 1);
/// assert_eq!(catalogue.audit(0, 10).await?[0].change.subject.as_str(), "product/7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EmbeddedCatalogue {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
}

impl EmbeddedCatalogue {
    /// The name of the file in the data directory.
    pub const FILE: &'static str = "catalogue.redb";

    /// Opens the catalogue of a data directory, creating directory and file if they are missing.
    /// Blocks on the disk; call it before serving starts.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be used or another process has it open; `Newer`; `Damaged`.
    /// Existing files are left as they are.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, CatalogueError> {
        file::open(directory, Self::FILE, CACHE_BYTES, |database| Self::prepare(database, clock))
    }

    /// Creates an empty catalogue in memory. It is lost with its last clone.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be created.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<Self, CatalogueError> {
        Self::with_backend(InMemoryBackend::new(), clock)
    }

    /// Writes a consistent copy to `path` while the catalogue is in use. To restore, replace
    /// `catalogue.redb` while no process has it open. The copy is synced under a temporary name and
    /// then renamed, so a file at `path` is complete.
    ///
    /// # Errors
    /// `Unavailable` if `path` exists or cannot be written; storage errors.
    pub async fn backup(&self, path: &Path) -> Result<(), CatalogueError> {
        let path = path.to_owned();
        self.read(move |from| {
            if path.exists() {
                let reason = format!("{} already exists; a backup never overwrites a file", path.display());
                return Err(CatalogueError::Unavailable { reason, retry: false, source: None });
            }
            let partial = PathBuf::from(format!("{}.partial", path.display()));
            let failed = |error| {
                StoreError::unavailable(format!("the copy {} cannot be written", path.display()), true, error)
            };
            match fs::remove_file(&partial) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(error).into());
                }
                _ => {}
            }
            copy_all(from, &partial)?;
            fs::rename(&partial, &path).map_err(failed)?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            Ok(file::sync_directory(parent.unwrap_or(Path::new(".")))?)
        })
        .await
    }

    pub(super) fn with_backend(
        backend: impl StorageBackend,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CatalogueError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|error| cannot_open(Path::new(Self::FILE), error))?;
        Self::prepare(database, clock)
    }

    fn prepare(database: Database, clock: Arc<dyn Clock>) -> Result<Self, CatalogueError> {
        format::prepare(&database, &*clock)?;
        Ok(Self { database: Arc::new(database), clock })
    }

    async fn read<T: Send + 'static>(
        &self,
        step: impl FnOnce(&ReadTransaction) -> Result<T, CatalogueError> + Send + 'static,
    ) -> Result<T, CatalogueError> {
        let database = Arc::clone(&self.database);
        blocking(move || step(&database.begin_read().map_err(storage)?)).await
    }

    async fn write<T: Send + 'static>(
        &self,
        by: &Attribution,
        step: impl FnOnce(&mut Step) -> Result<T, CatalogueError> + Send + 'static,
    ) -> Result<T, CatalogueError> {
        let (database, clock, by) = (Arc::clone(&self.database), Arc::clone(&self.clock), by.clone());
        blocking(move || {
            let transaction = database.begin_write().map_err(storage)?;
            let mut running = Step { transaction, clock, by, changed: false };
            let answer = step(&mut running)?;
            if running.changed {
                running.transaction.commit().map_err(|error| CatalogueError::Unknown(Box::new(error)))?;
            }
            Ok(answer)
        })
        .await
    }
}

#[async_trait]
impl Catalogue for EmbeddedCatalogue {
    async fn import(&self, set: &ImportSet, by: &Attribution) -> Result<ImportReport, CatalogueError> {
        let set = set.clone();
        self.write(by, move |step| step.import(set)).await
    }

    async fn product(&self, id: ProductId) -> Result<Option<Versioned<Product>>, CatalogueError> {
        self.read(move |reading| find(&reading.open_table(PRODUCTS).map_err(storage)?, id.value())).await
    }

    async fn products(
        &self,
        after: Option<ProductId>,
        limit: usize,
    ) -> Result<Vec<Versioned<Product>>, CatalogueError> {
        let after = after.map_or(0, ProductId::value);
        self.read(move |reading| page(&reading.open_table(PRODUCTS).map_err(storage)?, after, limit)).await
    }

    async fn put_product(
        &self,
        expected: Option<u64>,
        product: Product,
        by: &Attribution,
    ) -> Result<Versioned<Product>, CatalogueError> {
        self.write(by, move |step| {
            let old = step.expect::<Product>(expected, product.id.value(), Item::Product(product.id))?;
            step.store(old, product)
        })
        .await
    }

    async fn sku(&self, id: SkuId) -> Result<Option<Versioned<Sku>>, CatalogueError> {
        self.read(move |reading| find(&reading.open_table(SKUS).map_err(storage)?, id.value())).await
    }

    async fn skus(&self, after: Option<SkuId>, limit: usize) -> Result<Vec<Versioned<Sku>>, CatalogueError> {
        let after = after.map_or(0, SkuId::value);
        self.read(move |reading| page(&reading.open_table(SKUS).map_err(storage)?, after, limit)).await
    }

    async fn skus_of(
        &self,
        product: ProductId,
        after: Option<SkuId>,
        limit: usize,
    ) -> Result<Vec<Versioned<Sku>>, CatalogueError> {
        let first = (product.value(), after.map_or(0, SkuId::value) + 1);
        self.read(move |reading| {
            let index = reading.open_table(SKUS_OF_PRODUCT).map_err(storage)?;
            let skus = reading.open_table(SKUS).map_err(storage)?;
            let ids = index.range(first..=(first.0, u64::MAX)).map_err(storage)?.take(limit.min(MAX_PAGE));
            ids.map(|entry| {
                let (_, sku) = entry.map_err(storage)?.0.value();
                find(&skus, sku)?
                    .ok_or_else(|| CatalogueError::Damaged(format!("sku/{sku} is in an index but missing")))
            })
            .collect()
        })
        .await
    }

    async fn put_sku(
        &self,
        expected: Option<u64>,
        sku: Sku,
        by: &Attribution,
    ) -> Result<Versioned<Sku>, CatalogueError> {
        self.write(by, move |step| {
            let old = step.expect::<Sku>(expected, sku.id.value(), Item::Sku(sku.id))?;
            rules::change_sku(old.as_ref().map(|old| &old.value), &sku).map_err(refused)?;
            step.check_sku(&sku)?.map_err(refused)?;
            step.store(old, sku)
        })
        .await
    }

    async fn activity(&self, id: ActivityId) -> Result<Option<Versioned<Activity>>, CatalogueError> {
        self.read(move |reading| find(&reading.open_table(ACTIVITIES).map_err(storage)?, id.value())).await
    }

    async fn activities(
        &self,
        after: Option<ActivityId>,
        limit: usize,
    ) -> Result<Vec<Versioned<Activity>>, CatalogueError> {
        let after = after.map_or(0, ActivityId::value);
        self.read(move |reading| page(&reading.open_table(ACTIVITIES).map_err(storage)?, after, limit)).await
    }

    async fn put_activity(
        &self,
        expected: Option<u64>,
        activity: Activity,
        by: &Attribution,
    ) -> Result<Versioned<Activity>, CatalogueError> {
        self.write(by, move |step| {
            let old = step.expect::<Activity>(expected, activity.id.value(), Item::Activity(activity.id))?;
            rules::edit(old.as_ref().map(|old| &old.value), &activity).map_err(refused)?;
            let refusals = step.check_activity(&activity)?;
            if !refusals.is_empty() {
                return Err(CatalogueError::Refused(refusals));
            }
            step.store(old, activity)
        })
        .await
    }

    async fn record(&self, event: &Name, change: Change, by: &Attribution) -> Result<bool, CatalogueError> {
        let event = event.clone();
        self.write(by, move |step| {
            if step
                .transaction
                .open_table(RECORDED)
                .map_err(storage)?
                .get(event.as_str())
                .map_err(storage)?
                .is_some()
                && !mutant!("catalogue-event-recorded-twice")
            {
                return Ok(false);
            }
            let sequence = step.audit(change, Some(event.clone()))?;
            let mut recorded = step.transaction.open_table(RECORDED).map_err(storage)?;
            recorded.insert(event.as_str(), sequence).map_err(storage)?;
            Ok(true)
        })
        .await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, CatalogueError> {
        self.read(move |reading| {
            let trail = reading.open_table(AUDIT).map_err(storage)?;
            let rows = trail.range(after.saturating_add(1)..).map_err(storage)?.take(limit.min(MAX_PAGE));
            rows.map(|row| {
                let (key, stored) = row.map_err(storage)?;
                audit_chain::decode(stored.value()).map_err(|reason| unreadable(key.value(), &reason))
            })
            .collect()
        })
        .await
    }

    async fn verify_audit(&self) -> Result<AuditCheck, CatalogueError> {
        self.read(verify).await
    }

    async fn kill_switch(&self) -> Result<Option<Versioned<KillSwitch>>, CatalogueError> {
        self.read(|reading| {
            let switch = reading.open_table(KILL_SWITCH).map_err(storage)?;
            let switch = switch.get(()).map_err(storage)?;
            switch.map(|stored| serde_json::from_slice(stored.value()).map_err(damaged)).transpose()
        })
        .await
    }

    async fn put_kill_switch(
        &self,
        on: bool,
        by: &Attribution,
    ) -> Result<Versioned<KillSwitch>, CatalogueError> {
        self.write(by, move |step| step.switch(on)).await
    }
}

/// A kind of value that the catalogue stores.
trait StoredValue: Serialize + DeserializeOwned + PartialEq {
    const TABLE: TableDefinition<'static, u64, Bytes>;
    const WORD: &'static str;

    fn item(&self) -> Item;
    fn key(&self) -> u64;

    /// The verb for a change from `was` to this value, used in the action of its audit row.
    fn verb(&self, _was: &Self) -> &'static str {
        "changed"
    }
}

impl StoredValue for Product {
    const TABLE: TableDefinition<'static, u64, Bytes> = PRODUCTS;
    const WORD: &'static str = "product";

    fn item(&self) -> Item {
        Item::Product(self.id)
    }

    fn key(&self) -> u64 {
        self.id.value()
    }
}

impl StoredValue for Sku {
    const TABLE: TableDefinition<'static, u64, Bytes> = SKUS;
    const WORD: &'static str = "sku";

    fn item(&self) -> Item {
        Item::Sku(self.id)
    }

    fn key(&self) -> u64 {
        self.id.value()
    }
}

impl StoredValue for Activity {
    const TABLE: TableDefinition<'static, u64, Bytes> = ACTIVITIES;
    const WORD: &'static str = "activity";

    fn item(&self) -> Item {
        Item::Activity(self.id)
    }

    fn key(&self) -> u64 {
        self.id.value()
    }

    fn verb(&self, was: &Self) -> &'static str {
        rules::step_taken(was, self)
    }
}

/// A write transaction. Dropped without a commit, it changes nothing.
struct Step {
    transaction: WriteTransaction,
    clock: Arc<dyn Clock>,
    by: Attribution,
    changed: bool,
}

impl Step {
    fn import(&mut self, set: ImportSet) -> Result<ImportReport, CatalogueError> {
        let mut report = ImportReport::default();
        let mut refusals = duplicates(&set);
        for product in &set.products {
            let old = self.find::<Product>(product.id.value())?;
            self.take(old, product.clone(), &mut report.products)?;
        }
        for sku in &set.skus {
            let old = self.find::<Sku>(sku.id.value())?;
            let checked = rules::change_sku(old.as_ref().map(|old| &old.value), sku);
            match checked.and(self.check_sku(sku)?) {
                Ok(()) => self.take(old, sku.clone(), &mut report.skus)?,
                Err(refusal) => refusals.push(refusal),
            }
        }
        for imported in &set.activities {
            let old = self.find::<Activity>(imported.activity.id.value())?;
            match rules::import(old.as_ref().map(|old| &old.value), imported) {
                Ok(activity) => {
                    refusals.extend(self.check_activity(&activity)?);
                    self.take(old, activity, &mut report.activities)?;
                }
                Err(refusal) => refusals.push(refusal),
            }
        }
        if refusals.is_empty() || mutant!("catalogue-import-in-part") {
            return Ok(report);
        }
        refusals.truncate(Refusal::MAX_REPORTED);
        Err(CatalogueError::Refused(refusals))
    }

    fn take<T: StoredValue>(
        &mut self,
        old: Option<Versioned<T>>,
        new: T,
        counts: &mut Counts,
    ) -> Result<(), CatalogueError> {
        let before = old.as_ref().map(|old| old.version);
        let after = self.store(old, new)?.version;
        match before {
            None => counts.created += 1,
            Some(before) if before == after => counts.unchanged += 1,
            Some(_) => counts.changed += 1,
        }
        Ok(())
    }

    fn find<T: StoredValue>(&self, key: u64) -> Result<Option<Versioned<T>>, CatalogueError> {
        find(&self.transaction.open_table(T::TABLE).map_err(storage)?, key)
    }

    /// Reads the current value and checks that its version is the expected one.
    fn expect<T: StoredValue>(
        &self,
        expected: Option<u64>,
        key: u64,
        item: Item,
    ) -> Result<Option<Versioned<T>>, CatalogueError> {
        let present = self.find::<T>(key)?;
        match (&present, expected) {
            (None, Some(_)) => Err(CatalogueError::NotFound(item)),
            (Some(present), _)
                if expected != Some(present.version) && !mutant!("catalogue-version-not-compared") =>
            {
                Err(CatalogueError::Conflict { item, expected, found: present.version })
            }
            _ => Ok(present),
        }
    }

    /// Writes a value and its audit row, unless it equals the old one.
    fn store<T: StoredValue>(
        &mut self,
        old: Option<Versioned<T>>,
        new: T,
    ) -> Result<Versioned<T>, CatalogueError> {
        let (version, detail, verb) = match old {
            Some(old) if old.value == new => return Ok(old),
            Some(old) => {
                let version = old.version + 1;
                let changed = differences(&to_value(&old.value)?, &to_value(&new)?);
                (version, json!({"version": version, "changed": changed}), new.verb(&old.value))
            }
            None => (1, json!({"version": 1, "created": to_value(&new)?}), "created"),
        };
        let new = Versioned { version, value: new };
        let bytes = serde_json::to_vec(&new).map_err(damaged)?;
        let mut table = self.transaction.open_table(T::TABLE).map_err(storage)?;
        table.insert(new.value.key(), bytes.as_slice()).map_err(storage)?;
        drop(table);
        self.audit(change(&format!("{}.{verb}", T::WORD), &new.value.item().to_string(), detail)?, None)?;
        Ok(new)
    }

    fn switch(&mut self, on: bool) -> Result<Versioned<KillSwitch>, CatalogueError> {
        let mut table = self.transaction.open_table(KILL_SWITCH).map_err(storage)?;
        let old: Option<Versioned<KillSwitch>> = match table.get(()).map_err(storage)? {
            Some(stored) => Some(serde_json::from_slice(stored.value()).map_err(damaged)?),
            None => None,
        };
        let version = match old {
            Some(old) if old.value.on == on => return Ok(old),
            old => old.map_or(0, |old| old.version) + 1,
        };
        let (at, by) = (self.clock.now(), self.by.clone());
        let switch = Versioned { version, value: KillSwitch { on, at, by } };
        table.insert((), serde_json::to_vec(&switch).map_err(damaged)?.as_slice()).map_err(storage)?;
        drop(table);
        let action = if on { "kill_switch.on" } else { "kill_switch.off" };
        self.audit(change(action, "kill_switch", json!({"version": version}))?, None)?;
        Ok(switch)
    }

    fn audit(&mut self, change: Change, event: Option<Name>) -> Result<u64, CatalogueError> {
        let now = self.clock.now();
        let sequence = append(&self.transaction, now, &self.by, change, event)?;
        self.changed = true;
        Ok(sequence)
    }

    /// Checks that an SKU's product exists, and updates the index of the product's SKUs.
    fn check_sku(&mut self, sku: &Sku) -> Result<Result<(), Refusal>, CatalogueError> {
        if self.find::<Product>(sku.product_id.value())?.is_none() {
            let reason = format!("the product {} does not exist", sku.product_id);
            return Ok(Err(Refusal { item: Item::Sku(sku.id), field: "product_id", reason }));
        }
        let mut index = self.transaction.open_table(SKUS_OF_PRODUCT).map_err(storage)?;
        if let Some(old) = self.find::<Sku>(sku.id.value())? {
            index.remove((old.value.product_id.value(), sku.id.value())).map_err(storage)?;
        }
        index.insert((sku.product_id.value(), sku.id.value()), ()).map_err(storage)?;
        Ok(Ok(()))
    }

    fn check_activity(&self, activity: &Activity) -> Result<Vec<Refusal>, CatalogueError> {
        let item = Item::Activity(activity.id);
        let whole = activity.check().map_err(|invalid| Refusal {
            item,
            field: invalid.field,
            reason: invalid.reason,
        });
        let mut refusals: Vec<_> = whole.err().into_iter().collect();
        for offer in &activity.offers {
            let sku = self.find::<Sku>(offer.sku().value())?;
            refusals.extend(rules::offer_of(activity, offer, sku.as_ref().map(|sku| &sku.value)).err());
        }
        Ok(refusals)
    }
}

/// Refuses ids that occur twice in a set, where the later value would silently win.
fn duplicates(set: &ImportSet) -> Vec<Refusal> {
    let mut items: Vec<Item> = set.products.iter().map(StoredValue::item).collect();
    items.extend(set.skus.iter().map(StoredValue::item));
    items.extend(set.activities.iter().map(|imported| imported.activity.item()));
    items.sort_unstable();
    let repeated = items.windows(2).filter(|pair| pair[0] == pair[1]);
    repeated.map(|pair| Refusal { item: pair[0], field: "id", reason: "appears twice".to_owned() }).collect()
}

fn find<T: DeserializeOwned>(
    table: &impl ReadableTable<u64, Bytes>,
    key: u64,
) -> Result<Option<T>, CatalogueError> {
    match table.get(key).map_err(storage)? {
        Some(bytes) => Ok(Some(serde_json::from_slice(bytes.value()).map_err(damaged)?)),
        None => Ok(None),
    }
}

fn page<T: DeserializeOwned>(
    table: &impl ReadableTable<u64, Bytes>,
    after: u64,
    limit: usize,
) -> Result<Vec<T>, CatalogueError> {
    let rows = table.range(after.saturating_add(1)..).map_err(storage)?.take(limit.min(MAX_PAGE));
    rows.map(|row| serde_json::from_slice(row.map_err(storage)?.1.value()).map_err(damaged)).collect()
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, CatalogueError> {
    serde_json::to_value(value).map_err(damaged)
}

fn refused(refusal: Refusal) -> CatalogueError {
    CatalogueError::Refused(vec![refusal])
}

fn cannot_open(path: &Path, error: DatabaseError) -> CatalogueError {
    file::cannot_open(path, error).into()
}
