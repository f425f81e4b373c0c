//! A shop for a test: an in-process server on real sockets, with a clock that the test controls.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use flashsale_core::{
    clock::TimeSource,
    domain::{Clock, ManualClock, OrderRef, SystemClock},
};
use flashsale_testkit::client::{Answer, Client};
use hyper::{Method, StatusCode};
use reference_server::{
    app::{App, Jobs, Progress},
    auth::signature,
    config::{Config, OperationsToken, OperatorRole, Secret},
    http::{Listener, Runtimes, Server, tls::Tls},
    routes::{Operations, Public},
    runtime::background::Background,
};
use serde_json::{Value, json};

use crate::contract;

static BACKGROUND: LazyLock<Background> = LazyLock::new(|| Background::start().unwrap());

/// Returns the token of a role in the configuration of every test.
pub(crate) fn token(role: OperatorRole) -> String {
    format!("token-of-the-{}-of-the-tests", role.as_str())
}

/// A running server.
pub(crate) struct Shop {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) public: SocketAddr,
    pub(crate) operations: SocketAddr,
    jobs: Option<Jobs>,
    servers: Vec<Server>,
}

impl Shop {
    /// Starts an in-memory shop with the sale of [`catalogue`].
    pub(crate) async fn open() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts an in-memory shop with the sale of [`catalogue`] and a changed configuration.
    pub(crate) async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let shop = Self::start(|config| {
            config.storage.in_memory = true;
            configure(config);
        })
        .await;
        shop.import(&catalogue()).await;
        shop
    }

    /// Starts a shop on an existing data directory.
    pub(crate) async fn on(directory: &Path) -> Self {
        Self::start(|config| config.storage.directory = directory.to_owned()).await
    }

    pub(crate) async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(None, configure).await
    }

    /// Starts a shop whose clock is steered by these two clocks, as that of `serve` is.
    pub(crate) async fn steered(source: Arc<dyn TimeSource>, configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(Some(source), configure).await
    }

    async fn start_on(source: Option<Arc<dyn TimeSource>>, configure: impl FnOnce(&mut Config)) -> Self {
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let mut config = Config::default();
        config.identity.demo = true;
        config.payment.sandbox = true;
        // A long lease, because the test clock jumps without renewals.
        config.ids.lease_seconds = 86_400;
        config.operations.tokens = OperatorRole::ALL
            .map(|role| OperationsToken {
                name: format!("test {}", role.as_str()),
                roles: vec![role],
                token: Secret::new(token(role).into_bytes()),
                token_file: None,
            })
            .into();
        configure(&mut config);
        let spawner = BACKGROUND.spawner().clone();
        let shared = Runtimes::Shared(spawner.runtime().clone());
        let (app, jobs) = match source {
            None => App::open(&config, Arc::clone(&clock) as _, spawner).await.unwrap(),
            Some(source) => App::open_steered(&config, source, spawner, &Progress::default()).await.unwrap(),
        };
        app.storefront.products().warmed().await;
        let bind = |listener, files| {
            let tls = Tls::new(listener, files, clock.now()).unwrap();
            Listener::bind(([127, 0, 0, 1], 0).into(), NonZeroUsize::MIN, 128).unwrap().with_tls(tls)
        };
        let public = Arc::new(Public::new(Arc::clone(&app)));
        let operations = Arc::new(Operations::new(Arc::clone(&app)));
        let public =
            Server::start(bind("public", &config.tls.public), &public, &shared, &config.http).unwrap();
        let operations = Server::start(
            bind("operations", &config.tls.operations),
            &operations,
            &shared,
            &config.http.for_operations(),
        )
        .unwrap();
        Self {
            app,
            clock,
            public: public.address(),
            operations: operations.address(),
            jobs: Some(jobs),
            servers: vec![public, operations],
        }
    }

    /// Stops only the upkeep job, so that orders no longer expire.
    pub(crate) async fn stop_upkeep(&mut self) {
        self.jobs.as_mut().unwrap().stop_upkeep().await;
    }

    /// Shuts down as `serve` does.
    pub(crate) async fn close(mut self) {
        for server in self.servers.drain(..) {
            assert_eq!(server.drain(Duration::from_secs(20)).await, 0, "connections were cut");
        }
        assert_eq!(BACKGROUND.spawner().drain(Duration::from_secs(20)).await, 0);
        self.app.close(self.jobs.take().unwrap()).await.unwrap();
    }

    pub(crate) async fn import(&self, document: &Value) -> Answer {
        let answer = self.operate(OperatorRole::Operator, Method::POST, "/v1/import", Some(document)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
        answer
    }

    /// Calls the public listener.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let answer = Client::new(self.public).request(method.clone(), path, headers, body).await.unwrap();
        contract::PUBLIC.check(&method, path, &answer);
        answer
    }

    pub(crate) async fn read(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], None).await
    }

    /// Reads from the operations listener without a token.
    pub(crate) async fn call_operations(&self, path: &str) -> Answer {
        self.operate_as(Method::GET, path, &[], None).await
    }

    /// Calls the operations listener.
    pub(crate) async fn operate(
        &self,
        role: OperatorRole,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let authorization = format!("Bearer {}", token(role));
        self.operate_as(method, path, &[("authorization", authorization.as_str())], body).await
    }

    /// Calls the operations listener with exactly these headers.
    pub(crate) async fn operate_as(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut client = Client::new(self.operations);
        let answer = client.request(method.clone(), path, headers, body).await.unwrap();
        contract::OPERATIONS.check(&method, path, &answer);
        answer
    }

    pub(crate) async fn stock(&self, sku: u64) -> Value {
        let path = format!("/v1/activities/1/offers/{sku}/stock");
        self.operate(OperatorRole::Auditor, Method::GET, &path, None).await.body
    }

    /// Signs in a buyer.
    pub(crate) async fn buyer(&self, user: u64) -> Buyer<'_> {
        let identity = json!({ "user_id": user.to_string(), "user_name": format!("Buyer {user} 买家") });
        let answer = self.call(Method::POST, "/v1/sessions", &[], Some(&identity)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
        assert_eq!(answer.body.as_object().unwrap().len(), 1, "the response contains only a token");
        Buyer { shop: self, session: format!("Bearer {}", answer.text("token")) }
    }

    /// Sends a provider report with a current signature.
    pub(crate) async fn report(&self, report: &Value) -> Answer {
        let body = report.to_string();
        let secret = self.app.callback_keys.values().next().unwrap().signing();
        let signature = signature::sign(secret, self.app.clock.now(), body.as_bytes());
        self.send_report("sandbox", &signature, body).await
    }

    pub(crate) async fn send_report(&self, provider: &str, signature: &str, body: String) -> Answer {
        let path = format!("/v1/payments/callbacks/{provider}");
        let headers = [("flashsale-signature", signature)];
        let mut client = Client::new(self.public);
        let answer = client.send(Method::POST, &path, &headers, Some(Bytes::from(body))).await.unwrap();
        contract::PUBLIC.check(&Method::POST, &path, &answer);
        answer
    }
}

