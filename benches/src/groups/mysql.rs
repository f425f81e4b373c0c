//! Figures of a sale in MariaDB at full durability. The references use the same server, the same table and the
//! same rows: one transaction per order, and bulk inserts with one update of the stock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use flashsale_core::{
    domain::SystemClock,
    ledger::{Consumer, LedgerCalls as _, Outcome, rows::RowLedger},
    service::{Batcher, BatcherOptions},
};
use flashsale_mysql::{Database, MySqlRows, Options};
use flashsale_testkit::mariadb::{Durability, MariaDb};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, Row as _, SqlSafeStr as _,
    mysql::MySqlRow,
};
use tokio::{
    runtime::{Handle, Runtime},
    task::JoinSet,
};

use super::{data_root, temp_directory};
use crate::{
    Failure, machine,
    report::{count, figure, median, progress, ratio},
    sale,
};

/// The most orders of one run, each by another user.
const ORDERS: u64 = 2_000_000;

/// The longest duration of one run.
const SPAN: Duration = Duration::from_secs(5);

/// Runs of each load, in turn; the medians are printed.
const RUNS: usize = 3;

/// Concurrent buyers.
const WAITING: u64 = 4_096;

/// Connections that place one order per transaction.
const CONNECTIONS: u64 = 16;

/// Orders in one transaction of the bulk reference: the most that ours takes.
const BULK: usize = 2_000;

/// Orders in one statement of the bulk reference, as in ours.
const STATEMENT: usize = 512;

/// The columns of an order.
const COLUMNS: usize = 17;

/// Measures and prints the figures.
///
/// # Errors
/// If the server cannot be used, or an order is declined.
pub fn run() -> Result<(), Failure> {
    let root = data_root()?;
    machine::describe(&root)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let home = temp_directory(&root)?;
    let server = MariaDb::start_at(home.path(), Durability::Full);
    let (mut ours, mut cpu, mut per_commit) = (vec![], vec![], vec![]);
    let (mut singles, mut bulks) = (vec![], vec![]);
    for run in 1..=RUNS {
        let url = format!("{}/figures_{run}", server.url());
        runtime.block_on(create(&server, &format!("figures_{run}")))?;
        progress(format!("run {run} of {RUNS}: durable orders from {WAITING} concurrent buyers"));
        let measured = take_orders(&runtime, &url)?;
        ours.push(measured.orders / measured.wall.as_secs_f64());
        cpu.push(measured.cpu.as_secs_f64() * 1e6 / measured.orders);
        per_commit.push(measured.orders / measured.commits);
        progress(format!("run {run} of {RUNS}: {BULK} orders per transaction in bulk"));
        bulks.push(runtime.block_on(bulk(&url))?);
        progress(format!("run {run} of {RUNS}: one transaction per order from {CONNECTIONS} connections"));
        singles.push(runtime.block_on(single(&url))?);
    }
    let (ours, single, bulk) = (median(ours), median(singles), median(bulks));
    figure("mysql.orders", ours, "orders/s");
    figure("mysql.cpu_per_order", median(cpu), "us");
    figure("mysql.orders_per_commit", median(per_commit), "orders");
    figure("mysql.single", single, "orders/s");
    figure("mysql.bulk", bulk, "orders/s");
    ratio("mysql.batch_vs_single", ours / single);
    ratio("mysql.batch_vs_bulk", ours / bulk);
    Ok(())
}

/// The measurements of a run.
#[derive(Clone, Copy, Debug)]
struct Measured {
    orders: f64,
    commits: f64,
    wall: Duration,
    /// User and system time of this process, including the buyers.
    cpu: Duration,
}

async fn create(server: &MariaDb, name: &str) -> Result<(), Failure> {
    let mut connection = MySqlConnection::connect(server.url()).await?;
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
    Ok(())
}

/// Places orders through a batcher.
fn take_orders(runtime: &Runtime, url: &str) -> Result<Measured, Failure> {
    runtime.block_on(async {
        let database = Database::new(&Options::new(url)?);
        database.migrate().await?;
        let rows = Arc::new(MySqlRows::new(database));
        let ledger = Arc::new(RowLedger::single(rows, Arc::new(SystemClock)).with_max_unread(ORDERS * 2));
        ledger.open(sale::terms(u32::try_from(ORDERS)?)).await?;
        // As in the server, somebody reads the outbox, so it is written.
        ledger.register(&Consumer::new("figures")).await?;
        let options = BatcherOptions { reserve_room: 1 << 20, ..BatcherOptions::default() };
        let batcher = Arc::new(Batcher::new(ledger, sale::lane(), options, &Handle::current()));
        let next = Arc::new(AtomicU64::new(0));
        let (began, cpu) = (Instant::now(), machine::cpu_time());
        let mut buyers = JoinSet::<Result<(), Failure>>::new();
        for _ in 0..WAITING {
            let (batcher, next) = (Arc::clone(&batcher), Arc::clone(&next));
            buyers.spawn(async move {
                while began.elapsed() < SPAN {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    match batcher.reserve(sale::request(n)).await? {
                        (_, Outcome::Reserved { .. }) => {}
                        (_, outcome) => return Err(format!("buyer {n} has no order: {outcome:?}").into()),
                    }
                }
                Ok(())
            });
        }
        while let Some(ended) = buyers.join_next().await {
            ended??;
        }
        let (wall, cpu) = (began.elapsed(), machine::cpu_time() - cpu);
        batcher.drain().await;
        let mut connection = MySqlConnection::connect(url).await?;
        let commits: i64 = sqlx::query_scalar("SELECT COUNT(DISTINCT placed_at) FROM orders")
            .fetch_one(&mut connection)
            .await?;
        let orders = count(next.load(Ordering::Relaxed));
        Ok(Measured { orders, commits: count(u64::try_from(commits)?), wall, cpu })
    })
}

