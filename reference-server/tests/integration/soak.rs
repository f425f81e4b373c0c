//! A sale with everything that buyers may do. The monitor never finds a violation.

use std::time::Duration;

use flashsale_core::{admission::Mode, domain::OrderStatus};
use futures_util::future::join_all;
use hyper::{Method, StatusCode};
use reference_server::{config::OperatorRole, monitoring::invariants::Invariant};
use serde_json::{Value, json};

use crate::shop::{Buyer, Shop, catalogue};

const ROUNDS: u64 = 3;
/// Buyers per round. Demand exceeds stock, so that buckets run out and units move between them.
const BUYERS: u64 = 24;
/// Longer than the hold time, and than refunds may be due.
const LATER: Duration = Duration::from_secs(61);

/// What a buyer does with an order.
#[derive(Clone, Copy)]
enum Does {
    Pays,
    PaysTwice,
    PaysAndIsRefunded { units_returned: bool },
    PaysTooLate,
    FailsToPay,
    Cancels,
    CancelsWhilePaying,
    Nothing,
}

const ALL: [Does; 9] = [
    Does::Pays,
    Does::PaysTwice,
    Does::PaysAndIsRefunded { units_returned: true },
    Does::PaysAndIsRefunded { units_returned: false },
    Does::PaysTooLate,
    Does::FailsToPay,
    Does::Cancels,
    Does::CancelsWhilePaying,
    Does::Nothing,
];

/// An order that is left to expire, and the path of its late capture, if any.
struct Left {
    user: u64,
    order: String,
    late: Option<String>,
}

/// Activity 1 in two buckets, with offers 11 (pre-deduct, late captures retake) and 13 (pay-time).
fn sale() -> Value {
    let mut document = catalogue();
    let activity = &mut document["activities"][0];
    activity["buckets"] = json!(2);
    let mut offers = [activity["offers"][0].take(), activity["offers"][2].take()];
    offers[0]["units"] = json!(24);
    offers[0]["late_capture"] = json!("retake");
    offers[1]["units"] = json!(6);
    activity["offers"] = json!(offers);
    document
}

/// Checks that no invariant is broken.
async fn look(shop: &Shop) {
    let app = &shop.app;
    app.monitor.look(&*app.inspector, &app.sales, || app.clock.now()).await.unwrap();
    assert_eq!(app.monitor.broken(), Invariant::ALL.map(|invariant| (invariant, 0)));
}

/// Checks the invariants after `work`, while other buyers continue.
async fn then_look<T>(shop: &Shop, work: impl Future<Output = T>) -> T {
    let done = work.await;
    look(shop).await;
    done
}

/// Places an order, if units are left, and acts on it.
async fn visit(shop: &Shop, user: u64, does: Does) -> Option<Left> {
    let buyer = shop.buyer(user).await;
    let sku = if user.is_multiple_of(4) { 13 } else { 11 };
    let placed = buyer.order(sku, 1 + u32::try_from(user % 2).unwrap()).await;
    if placed.status != StatusCode::CREATED {
        assert_eq!(placed.code(), "sold_out", "{placed}");
        return None;
    }
    let order = placed.text("order_id").to_owned();
    let left = |late| Some(Left { user, order: order.clone(), late });
    match does {
        Does::Nothing => return left(None),
        Does::Cancels => {
            cancel(&buyer, &order).await;
            return None;
        }
        _ => {}
    }
    let opened = buyer.call(Method::POST, &format!("/v1/orders/{order}/payment")).await;
    if opened.status != StatusCode::CREATED {
        assert_eq!((sku, opened.code()), (13, "sold_out"), "{opened}");
        return left(None);
    }
    let payment = opened.text("payment_id");
    let (capture, fail) =
        (format!("/sandbox/payments/{payment}/capture"), format!("/sandbox/payments/{payment}/fail"));
    match does {
        Does::PaysTooLate => return left(Some(capture)),
        Does::FailsToPay => {
            report(shop, &fail).await;
            return left(None);
        }
        Does::CancelsWhilePaying => {
            cancel(&buyer, &order).await;
            return None;
        }
        _ => report(shop, &capture).await,
    }
    match does {
        Does::PaysTwice => {
            let again = json!({
                "event_id": format!("again-{payment}"), "payment_id": payment, "kind": "captured",
                "amount": placed.body["amount"]["amount"], "currency": "CNY",
                "transaction_id": format!("again-{payment}"),
            });
            assert_eq!(shop.report(&again).await.status, StatusCode::OK);
        }
        Does::PaysAndIsRefunded { units_returned } => {
            let why = json!({ "units_returned": units_returned, "reason": "as asked" });
            let path = format!("/v1/orders/{order}/refund");
            let refunded = shop.operate(OperatorRole::Operator, Method::POST, &path, Some(&why)).await;
            assert_eq!(refunded.status, StatusCode::OK, "{refunded}");
        }
        _ => {}
    }
    settled(shop, &buyer, &order).await;
    None
}

