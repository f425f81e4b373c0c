//! Activities out of memory, in `archive.redb`.
//!
//! A file of its own: it may become large, and is neither checked at each start nor in the way of the
//! journal's commits.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{
    Database, ReadTransaction, ReadableDatabase as _, TableDefinition, TableError, WriteTransaction,
    backends::InMemoryBackend,
};

use super::{error::EmbeddedError, snapshot};
use crate::{
    domain::{ActivityId, Order, OrderId, OrderKey, UserId},
    embedded::file::{FORMAT as FORMAT_NAME, META, copy_table},
    ledger::{
        BatchId, Lane, LedgerRole, PaymentRef,
        state_machine::{
            ArchivedActivity, Inspection, LeavingActivity, ReturningActivity, StateMachine, StoredActivity,
        },
        wire::{self, Wire},
    },
};

/// By activity: the batch in which it left memory, the number of its events, and an [`ArchivedActivity`].
/// Written after the orders.
const ACTIVITIES: TableDefinition<'_, u64, (u64, u64, &[u8])> = TableDefinition::new("activities");
/// By activity, the batch in which it left, and order: the order's number in its activity, and the order.
const ORDERS: TableDefinition<'_, (u64, u64, u64), (u32, &[u8])> = TableDefinition::new("orders");
/// By user and order: the activity.
const BUYERS: TableDefinition<'_, (u64, u64), u64> = TableDefinition::new("buyers");
/// By order: activity and user.
const OWNERS: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("owners");
/// By payment: the order.
const PAYMENTS: TableDefinition<'_, u64, u64> = TableDefinition::new("payments");

/// The format that this version writes. Higher ones are refused.
const FORMAT: u64 = 1;
/// The size of redb's page cache.
const CACHE_BYTES: usize = 16 << 20;
/// Orders per commit.
const ORDERS_AT_ONCE: usize = 2_000;

/// The file, open.
#[derive(Clone, Debug)]
pub(super) struct ArchiveFile {
    database: Arc<Database>,
    path: PathBuf,
}

impl ArchiveFile {
    /// The name of the file in the data directory.
    pub(super) const FILE: &'static str = "archive.redb";

    /// Opens the file of a directory, creating it if it is missing.
    pub(super) fn open(directory: &Path) -> Result<Self, EmbeddedError> {
        let path = directory.join(Self::FILE);
        match fs::metadata(&path) {
            // redb would treat it as a new archive.
            Ok(file) if file.len() == 0 => {
                Err(EmbeddedError::damaged(path, "it is empty; remove it only if nothing was ever archived"))
            }
            Ok(_) => Self::prepare(Self::create(&path)?, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Named only when it is complete, so that a crash leaves no empty file behind. The
                // journal is open, so no other process does the same.
                let pending = path.with_extension("redb.new");
                let _ = fs::remove_file(&pending);
                let file = Self::prepare(Self::create(&pending)?, path)?;
                fs::rename(&pending, &file.path)
                    .map_err(|error| EmbeddedError::unusable(&file.path, "created", error))?;
                snapshot::sync_directory(directory)?;
                Ok(file)
            }
            Err(error) => Err(EmbeddedError::unusable(path, "read", error)),
        }
    }

