//! The operations of the operations listener.

use super::operation::Operation;
use crate::http::Code::{
    Forbidden, InsufficientAvailable, KeyReused, NotFound, NotPersisted, SoldOut, VersionConflict, WrongState,
};

/// Lists every operation.
pub(super) fn operations() -> Vec<Operation> {
    let mut operations = vec![
        Operation::get("/healthz", "Liveness: 503 once only a restart helps").answers_type(&["text/plain"]),
        Operation::get("/readyz", "Readiness to sell").answers(200, "Readiness"),
        Operation::get("/metrics", "Metrics for Prometheus, in the format that `Accept` asks for")
            .answers_type(&["application/openmetrics-text", "text/plain"]),
        Operation::get("/openapi.json", "This document").answers_type(&["application/json"]).unchanged(),
        Operation::get("/assets/{name}", "A static file of the console")
            .answers_type(&["*/*"])
            .unchanged()
            .refuses(&[NotFound]),
    ];
    for path in ["/", "/{language}", "/{language}/"] {
        operations.push(super::public::page(path.to_owned(), "The console"));
    }
    operations.extend(catalogue());
    operations.extend(activities());
    operations.extend(sale());
    operations
}

fn catalogue() -> [Operation; 6] {
    [
        list(read("/v1/products", "Products")).answers(200, "Products"),
        created(write(Operation::post("/v1/products", "Creates or replaces a product")), "Product")
            .reads("ProductRequest")
            .leads_to(201, ("/id", "id"), &["get_v1_products_id"]),
        one(read("/v1/products/{id}", "A product")).answers(200, "Product"),
        list(read("/v1/skus", "SKUs")).takes(&["product_id"]).answers(200, "Skus"),
        created(write(Operation::post("/v1/skus", "Creates or replaces an SKU")), "VersionedSku")
            .reads("SkuRequest")
            .leads_to(201, ("/id", "id"), &["get_v1_skus_id"]),
        one(read("/v1/skus/{id}", "An SKU")).answers(200, "VersionedSku"),
    ]
}

fn activities() -> [Operation; 8] {
    [
        list(read("/v1/activities", "Activities in every state")).answers(200, "Activities"),
        made(write(Operation::post("/v1/activities", "Creates a draft activity")), "Activity")
            .reads("ActivityRequest")
            .leads_to(
                201,
                ("/id", "id"),
                &[
                    "get_v1_activities_id",
                    "patch_v1_activities_id",
                    "post_v1_activities_id_offers",
                    "post_v1_activities_id_verb",
                ],
            ),
        one(read("/v1/activities/{id}", "An activity with its offers")).answers(200, "Activity"),
        changed(Operation::patch("/v1/activities/{id}", "Edits an activity")).reads("ActivityEdit"),
        changed(Operation::post("/v1/activities/{id}/offers", "Attaches an offer")).reads("OfferRequest"),
        changed(Operation::patch("/v1/activities/{id}/offers/{sku_id}", "Edits an offer")).reads("OfferEdit"),
        changed(Operation::delete("/v1/activities/{id}/offers/{sku_id}", "Detaches an offer"))
            .may_read("Why"),
        changed(Operation::post("/v1/activities/{id}/{verb}", "Advances an activity in its life cycle"))
            .may_read("Why"),
    ]
}

