//! Several processes may bring one schema up to date at once, and a crash may interrupt one.

use sqlx::Executor as _;
use tokio::task::JoinSet;

use crate::schemas::Schema;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_migrate_at_once() {
    let schema = Schema::unmigrated().await;
    let mut nodes = JoinSet::new();
    for _ in 0..8 {
        let database = schema.database();
        nodes.spawn(async move { database.migrate().await.unwrap() });
    }
    nodes.join_all().await;
    let applied: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM _sqlx_migrations WHERE success")
        .fetch_one(&mut schema.connection().await)
        .await
        .unwrap();
    assert_eq!(applied, 2);
}

#[tokio::test]
async fn an_interrupted_migration_is_finished_by_the_next_one() {
    let schema = Schema::unmigrated().await;
    schema.database().migrate().await.unwrap();
    let mut connection = schema.connection().await;
    connection.execute("UPDATE _sqlx_migrations SET success = FALSE").await.unwrap();
    connection.execute("DROP TABLE outbox").await.unwrap();
    schema.database().migrate().await.unwrap();
    let entries: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM outbox").fetch_one(&mut connection).await.unwrap();
    assert_eq!(entries, 0);
}

#[tokio::test]
async fn a_schema_of_a_later_version_is_used_as_it_is() {
    let schema = Schema::unmigrated().await;
    schema.database().migrate().await.unwrap();
    let mut connection = schema.connection().await;
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (999, 'later', TRUE, '', 0)";
    connection.execute(later).await.unwrap();
    schema.database().migrate().await.unwrap();
}