    fn create(path: &Path) -> Result<Database, EmbeddedError> {
        Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|error| EmbeddedError::of_store(path, "opened", error))
    }

    /// An empty archive in memory.
    pub(super) fn in_memory() -> Result<Self, EmbeddedError> {
        let path = PathBuf::from(Self::FILE);
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(InMemoryBackend::new());
        let database = database.map_err(|error| EmbeddedError::of_store(&path, "opened", error))?;
        Self::prepare(database, path)
    }

    /// Opens the archive on a backend for tests.
    #[cfg(test)]
    pub(super) fn with_backend(backend: impl redb::StorageBackend) -> Result<Self, EmbeddedError> {
        let path = PathBuf::from(Self::FILE);
        let database = Database::builder().create_with_backend(backend);
        let database = database.map_err(|error| EmbeddedError::of_store(&path, "opened", error))?;
        Self::prepare(database, path)
    }

    fn prepare(database: Database, path: PathBuf) -> Result<Self, EmbeddedError> {
        let file = Self { database: Arc::new(database), path };
        let reading = file.begin_read()?;
        let found = match reading.open_table(META) {
            Ok(meta) => file.check(meta.get(FORMAT_NAME))?.map(|format| format.value()),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return file.check(Err(error)),
        };
        drop(reading);
        match found {
            Some(found) if found > FORMAT => {
                Err(EmbeddedError::Newer { path: file.path, found, supported: FORMAT })
            }
            Some(_) => Ok(file),
            None => {
                let writing = file.begin_write()?;
                file.check(file.check(writing.open_table(META))?.insert(FORMAT_NAME, FORMAT))?;
                file.check(writing.open_table(ACTIVITIES))?;
                file.check(writing.open_table(ORDERS))?;
                file.check(writing.open_table(BUYERS))?;
                file.check(writing.open_table(OWNERS))?;
                file.check(writing.open_table(PAYMENTS))?;
                file.check(writing.commit())?;
                Ok(file)
            }
        }
    }

    /// Stores an activity. It counts as stored once its row in `ACTIVITIES` is; then the orders that were
    /// stored before are deleted.
    pub(super) fn store(&self, activity: ActivityId, leaving: &LeavingActivity) -> Result<(), EmbeddedError> {
        let StoredActivity { left_in: BatchId(left_in), events } = leaving.stored();
        // Before anything is written, because the next attempt would write it again.
        let mut ids = HashSet::new();
        if let Some(order) = leaving.orders().find(|order| !ids.insert(order.key.id)) {
            let id = order.key.id;
            return Err(self.damaged(format!("orders of two buyers of activity {activity} have the id {id}")));
        }
        let is_first = self.content(activity)?.is_none();
        let mut orders = (0_u32..).zip(leaving.orders()).peekable();
        while orders.peek().is_some() {
            let writing = self.begin_write()?;
            for (number, order) in orders.by_ref().take(ORDERS_AT_ONCE) {
                self.put_order(&writing, left_in, number, &order)?;
            }
            self.check(writing.commit())?;
        }
        let writing = self.begin_write()?;
        {
            let content = wire::encode(&leaving.content());
            let mut activities = self.check(writing.open_table(ACTIVITIES))?;
            self.check(activities.insert(activity.value(), (left_in, events, &*content)))?;
        }
        self.check(writing.commit())?;
        if is_first {
            return Ok(());
        }
        let writing = self.begin_write()?;
        {
            let mut orders = self.check(writing.open_table(ORDERS))?;
            let all = (activity.value(), 0, 0)..=(activity.value(), u64::MAX, u64::MAX);
            self.check(orders.retain_in(all, |(_, stored, _), _| stored == left_in))?;
        }
        self.check(writing.commit())
    }

    fn put_order(
        &self,
        writing: &WriteTransaction,
        left_in: u64,
        number: u32,
        order: &Order,
    ) -> Result<(), EmbeddedError> {
        let OrderKey { activity, user, id } = order.key;
        let (activity, user, id) = (activity.value(), user.value(), id.value());
        let content = wire::encode(order);
        let mut orders = self.check(writing.open_table(ORDERS))?;
        self.check(orders.insert((activity, left_in, id), (number, &*content)))?;
        self.check(self.check(writing.open_table(BUYERS))?.insert((user, id), activity))?;
        self.check(self.check(writing.open_table(OWNERS))?.insert(id, (activity, user)))?;
        let mut payments = self.check(writing.open_table(PAYMENTS))?;
        for payment in &order.payments {
            self.check(payments.insert(payment.id.value(), id))?;
        }
        Ok(())
    }

    /// The stored activities.
    pub(super) fn stored(&self) -> Result<BTreeMap<ActivityId, StoredActivity>, EmbeddedError> {
        let reading = self.begin_read()?;
        let activities = self.check(reading.open_table(ACTIVITIES))?;
        let mut stored = BTreeMap::new();
        for row in self.check(activities.range::<u64>(..))? {
            let (activity, content) = self.check(row)?;
            let (left_in, events, _) = content.value();
            let value = StoredActivity { left_in: BatchId(left_in), events };
            stored.insert(self.id(ActivityId::new(activity.value()))?, value);
        }
        Ok(stored)
    }

    /// What is stored of an activity besides its orders, with the batch in which it left.
    pub(super) fn content(
        &self,
        activity: ActivityId,
    ) -> Result<Option<(BatchId, ArchivedActivity)>, EmbeddedError> {
        self.content_in(&self.begin_read()?, activity)
    }

    /// An order of a user.
    pub(super) fn order(&self, key: OrderKey) -> Result<Option<Order>, EmbeddedError> {
        let reading = self.begin_read()?;
        let order = self.order_in(&reading, key.activity.value(), key.id.value())?;
        Ok(order.filter(|order| order.key == key || mutant!("archived-order-of-anyone")))
    }

    /// Up to `limit` orders of a user with ids below `after`, highest first.
    pub(super) fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, EmbeddedError> {
        let reading = self.begin_read()?;
        let buyers = self.check(reading.open_table(BUYERS))?;
        let user = user.value();
        let below = (user, 0)..(user, after.map_or(u64::MAX, OrderId::value));
        let mut found = Vec::new();
        for row in self.check(buyers.range(below))?.rev().take(limit) {
            let (key, activity) = self.check(row)?;
            found.extend(self.order_in(&reading, activity.value(), key.value().1)?);
        }
        Ok(found)
    }

    /// The order of a payment in the lane of its reference.
    pub(super) fn order_of_payment(&self, payment: PaymentRef) -> Result<Option<OrderKey>, EmbeddedError> {
        let PaymentRef { lane, payment } = payment;
        let reading = self.begin_read()?;
        let payments = self.check(reading.open_table(PAYMENTS))?;
        let Some(order) = self.check(payments.get(payment.value()))? else { return Ok(None) };
        let Some(order) = self.order_in(&reading, lane.activity.value(), order.value())? else {
            return Ok(None);
        };
        let Some((_, content)) = self.content_in(&reading, lane.activity)? else { return Ok(None) };
        let is_in = |order: &OrderKey| Lane::of(lane.activity, order.user, content.terms().buckets()) == lane;
        Ok(Some(order.key).filter(|order| is_in(order) || mutant!("archived-payment-of-any-lane")))
    }

    /// An order with this id in one activity, or in all.
    pub(super) fn locate(
        &self,
        activity: Option<ActivityId>,
        order: OrderId,
    ) -> Result<Option<OrderKey>, EmbeddedError> {
        let reading = self.begin_read()?;
        let activity = match activity {
            Some(activity) => Some(activity.value()),
            None => {
                let owners = self.check(reading.open_table(OWNERS))?;
                self.check(owners.get(order.value()))?.map(|owner| owner.value().0)
            }
        };
        let Some(activity) = activity else { return Ok(None) };
        Ok(self.order_in(&reading, activity, order.value())?.map(|order| order.key))
    }

    /// Reads an activity with all its orders. Reads as much as the activity is large.
    pub(super) fn returning(&self, activity: ActivityId) -> Result<ReturningActivity, EmbeddedError> {
        let reading = self.begin_read()?;
        let Some((left_in, content)) = self.content_in(&reading, activity)? else {
            return Err(self.damaged(format!("activity {activity} is missing")));
        };
        let table = self.check(reading.open_table(ORDERS))?;
        let mut orders = Vec::new();
        let of_activity = (activity.value(), left_in.0, 0)..=(activity.value(), left_in.0, u64::MAX);
        for row in self.check(table.range(of_activity))? {
            let (_, content) = self.check(row)?;
            let (number, order) = content.value();
            orders.push((number, self.decode::<Order>(order)?));
        }
        orders.sort_unstable_by_key(|(number, _)| *number);
        let orders = orders.into_iter().map(|(_, order)| order);
        content
            .returning(left_in, orders)
            .map_err(|error| self.damaged(format!("activity {activity}: {error}")))
    }

    /// The full state of an activity.
    pub(super) fn inspect(&self, activity: ActivityId) -> Result<Option<Inspection>, EmbeddedError> {
        let mut machine = StateMachine::new(LedgerRole::Single);
        machine.set_archived(self.stored()?);
        machine.bring_back(self.returning(activity)?);
        Ok(machine.inspect(activity))
    }

    /// Writes a copy into another directory.
    pub(super) fn copy(&self, to: &Path) -> Result<(), EmbeddedError> {
        let copy = Self::open(to)?;
        let writing = copy.begin_write()?;
        let reading = self.begin_read()?;
        let copied = copy_table(ACTIVITIES, &reading, &writing)
            .and_then(|()| copy_table(ORDERS, &reading, &writing))
            .and_then(|()| copy_table(BUYERS, &reading, &writing))
            .and_then(|()| copy_table(OWNERS, &reading, &writing))
            .and_then(|()| copy_table(PAYMENTS, &reading, &writing));
        copied.map_err(|error| self.damaged(format!("it cannot be copied: {error:?}")))?;
        copy.check(writing.commit())
    }

    fn content_in(
        &self,
        reading: &ReadTransaction,
        activity: ActivityId,
    ) -> Result<Option<(BatchId, ArchivedActivity)>, EmbeddedError> {
        let activities = self.check(reading.open_table(ACTIVITIES))?;
        let Some(row) = self.check(activities.get(activity.value()))? else { return Ok(None) };
        let (left_in, _, content) = row.value();
        Ok(Some((BatchId(left_in), self.decode(content)?)))
    }

    fn order_in(
        &self,
        reading: &ReadTransaction,
        activity: u64,
        id: u64,
    ) -> Result<Option<Order>, EmbeddedError> {
        let activities = self.check(reading.open_table(ACTIVITIES))?;
        let Some(row) = self.check(activities.get(activity))? else { return Ok(None) };
        let (left_in, ..) = row.value();
        let orders = self.check(reading.open_table(ORDERS))?;
        let Some(order) = self.check(orders.get((activity, left_in, id)))? else { return Ok(None) };
        Ok(Some(self.decode(order.value().1)?))
    }

    fn decode<T: Wire>(&self, bytes: &[u8]) -> Result<T, EmbeddedError> {
        wire::decode(bytes).map_err(|error| self.damaged(error.to_string()))
    }

    fn id<T>(&self, id: Option<T>) -> Result<T, EmbeddedError> {
        id.ok_or_else(|| self.damaged("an id is out of range"))
    }

    fn begin_read(&self) -> Result<ReadTransaction, EmbeddedError> {
        self.check(self.database.begin_read())
    }

    fn begin_write(&self) -> Result<WriteTransaction, EmbeddedError> {
        self.check(self.database.begin_write())
    }

    fn check<T, E: Into<redb::Error>>(&self, result: Result<T, E>) -> Result<T, EmbeddedError> {
        result.map_err(|error| EmbeddedError::of_store(&self.path, "used", error))
    }

    pub(super) fn damaged(&self, reason: impl Into<String>) -> EmbeddedError {
        EmbeddedError::damaged(&self.path, reason)
    }
}
