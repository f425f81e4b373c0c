//! Lost connections and crashes of the server.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{
    num::NonZeroU16,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flashsale_core::{
    domain::{
        ActivityId, Idempotency, Key, Money, Nonce, OfferTerms, OrderId, OrderKey, Quantity, SkuId, Strategy,
        Subjects, SystemClock, Timestamp, UserId, Window,
    },
    ledger::{
        Lane, LedgerCalls as _, LedgerError, Outcome, Reserve, ReserveMode, Terms, Timing, rows::RowLedger,
    },
};
use flashsale_mysql::{Database, MySqlRows, Options};
use flashsale_testkit::mariadb::{Durability, MariaDb};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};
use tokio::task::JoinSet;

use crate::schemas::Schema;

const UNITS: u32 = 1_000_000;

fn lane() -> Lane {
    Lane::first(ActivityId::new(7).unwrap())
}

fn terms() -> Arc<Terms> {
    let price = Money::new(9_900, "CNY".parse().unwrap()).unwrap();
    let hold = Some(Duration::from_secs(900));
    let offer = OfferTerms::new(SkuId::new(11).unwrap(), price, UNITS, Strategy::PreDeduct, hold).unwrap();
    let window = Window::new(Timestamp::EPOCH, Timestamp::MAX).unwrap();
    Arc::new(Terms::new(lane().activity, window, NonZeroU16::MIN, Timing::default(), vec![offer]).unwrap())
}

fn key(buyer: u64) -> OrderKey {
    let user = UserId::new(1_000_000 + buyer).unwrap();
    OrderKey { activity: lane().activity, user, id: OrderId::new(1 + buyer).unwrap() }
}

fn requests(buyers: Range<u64>) -> Vec<Reserve> {
    let request = |buyer| Reserve {
        order: key(buyer).id,
        user: key(buyer).user,
        sku: SkuId::new(11).unwrap(),
        quantity: Quantity::ONE,
        idempotency: Idempotency { key: Key(buyer.into()), nonce: Nonce(buyer) },
        subjects: Subjects::default(),
        mode: ReserveMode::NewOrder,
    };
    buyers.map(request).collect()
}

fn ledger(database: Database) -> Arc<RowLedger<MySqlRows>> {
    Arc::new(RowLedger::single(Arc::new(MySqlRows::new(database)), Arc::new(SystemClock)))
}

/// Places an order for each buyer, and returns them.
async fn order(ledger: &RowLedger<MySqlRows>, buyers: Range<u64>) -> Result<Vec<OrderKey>, LedgerError> {
    let answers = ledger.reserve(lane(), None, requests(buyers.clone())).await?;
    assert_eq!(answers.outcomes.len() as u64, buyers.end - buyers.start);
    for outcome in &answers.outcomes {
        assert!(matches!(outcome, Outcome::Reserved { .. } | Outcome::Replayed { .. }), "{outcome:?}");
    }
    Ok(buyers.map(key).collect())
}

#[tokio::test]
async fn lost_connections_are_replaced() {
    let schema = Schema::empty().await;
    let ledger = ledger(schema.database());
    ledger.open(terms()).await.unwrap();
    let mut admin = schema.connection().await;
    for round in 0..20 {
        order(&ledger, round * 10..round * 10 + 10).await.unwrap();
        let connections: Vec<i64> = sqlx::query_scalar(
            "SELECT CAST(id AS SIGNED) FROM information_schema.processlist
             WHERE db = DATABASE() AND id <> CONNECTION_ID()",
        )
        .fetch_all(&mut admin)
        .await
        .unwrap();
        for connection in connections {
            // It may have ended by itself.
            let _ = admin.execute(AssertSqlSafe(format!("KILL {connection}"))).await;
        }
    }
    let stock = ledger.stock(lane().activity, SkuId::new(11).unwrap()).await.unwrap().unwrap();
    assert_eq!((stock.available, stock.held), (i64::from(UNITS) - 200, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answered_order_is_lost_by_a_crash_of_the_server() {
    const BUYERS: u64 = 4;
    if std::env::var_os("FLASHSALE_TEST_MYSQL_URL").is_some() {
        return flashsale_testkit::say("NOT RUN: crashes of a server that is not ours");
    }
    let mut server = tokio::task::spawn_blocking(|| MariaDb::start_private(Durability::Full)).await.unwrap();
    let mut connection = MySqlConnection::connect(server.url()).await.unwrap();
    connection.execute("CREATE DATABASE shop").await.unwrap();
    let options = Options::new(&format!("{}/shop", server.url())).unwrap();
    let ledger = ledger(Database::new(&options));
    Database::new(&options).migrate().await.unwrap();
    ledger.open(terms()).await.unwrap();
    let mut answered = Vec::new();
    for round in 0..3 * u64::from(flashsale_testkit::scale()) {
        let (enough, mut counted) = tokio::sync::mpsc::unbounded_channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let mut buyers = JoinSet::new();
        for buyer in 0..BUYERS {
            let (ledger, enough, is_over) = (Arc::clone(&ledger), enough.clone(), Arc::clone(&is_over));
            buyers.spawn(async move {
                let mut answered = Vec::new();
                let first = (round * BUYERS + buyer) * 20_000;
                let mut next = first;
                while !is_over.load(Ordering::Relaxed) {
                    // After an error, the same buyers ask again.
                    let Ok(orders) = order(&ledger, next..next + 5).await else { continue };
                    next += 5;
                    answered.extend(orders);
                    // Nobody counts any more after the crash.
                    let _ = enough.send(());
                }
                answered
            });
        }
        // The server dies in the middle of the commits that follow these.
        for _ in 0..20 {
            counted.recv().await.unwrap();
        }
        server = tokio::task::spawn_blocking(move || {
            server.crash();
            server
        })
        .await
        .unwrap();
        is_over.store(true, Ordering::Relaxed);
        answered.extend(buyers.join_all().await.into_iter().flatten());
    }
    assert!(answered.len() >= 300);
    for key in &answered {
        assert!(ledger.order(*key).await.unwrap().is_some(), "{key:?} was answered and is lost");
    }
    let stock = ledger.stock(lane().activity, SkuId::new(11).unwrap()).await.unwrap().unwrap();
    assert_eq!(stock.available + stock.held, i64::from(UNITS));
    assert!(stock.held >= i64::try_from(answered.len()).unwrap());
}
