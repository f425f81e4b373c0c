//! The conformance suite of worker leases, and many processes at once.

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use flashsale_core::{
    conformance::{self, Options, WorkerLeaseFactory, WorkerLeaseTestControl, WorkerLeaseUnderTest},
    domain::Timestamp,
    snowflake::{HolderId, LeaseError, WorkerLease},
};
use flashsale_mysql::MySqlLease;
use sqlx::Executor as _;
use tokio::task::JoinSet;

use crate::schemas::Schema;

struct Leases;

/// One process's leases in a schema.
struct Process {
    schema: Arc<Schema>,
    workers: RangeInclusive<u16>,
}

impl Process {
    fn leases(&self) -> MySqlLease {
        MySqlLease::new(self.schema.database(), self.workers.clone())
    }

    fn under_test(self) -> WorkerLeaseUnderTest {
        WorkerLeaseUnderTest { leases: Arc::new(self.leases()), probe: Arc::new(self) }
    }
}

#[async_trait]
impl WorkerLeaseFactory for Leases {
    fn name(&self) -> String {
        "leases in a database".to_owned()
    }

    async fn fresh(&self, workers: RangeInclusive<u16>) -> WorkerLeaseUnderTest {
        Process { schema: Arc::new(Schema::empty().await), workers }.under_test()
    }
}

#[async_trait]
impl WorkerLeaseTestControl for Process {
    async fn another_process(&self) -> Arc<dyn WorkerLease> {
        Arc::new(self.leases())
    }

    async fn restart(&self) -> Option<WorkerLeaseUnderTest> {
        let (schema, workers) = (Arc::clone(&self.schema), self.workers.clone());
        Some(Self { schema, workers }.under_test())
    }
}

#[test]
fn leases_conform() {
    conformance::run_worker_lease(&(Arc::new(Leases) as _), &Options::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_starts_at_once_gets_a_worker_id_each() {
    let schema = Schema::empty().await;
    let (now, until) = (Timestamp::from_millis(10), Timestamp::from_millis(20));
    let mut fleet = JoinSet::new();
    // Each process asks twice at once, as after a lost reply.
    for process in 0..32_u128 {
        let leases = MySqlLease::new(schema.database(), 0..=31);
        fleet.spawn(async move {
            let (first, second) = tokio::join!(
                leases.acquire(HolderId(process), now, until),
                leases.acquire(HolderId(process), now, until)
            );
            let (first, second) = (first.unwrap(), second.unwrap());
            assert_eq!(first, second);
            first.worker
        });
    }
    let workers: BTreeSet<u16> = fleet.join_all().await.into_iter().collect();
    assert_eq!(workers, (0..=31).collect());
    let late = MySqlLease::new(schema.database(), 0..=31);
    let refused = late.acquire(HolderId(32), now, until).await.unwrap_err();
    assert!(matches!(refused, LeaseError::NoWorker { retry_at, .. } if retry_at == until), "{refused}");
}

#[tokio::test]
async fn a_database_that_does_not_work_leaves_the_outcome_unknown() {
    let schema = Schema::unmigrated().await;
    let leases = MySqlLease::new(schema.database(), 0..=1);
    let acquire = || leases.acquire(HolderId(1), Timestamp::EPOCH, Timestamp::from_millis(20));
    let error = acquire().await.unwrap_err();
    assert!(!error.is_definite(), "{error}");
    schema.database().migrate().await.unwrap();
    let lease = acquire().await.unwrap();
    // What no program of ours writes is refused by the schema.
    let mut connection = schema.connection().await;
    assert!(connection.execute("UPDATE worker_lease SET ends_at = 0, begins_at = 1").await.is_err());
    assert_eq!(acquire().await.unwrap(), lease);
}
