//! Route labels in metrics, most frequent first. All other routes are counted as `other`.

/// Routes of the public listener.
pub(super) const PUBLIC: &[&str] = &[
    "POST /v1/orders/{ticket}",
    "GET /v1/activities/{id}/status",
    "GET /{language}/activities/{id}/",
    "GET /{language}/products/{id}/",
    "GET /{language}/",
    "GET /v1/time",
    "GET /v1/orders/{id}",
    "POST /v1/activities/{id}/offers/{sku_id}/ticket",
    "POST /v1/activities/{id}/offers/{sku_id}/challenge",
    "POST /v1/orders/{id}/payment",
    "POST /v1/orders/{id}/cancel",
    "POST /v1/payments/callbacks/{provider}",
    "GET /v1/orders",
    "POST /v1/sessions",
    "GET /v1/activities",
    "GET /v1/activities/{id}",
    "GET /v1/products/{id}",
    "GET /v1/skus/{id}",
    "GET /assets/{name}",
    "GET /openapi.json",
    "GET /",
    "GET /{language}/orders/",
    "GET /activities/{id}/",
    "GET /activities/{id}",
    "GET /products/{id}/",
    "GET /products/{id}",
    "GET /orders/",
    "GET /{language}/archive/",
    "GET /{language}/archive/{page}/",
    "GET /archive/",
    "GET /archive/{page}/",
    "GET /sandbox/payments/{payment_id}",
    "POST /sandbox/payments/{payment_id}/{report}",
];

/// The number of leading routes that carry sale traffic; only a sample of their requests is timed.
pub(super) const SAMPLED: usize = 6;

/// Routes of the operations listener.
pub(super) const OPERATIONS: &[&str] = &[
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
    "GET /openapi.json",
    "GET /v1/activities/{id}/offers/{sku_id}/stock",
    "POST /v1/activities/{id}/offers/{sku_id}/adjustments",
    "GET /v1/orders",
    "GET /v1/orders/{id}",
    "POST /v1/orders/{id}/{verb}",
    "GET /v1/products",
    "POST /v1/products",
    "GET /v1/products/{id}",
    "GET /v1/skus",
    "POST /v1/skus",
    "GET /v1/skus/{id}",
    "GET /v1/activities",
    "POST /v1/activities",
    "GET /v1/activities/{id}",
    "PATCH /v1/activities/{id}",
    "POST /v1/activities/{id}/offers",
    "PATCH /v1/activities/{id}/offers/{sku_id}",
    "DELETE /v1/activities/{id}/offers/{sku_id}",
    "POST /v1/activities/{id}/{verb}",
    "GET /v1/kill-switch",
    "PUT /v1/kill-switch",
    "GET /v1/clock",
    "POST /v1/clock/step",
    "DELETE /v1/users/{id}/name",
    "POST /v1/import",
    "POST /v1/backup",
    "GET /v1/audit",
    "GET /v1/reconciliation",
    "GET /v1/dead-letters",
    "GET /v1/dead-letters/{id}",
    "POST /v1/dead-letters/{id}/{verb}",
    "GET /v1/callbacks",
    "POST /v1/callbacks/{id}/{verb}",
    "GET /",
    "GET /{language}/",
    "GET /assets/{name}",
];

#[cfg(test)]
mod tests {
    use super::PUBLIC;
    use crate::{config::TAKEN, storefront::pages::Language};

    #[test]
    fn no_health_path_can_hide_a_route() {
        let codes = Language::ALL.map(Language::code);
        for route in PUBLIC {
            let first = route.split('/').nth(1).unwrap();
            let firsts = if first == "{language}" { &codes[..] } else { &[first] };
            assert!(firsts.iter().all(|first| TAKEN.contains(first)), "{route}");
        }
    }
}