/// A buyer with a session.
pub(crate) struct Buyer<'a> {
    shop: &'a Shop,
    pub(crate) session: String,
}

impl Buyer<'_> {
    pub(crate) async fn call(&self, method: Method, path: &str) -> Answer {
        self.shop.call(method, path, &[("authorization", &self.session)], None).await
    }

    pub(crate) async fn ask_for_ticket(&self, activity: u64, sku: u64) -> Answer {
        self.call(Method::POST, &format!("/v1/activities/{activity}/offers/{sku}/ticket")).await
    }

    /// Gets a ticket for an offer of the live activity.
    pub(crate) async fn ticket(&self, sku: u64) -> String {
        let answer = self.ask_for_ticket(1, sku).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
        assert_eq!(answer.header("cache-control"), "no-store");
        answer.text("ticket").to_owned()
    }

    /// Places an order with a new ticket.
    pub(crate) async fn order(&self, sku: u64, quantity: u32) -> Answer {
        self.shop.order_with(&self.ticket(sku).await, &[], quantity).await
    }

    /// Places an order and returns its id.
    pub(crate) async fn buy(&self, sku: u64, quantity: u32) -> String {
        let answer = self.order(sku, quantity).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer}");
        answer.text("order_id").to_owned()
    }

    pub(crate) async fn read(&self, order: &str) -> Value {
        let answer = self.call(Method::GET, &format!("/v1/orders/{order}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
        answer.body
    }

    /// Long-polls an order until it has the expected status.
    pub(crate) async fn watch(&self, order: &str, status: &str) -> Value {
        let headers = [("authorization", self.session.as_str()), ("prefer", "wait=10")];
        loop {
            let answer =
                self.shop.call(Method::GET, &format!("/v1/orders/{order}"), &headers, None).await.body;
            if answer["status"] == status {
                return answer;
            }
            assert!(["pending", "paying"].contains(&answer["status"].as_str().unwrap()), "{answer}");
        }
    }

    /// Opens a payment and returns its id.
    pub(crate) async fn pay(&self, order: &str) -> String {
        let answer = self.call(Method::POST, &format!("/v1/orders/{order}/payment")).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer}");
        answer.text("payment_id").to_owned()
    }
}

