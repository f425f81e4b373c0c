//! The operations listener.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use flashsale_core::{
    domain::{ActivityId, By, OrderId, SkuId, UserId},
    ledger::{Adjustment, AdjustmentId, Epoch, Reference, Stock},
};
use hyper::{HeaderMap, StatusCode, header::HeaderValue, http::request::Parts};
use serde::{Deserialize, Serialize};

use super::{
    Answer, after, answers, headers, id, limit, only_get, only_post,
    shown::{Page, ShownOrder},
};
use crate::{
    app::App,
    audit::{self, Findings},
    backup,
    config::{OperationsToken, Role},
    http::{Body, Code, Handler, Prepared, Problem, Query, Request, Response, json, no_store, segments},
    import::{self, ImportFailure, Source},
};

/// The largest import: 64 MiB.
const IMPORT_BYTES: usize = 64 << 20;

/// Answers operators and monitors.
#[derive(Debug)]
pub struct Operations {
    app: Arc<App>,
    alive: Prepared,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdjustmentRequest {
    adjustment_id: String,
    delta: i64,
    reason: flashsale_core::domain::Text,
}

#[derive(Serialize)]
struct Adjusted {
    adjustment_id: String,
    delta: i64,
    #[serde(flatten)]
    stock: Option<ShownStock>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    directory: PathBuf,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: [&'static str; 0],
}

/// The units of an offer as the contract shows them.
#[derive(Serialize)]
struct ShownStock {
    units: i64,
    adjusted: i64,
    available: i64,
    held: i64,
    sold: i64,
    epoch: Epoch,
}

/// Files as the command line sends them; any other JSON document is one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    files: Vec<ImportFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportFile {
    /// It tells what is in the file.
    name: String,
    content: String,
}

impl From<Stock> for ShownStock {
    fn from(stock: Stock) -> Self {
        let Stock { units, adjusted, available, held, sold, epoch, .. } = stock;
        Self { units, adjusted, available, held, sold, epoch }
    }
}

impl Operations {
    /// Answers for `app`.
    pub fn new(app: Arc<App>) -> Self {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        let alive = Prepared::new(StatusCode::OK, text, Bytes::from_static(b"alive\n")).no_store();
        Self { app, alive }
    }

    async fn route(&self, head: &Parts, body: Body) -> Answer {
        let mut room = [""; 8];
        let path = segments(head.uri.path(), &mut room).ok_or_else(Problem::not_found)?;
        let method = &head.method;
        match path {
            ["healthz"] => only_get(method).map(|()| self.alive.respond()),
            ["readyz"] => only_get(method).and_then(|()| self.ready()),
            ["v1", ..] => {
                let operator = self.operator(&head.headers)?;
                self.call(operator, head, path, body).await
            }
            _ => Err(Problem::not_found()),
        }
    }

    async fn call(&self, operator: &OperationsToken, head: &Parts, path: &[&str], body: Body) -> Answer {
        let method = &head.method;
        match path {
            ["v1", "activities", activity, "offers", sku, "stock"] => {
                only_get(method)?;
                self.stock(id(activity)?, id(sku)?).await
            }
            ["v1", "activities", activity, "offers", sku, "adjustments"] => {
                only_post(method)?;
                self.adjust(operator, head, id(activity)?, id(sku)?, body).await
            }
            ["v1", "orders"] => {
                only_get(method)?;
                self.orders(head).await
            }
            ["v1", "orders", order] => {
                only_get(method)?;
                self.order(id(order)?).await
            }
            ["v1", "import"] => {
                only_post(method)?;
                self.import(operator, head, body).await
            }
            ["v1", "backup"] => {
                only_post(method)?;
                self.backup(operator, head, body).await
            }
            ["v1", "reconciliation"] => {
                only_get(method)?;
                require(operator, &[Role::Auditor, Role::Operator])?;
                self.reconciliation().await
            }
            _ => Err(Problem::not_found()),
        }
    }

    /// Who calls. Every token is compared, so that the time does not tell which one is nearly right.
    fn operator(&self, headers: &HeaderMap) -> Result<&OperationsToken, Problem> {
        let refused = || Problem::unauthorized("Send an operations token as Authorization: Bearer.");
        let token = headers::bearer(headers).ok_or_else(refused)?.as_bytes();
        let mut found = None;
        for known in &self.app.tokens {
            if known.token.matches(token) {
                found = Some(known);
            }
        }
        found.ok_or_else(refused)
    }

    fn ready(&self) -> Answer {
        let reasons = self.app.obstacles();
        if reasons.is_empty() {
            return Ok(no_store(json(StatusCode::OK, &Readiness { ready: true, reasons: [] })));
        }
        Err(answers::not_ready().with("reasons", reasons))
    }

    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Answer {
        let stock =
            self.app.sales.ledger().stock(activity, sku).await.map_err(|error| answers::ledger(&error))?;
        let stock = ShownStock::from(stock.ok_or_else(Problem::not_found)?);
        Ok(no_store(json(StatusCode::OK, &stock)))
    }

    async fn adjust(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        activity: ActivityId,
        sku: SkuId,
        body: Body,
    ) -> Answer {
        require(operator, &[Role::Operator])?;
        if self.app.sales.sale(activity).is_none() {
            return Err(Problem::not_found());
        }
        let request: AdjustmentRequest = body.json(&head.headers).await?;
        let adjustment = Adjustment {
            activity,
            sku,
            id: AdjustmentId::new(&request.adjustment_id).map_err(|error| answers::invalid(&error))?,
            delta: request.delta,
            by: By { actor: actor(operator)?, reason: request.reason },
        };
        let app = Arc::clone(&self.app);
        let work = self.app.spawner.run(async move {
            let outcome = app.sales.adjust(adjustment).await?;
            let stock = app.sales.ledger().stock(activity, sku).await?;
            Ok((outcome, stock))
        });
        let (outcome, stock) = work.await.map_err(answers::lost)?.map_err(|error| answers::ledger(&error))?;
        answers::adjusted(outcome)?;
        let stock = stock.map(ShownStock::from);
        let adjusted = Adjusted { adjustment_id: request.adjustment_id, delta: request.delta, stock };
        Ok(no_store(json(StatusCode::OK, &adjusted)))
    }

