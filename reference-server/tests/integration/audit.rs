//! The audit trail: every operator change adds a row, and tampering with a row is detectable.

use flashsale_core::embedded::EmbeddedCatalogue;
use flashsale_testkit::client::Answer;
use hyper::{Method, StatusCode};
use redb::{Database, ReadableDatabase as _, TableDefinition};
use reference_server::{
    app::{App, AppError},
    config::{Config, OperatorRole},
    runtime::background::Background,
};
use serde_json::{Value, json};

use crate::shop::{Shop, catalogue, expect, token};

const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");

/// Reads all rows of the trail, page by page.
async fn trail(shop: &Shop) -> Vec<Value> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/audit?limit=7{after}");
        let page = shop.operate(OperatorRole::Auditor, Method::GET, &path, None).await;
        assert_eq!(page.status, StatusCode::OK, "{page}");
        rows.extend(page.body["items"].as_array().unwrap().iter().cloned());
        match page.body["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return rows,
        }
    }
}

/// A call, the role that makes it, and the audit row that it must add.
struct Call {
    role: OperatorRole,
    method: Method,
    path: String,
    body: Option<Value>,
    leaves: (&'static str, String),
}

fn call(
    role: OperatorRole,
    method: Method,
    path: impl Into<String>,
    body: Option<Value>,
    action: &'static str,
    subject: impl Into<String>,
) -> Call {
    Call { role, method, path: path.into(), body, leaves: (action, subject.into()) }
}

/// Returns every mutation of the operations listener, in an order in which each succeeds.
fn mutations(open: &str, paid: &str) -> Vec<Call> {
    use OperatorRole::{Creator, Operator, Reviewer};
    let price = json!({ "amount": 5900, "currency": "CNY" });
    let offer = |sku: &str| json!({ "sku_id": sku, "price": price, "units": 5, "strategy": "order_time" });
    let window = json!({ "starts_at": "2020-01-01T00:00:00Z", "ends_at": "2099-01-01T00:00:00Z" });
    let sku = json!({ "id": "70", "product_id": "70", "name": "s", "list_price": price });
    let activity = json!({
        "id": "70", "name": "a", "starts_at": window["starts_at"], "ends_at": window["ends_at"],
        "offers": [offer("70")],
    });
    let limits = json!({ "limits": [{ "subject": "user", "per": "offer", "max": 2 }] });
    let adjustment = json!({ "adjustment_id": "a1", "delta": 3, "reason": "more came" });
    let imported = json!({ "products": [{ "id": "71", "name": "imported" }] });
    let (post, patch, put, delete) = (Method::POST, Method::PATCH, Method::PUT, Method::DELETE);
    let (one, offers) = ("/v1/activities/70", "/v1/activities/70/offers");
    let step = |role, step: &str, action| {
        call(role, Method::POST, format!("{one}/{step}"), None, action, "activity/70")
    };
    vec![
        call(
            Creator,
            post.clone(),
            "/v1/products",
            Some(json!({ "id": "70", "name": "p" })),
            "product.created",
            "product/70",
        ),
        call(Creator, post.clone(), "/v1/skus", Some(sku), "sku.created", "sku/70"),
        call(Creator, post.clone(), "/v1/activities", Some(activity), "activity.created", "activity/70"),
        call(Creator, patch.clone(), one, Some(json!({ "name": "b" })), "activity.changed", "activity/70"),
        call(Creator, post.clone(), offers, Some(offer("11")), "activity.changed", "activity/70"),
        call(
            Creator,
            patch.clone(),
            format!("{offers}/11"),
            Some(json!({ "units": 6 })),
            "activity.changed",
            "activity/70",
        ),
        call(Creator, delete.clone(), format!("{offers}/11"), None, "activity.changed", "activity/70"),
        step(Creator, "submit", "activity.submitted"),
        step(Reviewer, "reject", "activity.rejected"),
        step(Creator, "submit", "activity.submitted"),
        step(Reviewer, "approve", "activity.approved"),
        step(Operator, "publish", "activity.published"),
        call(
            Operator,
            patch.clone(),
            one,
            Some(json!({ "ends_at": "2098-01-01T00:00:00Z" })),
            "activity.changed",
            "activity/70",
        ),
        call(Operator, patch, format!("{offers}/70"), Some(limits), "activity.changed", "activity/70"),
        call(
            Operator,
            post.clone(),
            format!("{offers}/70/adjustments"),
            Some(adjustment),
            "offer.adjusted",
            "offer/70/70",
        ),
        step(Operator, "pause", "activity.paused"),
        step(Operator, "resume", "activity.resumed"),
        step(Operator, "end", "activity.ended"),
        step(Operator, "archive", "activity.archived"),
        call(
            Operator,
            put.clone(),
            "/v1/kill-switch",
            Some(json!({ "on": true, "reason": "x" })),
            "kill_switch.on",
            "kill_switch",
        ),
        call(
            Operator,
            put,
            "/v1/kill-switch",
            Some(json!({ "on": false, "reason": "y" })),
            "kill_switch.off",
            "kill_switch",
        ),
        call(
            Operator,
            post.clone(),
            format!("/v1/orders/{open}/cancel"),
            None,
            "order.cancelled",
            format!("order/{open}"),
        ),
        call(
            Operator,
            post.clone(),
            format!("/v1/orders/{paid}/refund"),
            Some(json!({ "units_returned": false, "reason": "z" })),
            "order.refunded",
            format!("order/{paid}"),
        ),
        call(Operator, delete, "/v1/users/1/name", None, "user.name_erased", "user/1"),
        call(Operator, post, "/v1/import", Some(imported), "product.created", "product/71"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mutation_is_audited_and_requires_its_role() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let (open, paid) = (buyer.buy(11, 1).await, buyer.buy(11, 1).await);
    let payment = buyer.pay(&paid).await;
    let capture = format!("/sandbox/payments/{payment}/capture");
    assert_eq!(shop.call(Method::POST, &capture, &[], None).await.status, StatusCode::OK);

    for Call { role, method, path, body, leaves } in mutations(&open, &paid) {
        let before = trail(&shop).await.len();
        for other in OperatorRole::ALL.into_iter().filter(|other| *other != role) {
            let refused: Answer = shop.operate(other, method.clone(), &path, body.as_ref()).await;
            expect(&refused, 403, "forbidden");
        }
        assert_eq!(trail(&shop).await.len(), before, "{method} {path}: rejected calls add no row");
        let answer = shop.operate(role, method.clone(), &path, body.as_ref()).await;
        assert!(answer.status.is_success(), "{method} {path}: {answer}");
        let rows = trail(&shop).await;
        let row = rows[before..]
            .iter()
            .find(|row| row["action"] == leaves.0 && row["subject"] == leaves.1)
            .unwrap_or_else(|| panic!("{method} {path} left no {leaves:?}: {:?}", &rows[before..]));
        assert_eq!(row["actor"], format!("test {}", role.as_str()));
        assert!(row["reason"].is_string() && row["at"].is_string(), "{row}");
    }
    // Changes to the ledger add their own rows: one per change, not one per lane.
    let rows = trail(&shop).await;
    let amended = rows.iter().filter(|row| row["action"] == "activity.amended").count();
    assert_eq!(amended, 5, "window, limits, pause, resume, end");
    for pair in rows.windows(2) {
        assert_eq!(pair[1]["previous"], pair[0]["hash"]);
    }
    let check = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/audit/verification", None).await;
    assert_eq!((&check.body["rows"], &check.body["broken"]), (&json!(rows.len()), &Value::Null));
    assert_eq!(check.body["hash"], rows.last().unwrap()["hash"]);
    expect(&shop.operate(OperatorRole::Creator, Method::GET, "/v1/audit", None).await, 403, "forbidden");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_tampered_with_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::on(directory.path()).await;
    shop.import(&catalogue()).await;
    shop.close().await;
    {
        let database = Database::open(directory.path().join(EmbeddedCatalogue::FILE)).unwrap();
        let read = || database.begin_read().unwrap().open_table(AUDIT).unwrap();
        let mut row = read().get(4).unwrap().unwrap().value().to_vec();
        let place = row.len() - 80;
        row[place] ^= 1;
        let transaction = database.begin_write().unwrap();
        transaction.open_table(AUDIT).unwrap().insert(4, row.as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    let run = async |arguments: Vec<String>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_reference-server"));
        command.arg("audit").args(arguments).env("NO_COLOR", "1");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let data = directory.path().to_str().unwrap().to_owned();
    let (code, printed) = run(vec!["--verify".into(), "--data".into(), data]).await;
    assert!(code == Some(1) && printed.contains("BROKEN row 4 was changed"), "{printed}");
    // A running server reports the same and keeps selling.
    let shop = Shop::on(directory.path()).await;
    let (server, token) = (shop.operations.to_string(), token(OperatorRole::Auditor));
    let (code, printed) =
        run(vec!["--verify".into(), "--server".into(), server, "--token".into(), token]).await;
    assert!(code == Some(1) && printed.contains("BROKEN row 4 was changed"), "{printed}");
    shop.buyer(1).await.buy(11, 1).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_buyer_name_is_nowhere_in_the_data() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::on(directory.path()).await;
    shop.import(&catalogue()).await;
    let order = shop.buyer(31_415).await.buy(11, 1).await;
    let erased = shop.operate(OperatorRole::Operator, Method::DELETE, "/v1/users/31415/name", None).await;
    assert_eq!((erased.status, &erased.body["name"]), (StatusCode::OK, &Value::Null));
    shop.close().await;
    let mut files = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap().filter_map(Result::ok) {
        if entry.file_type().unwrap().is_file() {
            let content = std::fs::read(entry.path()).unwrap();
            let name = "Buyer 31415".as_bytes();
            assert!(!content.windows(name.len()).any(|bytes| bytes == name), "in {:?}", entry.path());
            files += 1;
        }
    }
    assert!(files >= 2, "expected ledger and catalogue files, with order {order}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_without_its_catalogue_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let shop = Shop::on(directory.path()).await;
    shop.import(&catalogue()).await;
    shop.close().await;
    let file = directory.path().join(EmbeddedCatalogue::FILE);
    let aside = directory.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();

    let mut config = Config::default();
    config.storage.directory = directory.path().to_owned();
    let refused = tokio::task::spawn_blocking(move || {
        let background = Background::start().unwrap();
        let clock = std::sync::Arc::new(flashsale_core::domain::SystemClock);
        background.block_on(App::open(&config, clock, background.spawner().clone())).map(drop)
    });
    let refused: AppError = refused.await.unwrap().unwrap_err();
    let message = refused.to_string();
    assert!(message.contains("(1, 2)") && message.contains("backup"), "{message}");

    std::fs::remove_file(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    let shop = Shop::on(directory.path()).await;
    shop.buyer(1).await.buy(11, 1).await;
    shop.close().await;
}