async fn cancel(buyer: &Buyer<'_>, order: &str) {
    let cancelled = buyer.call(Method::POST, &format!("/v1/orders/{order}/cancel")).await;
    assert_eq!(cancelled.text("status"), "cancelled", "{cancelled}");
}

async fn report(shop: &Shop, path: &str) {
    assert_eq!(shop.call(Method::POST, path, &[], None).await.status, StatusCode::OK);
}

/// Long-polls an order until no refund is due.
async fn settled(shop: &Shop, buyer: &Buyer<'_>, order: &str) {
    let (path, headers) =
        (format!("/v1/orders/{order}"), [("authorization", &*buyer.session), ("prefer", "wait=10")]);
    while shop.call(Method::GET, &path, &headers, None).await.body["refund"]["status"] == "due" {}
}

/// Waits until an order has expired, then reports its late capture, if any.
async fn expire(shop: &Shop, Left { user, order, late }: Left) {
    let buyer = shop.buyer(user).await;
    buyer.watch(&order, "expired").await;
    if let Some(capture) = late {
        report(shop, &capture).await;
        settled(shop, &buyer, &order).await;
    }
}

/// Adds units, or removes some if enough are available.
async fn adjust(shop: &Shop, round: u64) {
    let delta = if round.is_multiple_of(2) { 9 } else { -4 };
    let body =
        json!({ "adjustment_id": format!("round-{round}"), "delta": delta, "reason": "counted again" });
    let path = "/v1/activities/1/offers/11/adjustments";
    let adjusted = shop.operate(OperatorRole::Operator, Method::POST, path, Some(&body)).await;
    assert!(adjusted.status == StatusCode::OK || adjusted.code() == "insufficient_available", "{adjusted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_invariant_is_ever_broken() {
    let shop = Shop::start(|config| {
        config.storage.in_memory = true;
        // Payments end with their orders.
        config.payment.cap_seconds = 0;
        config.monitor.refund_seconds = 60;
        // All buyers share one address.
        config.guard.busy_address = Mode::Off;
    })
    .await;
    shop.import(&sale()).await;
    for round in 0..ROUNDS {
        let visits = (0..BUYERS).map(|number| {
            let user = 1 + round * BUYERS + number;
            then_look(&shop, visit(&shop, user, ALL[usize::try_from(user).unwrap() % ALL.len()]))
        });
        let (left, ()) = tokio::join!(join_all(visits), adjust(&shop, round));
        shop.clock.advance(LATER);
        let late = left.into_iter().flatten().map(|left| then_look(&shop, expire(&shop, left)));
        join_all(late).await;
    }

    let census = shop.app.inspector.census(1_u64.try_into().unwrap()).await.unwrap().unwrap();
    for status in [OrderStatus::Paid, OrderStatus::Cancelled, OrderStatus::Expired] {
        assert!(census.orders[status as usize] > 0, "no order is {status:?}: {census:?}");
    }
    assert_eq!((census.waiting, census.refunds_due), (0, 0));
    let found = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/reconciliation", None).await;
    assert_eq!(found.body["items"], json!([]), "{found}");
    shop.close().await;
}
