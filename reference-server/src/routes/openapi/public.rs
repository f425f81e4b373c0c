//! The operations of the public listener.

use super::operation::Operation;
use crate::http::Code::{
    ChallengeRequired, Denied, Ended, InvalidRequest, KeyReused, LimitReached, NotFound, NotPersisted,
    NotStarted, Paused, RateLimited, SoldOut, TicketExpired, TicketInvalid, TicketUsed, Unauthorized,
    WrongState,
};

/// Lists every operation.
pub(super) fn operations() -> Vec<Operation> {
    let mut operations = vec![
        Operation::get("/openapi.json", "This document").answers_type(&["application/json"]).unchanged(),
        Operation::get("/assets/{name}", "A static file of the pages")
            .answers_type(&["*/*"])
            .unchanged()
            .refuses(&[NotFound]),
        Operation::get("/v1/time", "The server time").answers(200, "Time"),
        Operation::get("/v1/activities", "Published activities")
            .takes(&["limit", "after_id"])
            .answers(200, "ListedActivities")
            .unchanged(),
        Operation::get("/v1/activities/{id}", "A published activity with its offers")
            .answers(200, "ListedActivityWithOffers")
            .unchanged()
            .refuses(&[NotFound]),
        Operation::get("/v1/activities/{id}/status", "The live status of an activity and its offers")
            .answers(200, "ActivityState")
            .refuses(&[NotFound]),
        Operation::get("/v1/products/{id}", "A product with its SKUs")
            .answers(200, "ProductWithSkus")
            .leads_to(200, ("/skus/0/id", "id"), &["get_v1_skus_id"])
            .unchanged()
            .refuses(&[NotFound]),
        Operation::get("/v1/skus/{id}", "An SKU").answers(200, "Sku").unchanged().refuses(&[NotFound]),
        Operation::post("/v1/sessions", "Signs in (demo identity only)")
            .reads("SignIn")
            .answers(200, "Session")
            .refuses(&[NotFound]),
        ticket_step("/v1/activities/{id}/offers/{sku_id}/challenge", "Issues a challenge")
            .may_read("Nothing")
            .answers(200, "Challenge"),
        ticket_step("/v1/activities/{id}/offers/{sku_id}/ticket", "Issues a ticket for one order")
            .may_read("TicketRequest")
            .answers(200, "Ticket")
            .leads_to(200, ("/ticket", "id"), &["post_v1_orders_id"])
            .refuses(&[ChallengeRequired]),
        Operation::post("/v1/orders/{id}", "Places an order; the ticket in the path is the credential")
            .opened_by("ticket")
            .takes(&["idempotency-key", "flashsale-device"])
            .may_read("OrderRequest")
            .answers(200, "Order")
            .answers(201, "Order")
            .answers(202, "Order")
            .leads_to(
                201,
                ("/order_id", "id"),
                &["get_v1_orders_id", "post_v1_orders_id_cancel", "post_v1_orders_id_payment"],
            )
            .refuses(&[
                NotFound,
                TicketInvalid,
                TicketExpired,
                SoldOut,
                LimitReached,
                NotStarted,
                Ended,
                Paused,
                TicketUsed,
                KeyReused,
                RateLimited,
            ]),
        Operation::get("/v1/orders", "The caller's orders")
            .needs("session")
            .takes(&["limit", "after_id"])
            .answers(200, "Orders"),
        Operation::get("/v1/orders/{id}", "An order, for its owner or by its receipt")
            .may_need("session")
            .takes(&["flashsale-receipt", "prefer"])
            .answers(200, "Order")
            .refuses(&[NotFound]),
        Operation::post("/v1/orders/{id}/cancel", "Cancels an order")
            .needs("session")
            .may_read("Nothing")
            .answers(200, "Order")
            .refuses(&[NotFound, NotPersisted, WrongState]),
        Operation::post("/v1/orders/{id}/payment", "Opens a payment, or returns the open one")
            .needs("session")
            .may_read("Nothing")
            .answers(201, "Payment")
            .leads_to(
                201,
                ("/payment_id", "payment_id"),
                &["get_sandbox_payments_payment_id", "post_sandbox_payments_payment_id_report"],
            )
            .refuses(&[NotFound, NotPersisted, WrongState, SoldOut]),
        Operation::post("/v1/payments/callbacks/{provider}", "Receives a callback of a payment provider")
            .takes(&["flashsale-signature"])
            .reads("Callback")
            .answers(200, "Received")
            .refuses(&[NotFound, Unauthorized]),
        Operation::get("/sandbox/payments/{payment_id}", "The payment page of the sandbox provider")
            .takes(&["lang", "back"])
            .answers_type(&["text/html"])
            .refuses(&[NotFound]),
        Operation::post("/sandbox/payments/{payment_id}/{report}", "Makes the sandbox report on a payment")
            .answers(200, "Received")
            .refuses(&[NotFound]),
    ];
    for language in ["", "/{language}"] {
        for (path, summary) in PAGES {
            operations.push(page(format!("{language}{path}"), summary));
            if *path != "/" {
                operations.push(page(format!("{language}{path}/"), summary));
            }
        }
    }
    operations.push(page("/{language}".to_owned(), "The home page"));
    operations
}

const PAGES: &[(&str, &str)] = &[
    ("/", "The home page"),
    ("/orders", "The page of the buyer's orders"),
    ("/activities/{id}", "The page of an activity"),
    ("/products/{id}", "The page of a product"),
    ("/archive", "The first page of the archive: activities that are over, the latest first"),
    ("/archive/{page}", "A page of the archive, from 2"),
];

pub(super) fn page(path: String, summary: &'static str) -> Operation {
    Operation::get(path, summary).answers_type(&["text/html"]).unchanged().refuses(&[NotFound])
}

/// Creates an operation for challenges or tickets, with all that they share.
fn ticket_step(path: &str, summary: &'static str) -> Operation {
    Operation::post(path, summary).needs("session").takes(&["flashsale-device"]).refuses(&[
        InvalidRequest,
        NotFound,
        NotStarted,
        Ended,
        Denied,
        RateLimited,
    ])
}