fn sale() -> [Operation; 23] {
    [
        read("/v1/kill-switch", "The kill switch").answers(200, "KillSwitch"),
        write(Operation::put("/v1/kill-switch", "Stops all sales, or resumes them"))
            .reads("KillSwitchRequest")
            .answers(200, "KillSwitch"),
        read("/v1/clock", "The server's time, and how far the machine's clock is off").answers(200, "Clock"),
        write(Operation::post("/v1/clock/step", "Believes a jump of the machine's clock at once"))
            .reads("ClockStepRequest")
            .answers(200, "Clock")
            .refuses(&[WrongState]),
        one(read("/v1/activities/{id}/offers/{sku_id}/stock", "The stock of an offer")).answers(200, "Stock"),
        write(Operation::post("/v1/activities/{id}/offers/{sku_id}/adjustments", "Adds or removes units"))
            .reads("AdjustmentRequest")
            .answers(200, "Adjusted")
            .refuses(&[NotFound, KeyReused, InsufficientAvailable]),
        list(read("/v1/orders", "The orders of a buyer"))
            .takes(&["user_id", "user_number"])
            .answers(200, "OperatorOrders"),
        one(read("/v1/orders/{id}", "An order")).answers(200, "OperatorOrder"),
        advanced(Operation::post("/v1/orders/{id}/cancel", "Cancels an order")).may_read("Why"),
        advanced(Operation::post("/v1/orders/{id}/refund", "Refunds an order or a part of it"))
            .takes(&["idempotency-key"])
            .refuses(&[KeyReused])
            .reads("RefundRequest"),
        write(Operation::delete("/v1/users/{id}/name", "Erases a buyer's name"))
            .may_read("Why")
            .answers(200, "ErasedName")
            .refuses(&[NotFound]),
        write(Operation::post("/v1/import", "Imports products, SKUs and activities"))
            .reads("Import")
            .answers(200, "Imported"),
        write(Operation::post("/v1/backup", "Writes a backup to a directory on the server"))
            .reads("BackupRequest")
            .answers(200, "BackedUp"),
        read("/v1/audit", "The audit trail")
            .takes(&["limit", "after_sequence"])
            .answers(200, "AuditRows")
            .refuses(&[Forbidden]),
        read("/v1/audit/verification", "Verification of the audit trail's hash chain")
            .answers(200, "AuditCheck")
            .refuses(&[Forbidden]),
        read("/v1/dead-letters", "Dead letters: jobs that failed permanently")
            .takes(&["limit", "after_sequence"])
            .answers(200, "DeadLetters")
            .leads_to(
                200,
                ("/items/0/id", "id"),
                &[
                    "get_v1_dead_letters_id",
                    "post_v1_dead_letters_id_replay",
                    "post_v1_dead_letters_id_discard",
                ],
            )
            .refuses(&[Forbidden]),
        one(read("/v1/dead-letters/{id}", "A dead letter")).answers(200, "DeadLetter").refuses(&[Forbidden]),
        one(write(Operation::post("/v1/dead-letters/{id}/replay", "Retries a dead letter")))
            .may_read("Why")
            .answers(200, "DeadLetter"),
        one(write(Operation::post("/v1/dead-letters/{id}/discard", "Discards a dead letter")))
            .may_read("Why")
            .refuses(&[WrongState])
            .answers(200, "DeadLetter"),
        read("/v1/callbacks", "Payment callbacks that are kept and not booked")
            .takes(&["callback_state", "limit", "after_sequence"])
            .answers(200, "KeptCallbacks")
            .leads_to(
                200,
                ("/items/0/id", "id"),
                &["post_v1_callbacks_id_replay", "post_v1_callbacks_id_discard"],
            )
            .refuses(&[Forbidden]),
        one(write(Operation::post("/v1/callbacks/{id}/replay", "Books a kept callback again")))
            .may_read("Why")
            .answers(200, "KeptCallback"),
        one(write(Operation::post("/v1/callbacks/{id}/discard", "Discards a kept callback")))
            .may_read("Why")
            .answers(200, "KeptCallback"),
        read("/v1/reconciliation", "Violated invariants").answers(200, "Findings").refuses(&[Forbidden]),
    ]
}

fn read(path: &str, summary: &'static str) -> Operation {
    Operation::get(path, summary).needs("operator")
}

fn one(operation: Operation) -> Operation {
    operation.refuses(&[NotFound])
}

fn list(operation: Operation) -> Operation {
    operation.takes(&["limit", "after_id"])
}

fn write(operation: Operation) -> Operation {
    operation.needs("operator").refuses(&[Forbidden])
}

fn created(operation: Operation, schema: &'static str) -> Operation {
    made(operation, schema).takes(&["if-match"])
}

fn made(operation: Operation, schema: &'static str) -> Operation {
    operation.answers(200, schema).answers(201, schema).refuses(&[NotFound, VersionConflict, WrongState])
}

fn changed(operation: Operation) -> Operation {
    write(operation).takes(&["if-match"]).answers(200, "Activity").refuses(&[
        NotFound,
        VersionConflict,
        WrongState,
        InsufficientAvailable,
    ])
}

fn advanced(operation: Operation) -> Operation {
    write(operation).answers(200, "OperatorOrder").refuses(&[NotFound, NotPersisted, WrongState, SoldOut])
}