    async fn orders(&self, head: &Parts) -> Answer {
        let query = Query::parse(head.uri.query(), &["user_id", "limit", "after"])?;
        let user: Option<UserId> = query.parsed("user_id", "the id of a user")?;
        let user = user.ok_or_else(|| Problem::invalid_field("user_id", "Say whose orders."))?;
        let (limit, after) = (limit(&query)?, after(&query)?);
        let orders = self.app.ordering.orders_of(user, after, limit + 1).await;
        let mut orders = orders.map_err(|error| answers::service(&error))?;
        let more = orders.len() > limit;
        orders.truncate(limit);
        let next = orders.last().filter(|_| more).map(|order| order.key.id.to_string());
        let items = orders.iter().map(ShownOrder::to_operator).collect();
        Ok(no_store(json(StatusCode::OK, &Page { items, next })))
    }

    async fn order(&self, id: OrderId) -> Answer {
        let ledger = self.app.sales.ledger();
        let failed = |error| answers::ledger(&error);
        let key =
            ledger.locate(Reference::Order(id)).await.map_err(failed)?.ok_or_else(Problem::not_found)?;
        let order = ledger.order(key).await.map_err(failed)?.ok_or_else(Problem::not_found)?;
        Ok(no_store(json(StatusCode::OK, &ShownOrder::to_operator(&order))))
    }

    async fn import(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        require(operator, &[Role::Operator])?;
        let bytes = body.with_max_bytes(IMPORT_BYTES).bytes().await?;
        Query::parse(head.uri.query(), &[])?;
        let by = By {
            actor: actor(operator)?,
            reason: "import".parse().map_err(|error| answers::invalid(&error))?,
        };
        let app = Arc::clone(&self.app);
        let work = self.app.spawner.run(async move {
            let now = app.clock.now();
            // Reading 64 MiB takes longer than a thread of the runtime should be held.
            let input = tokio::task::spawn_blocking(move || import::parse(&sources(bytes), now)).await;
            let input = input.map_err(|error| {
                tracing::error!(%error, "an import could not be read");
                answers::unavailable("The import could not be read; try again.")
            })?;
            let input = input.map_err(|errors| refused(&errors))?;
            let report = input.import(&*app.catalogue, &by).await.map_err(|failure| match failure {
                ImportFailure::Input(errors) => refused(&errors),
                ImportFailure::Catalogue(error) => answers::catalogue(&error),
            })?;
            app.publish(&by).await.map_err(|error| {
                tracing::error!(%error, "what was imported could not be published");
                answers::unavailable("It is imported and not yet published; import it again to publish it.")
            })?;
            Ok::<_, Problem>(report)
        });
        let report = work.await.map_err(answers::lost)??;
        Ok(no_store(json(StatusCode::OK, &report)))
    }

    async fn backup(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        require(operator, &[Role::Operator])?;
        let BackupRequest { directory } = body.json(&head.headers).await?;
        let app = Arc::clone(&self.app);
        let work = self.app.spawner.run(async move {
            backup::write(&app.engine, &app.catalogue, app.directory.as_deref(), &directory).await
        });
        work.await.map_err(answers::lost)?.map_err(|error| {
            tracing::warn!(%error, "a backup was not made");
            Problem::invalid_field("directory", error.to_string())
        })?;
        Ok(no_store(json(StatusCode::OK, &serde_json::json!({ "backup": "complete" }))))
    }

    async fn reconciliation(&self) -> Answer {
        let app = Arc::clone(&self.app);
        let work = self.app.spawner.run(async move { audit::inspect(&app.engine, &*app.catalogue).await });
        let findings: Findings = work.await.map_err(answers::lost)?.map_err(|error| {
            tracing::error!(%error, "the reconciliation failed");
            answers::unavailable("Ledger or catalogue cannot be read now; try again.")
        })?;
        Ok(no_store(json(StatusCode::OK, &findings)))
    }
}

impl Handler for Operations {
    async fn handle(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        self.route(&head, body).await.unwrap_or_else(Problem::into_response)
    }
}

/// Lets only tokens with one of these roles go on.
fn require(operator: &OperationsToken, roles: &[Role]) -> Result<(), Problem> {
    if roles.iter().any(|role| operator.roles.contains(role)) {
        return Ok(());
    }
    let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
    let detail = format!("Only a token with the role {} may do this.", roles.join(" or "));
    Err(Problem::new(Code::Forbidden, detail))
}

fn actor(operator: &OperationsToken) -> Result<flashsale_core::domain::Name, Problem> {
    operator.name.parse().map_err(|error| answers::invalid(&error))
}

fn refused(errors: &import::ImportErrors) -> Problem {
    let text = errors.to_string();
    let problems: Vec<&str> = text.lines().collect();
    Problem::invalid("Nothing was imported; correct what the problems say.").with("problems", problems)
}

fn sources(body: Bytes) -> Vec<Source> {
    match serde_json::from_slice::<Files>(&body) {
        Ok(Files { files }) => files
            .into_iter()
            .map(|file| Source { name: file.name, content: file.content.into_bytes().into() })
            .collect(),
        Err(_) => vec![Source { name: "import.json".to_owned(), content: body.to_vec().into() }],
    }
}