/// A table like that of orders, with one stock row, and the rows that were written before.
async fn copy(connection: &mut MySqlConnection) -> Result<Vec<MySqlRow>, Failure> {
    let rows =
        sqlx::query("SELECT * FROM orders ORDER BY number LIMIT 200000").fetch_all(&mut *connection).await?;
    connection.execute("DROP TABLE IF EXISTS copied, stock").await?;
    connection.execute("CREATE TABLE copied LIKE orders").await?;
    connection.execute("CREATE TABLE stock (sku_id BIGINT UNSIGNED PRIMARY KEY, available BIGINT)").await?;
    connection.execute("INSERT INTO stock VALUES (1, 1000000000)").await?;
    Ok(rows)
}

/// Inserts `rows` as they are, with numbers of their own.
async fn insert(connection: &mut MySqlConnection, first: u64, rows: &[MySqlRow]) -> Result<(), Failure> {
    let places = format!("({})", vec!["?"; COLUMNS].join(","));
    let statement = format!("INSERT INTO copied VALUES {}", vec![places; rows.len()].join(","));
    let mut query = sqlx::query(AssertSqlSafe(statement).into_sql_str());
    for (number, row) in (first..).zip(rows) {
        query = query.bind(row.try_get::<u64, _>(0)?).bind(row.try_get::<u16, _>(1)?).bind(number);
        query = query.bind(row.try_get::<u64, _>(3)?).bind(row.try_get::<u64, _>(4)?);
        query = query.bind(row.try_get::<u64, _>(5)?).bind(row.try_get::<u32, _>(6)?);
        query = query.bind(row.try_get::<u64, _>(7)?).bind(row.try_get::<Vec<u8>, _>(8)?);
        query = query.bind(row.try_get::<String, _>(9)?).bind(row.try_get::<PrimitiveDateTime, _>(10)?);
        query = query.bind(row.try_get::<Option<PrimitiveDateTime>, _>(11)?);
        query = query.bind(row.try_get::<Option<bool>, _>(12)?).bind(row.try_get::<Option<Vec<u8>>, _>(13)?);
        query = query.bind(row.try_get::<Option<u64>, _>(14)?).bind(row.try_get::<Option<u64>, _>(15)?);
        query = query.bind(row.try_get::<Vec<u8>, _>(16)?);
    }
    query.execute(connection).await?;
    Ok(())
}

type PrimitiveDateTime = sqlx::types::time::PrimitiveDateTime;

async fn take_stock(connection: &mut MySqlConnection, units: usize) -> Result<(), Failure> {
    let statement = "UPDATE stock SET available = available - ? WHERE sku_id = 1 AND available >= ?";
    let units = units as u64;
    sqlx::query(statement).bind(units).bind(units).execute(connection).await?;
    Ok(())
}

/// Orders per second of bulk inserts.
async fn bulk(url: &str) -> Result<f64, Failure> {
    let mut connection = MySqlConnection::connect(url).await?;
    let rows = copy(&mut connection).await?;
    let (began, mut orders) = (Instant::now(), 0);
    while began.elapsed() < SPAN {
        for batch in rows.chunks_exact(BULK) {
            let mut transaction = connection.begin().await?;
            for part in batch.chunks(STATEMENT) {
                insert(&mut transaction, orders, part).await?;
                orders += part.len() as u64;
            }
            take_stock(&mut transaction, batch.len()).await?;
            transaction.commit().await?;
            if began.elapsed() >= SPAN {
                break;
            }
        }
    }
    Ok(count(orders) / began.elapsed().as_secs_f64())
}

/// Orders per second of one transaction per order.
async fn single(url: &str) -> Result<f64, Failure> {
    let mut connection = MySqlConnection::connect(url).await?;
    let rows = Arc::new(copy(&mut connection).await?);
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut buyers = JoinSet::<Result<(), Failure>>::new();
    for _ in 0..CONNECTIONS {
        let (mut connection, rows) = (MySqlConnection::connect(url).await?, Arc::clone(&rows));
        let next = Arc::clone(&next);
        buyers.spawn(async move {
            while began.elapsed() < SPAN {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let row = usize::try_from(number)? % rows.len();
                let mut transaction = connection.begin().await?;
                take_stock(&mut transaction, 1).await?;
                insert(&mut transaction, number, &rows[row..=row]).await?;
                transaction.commit().await?;
            }
            Ok(())
        });
    }
    while let Some(ended) = buyers.join_next().await {
        ended??;
    }
    Ok(count(next.load(Ordering::Relaxed)) / began.elapsed().as_secs_f64())
}