impl Shop {
    pub(crate) async fn order_with(&self, ticket: &str, headers: &[(&str, &str)], quantity: u32) -> Answer {
        let body = json!({ "quantity": quantity });
        self.call(Method::POST, &format!("/v1/orders/{ticket}"), headers, Some(&body)).await
    }
}

/// The id in the reference of an order, as jobs and logs show it.
pub(crate) fn bare_id(order: &str) -> String {
    order.parse::<OrderRef>().unwrap().order.to_string()
}

/// Checks the status and code of a problem, and that it must not be cached.
#[track_caller]
pub(crate) fn expect(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{answer}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("cache-control"), "no-store");
}

/// Activity 1 is live with offers 11 (pre-deduct, 60 s), 12 (order-time, one unit, limit 1), 13
/// (pay-time), 14 (limit per device), 15 (limit per address). 2 starts in 1 h; 3 is a draft.
pub(crate) fn catalogue() -> Value {
    let price = json!({ "amount": 9900, "currency": "CNY" });
    let sku =
        |id: u64| json!({ "id": id.to_string(), "product_id": "1", "name": "红 / L", "list_price": price });
    let offer = |sku: u64, units: u32, strategy: &str, hold: Option<u32>, limits: Value| {
        json!({
            "sku_id": sku.to_string(), "price": price, "units": units, "strategy": strategy,
            "hold_seconds": hold, "limits": limits,
        })
    };
    let per = |subject: &str, max: u32| json!([{ "subject": subject, "per": "offer", "max": max }]);
    json!({
        "products": [{ "id": "1", "name": "<script>alert(\"茶壶\")</script>", "description": "a & b" }],
        "skus": [sku(11), sku(12), sku(13), sku(14), sku(15)],
        "activities": [
            {
                "id": "1", "name": "双十一 <b>", "starts_at": "now-1m", "ends_at": "now+6h",
                "creator": "chen", "reviewer": "li", "status": "published",
                "offers": [
                    offer(11, 100, "pre_deduct", Some(60), per("user", 5)),
                    offer(12, 1, "order_time", None, per("user", 1)),
                    offer(13, 2, "pay_time", Some(60), json!([])),
                    offer(14, 10, "pre_deduct", Some(60), per("device", 1)),
                    offer(15, 10, "pre_deduct", Some(60), per("address", 1)),
                ],
            },
            {
                "id": "2", "name": "later", "starts_at": "now+1h", "ends_at": "now+2h",
                "creator": "chen", "reviewer": "li", "status": "published", "buckets": 3,
                "offers": [offer(11, 9, "order_time", None, per("user", 9))],
            },
            {
                "id": "3", "name": "a draft", "starts_at": "now-1m", "ends_at": "now+1h",
                "creator": "chen", "status": "draft", "offers": [offer(11, 9, "order_time", None, json!([]))],
            },
        ],
    })
}
