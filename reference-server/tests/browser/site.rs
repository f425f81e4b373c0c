//! A shop for browser tests: configuration, catalogue, server, and buyers without a browser.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use flashsale_testkit::{
    client::{Answer, Client},
    process::Process,
};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A timeout that suffices for an unoptimised build and a browser on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The id of the live activity.
pub(crate) const LIVE: u64 = 1;
/// An offer with many units, at most two per user, and ten minutes to pay.
pub(crate) const PLENTY: u64 = 11;
/// An offer with one unit and no payment deadline.
pub(crate) const LAST: u64 = 12;
/// The offer of the activity that starts soon.
pub(crate) const SOON_ON_SALE: u64 = 21;

const CONFIGURATION: &str = r#"
    [identity]
    demo = true
    [payment]
    sandbox = true
    [ticket]
    lead_seconds = 5
    [[operations.tokens]]
    name = "ann"
    roles = ["creator"]
    token = "creator-token-of-the-browser-tests"
    [[operations.tokens]]
    name = "ben"
    roles = ["reviewer"]
    token = "reviewer-token-of-the-browser-tests"
    [[operations.tokens]]
    name = "cleo"
    roles = ["operator", "auditor"]
    token = "operator-token-of-the-browser-tests"
    [http]
    public = "127.0.0.1:0"
    operations = "127.0.0.1:0"
"#;

/// A running shop with one live activity and one that starts soon.
pub(crate) struct Site {
    pub(crate) public: SocketAddr,
    operations: SocketAddr,
    files: TempDir,
    _process: Process,
}

impl Site {
    /// Starts a shop whose second activity starts in `starts_in` seconds, with tickets 5 s before.
    pub(crate) fn open(starts_in: u32) -> Self {
        Self::with(starts_in, "")
    }

    /// Starts a shop with more configuration lines, which are appended to the table `[http]`.
    pub(crate) fn with(starts_in: u32, more: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("catalogue.json"), catalogue(starts_in).to_string()).unwrap();
        fs::write(files.path().join("flashsale.toml"), format!("{CONFIGURATION}{more}\n")).unwrap();
        let import = Process::start(command(&files, "import", &["catalogue.json", "--data", "data"]));
        assert!(import.wait_for_exit(SOON).success(), "{import}");
        let process = Process::start(command(&files, "serve", &["--data", "data"]));
        let line = process.wait_for_line(SOON, |line| line.contains("public="));
        let address = |name| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        let [public, operations] =
            ["public=", "operations="].map(|name| address(name).unwrap().parse().unwrap());
        Self { public, operations, files, _process: process }
    }

    /// Exports the pages as files that call this server.
    pub(crate) fn publish(&self) -> TempDir {
        // A running server locks its data directory.
        let import = Process::start(command(&self.files, "import", &["catalogue.json", "--data", "other"]));
        assert!(import.wait_for_exit(SOON).success(), "{import}");
        let out = tempfile::tempdir().unwrap();
        let (folder, api) = (out.path().to_str().unwrap(), format!("http://{}", self.public));
        let arguments = ["--data", "other", "--out", folder, "--api-base", &api];
        let publish = Process::start(command(&self.files, "publish", &arguments));
        assert!(publish.wait_for_exit(SOON).success(), "{publish}");
        out
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.public)
    }

    /// Returns a console URL.
    pub(crate) fn console(&self, path: &str) -> String {
        format!("http://{}{path}", self.operations)
    }

    /// Reads from the operations listener as an operator.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let headers = [("authorization", "Bearer operator-token-of-the-browser-tests")];
        Client::new(self.operations).request(Method::GET, path, &headers, None).await.unwrap().body
    }

    /// Writes to the operations listener as a creator.
    pub(crate) async fn create(&self, path: &str, body: &Value) -> Value {
        let headers = [("authorization", "Bearer creator-token-of-the-browser-tests")];
        let answer = Client::new(self.operations).request(Method::POST, path, &headers, Some(body)).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, StatusCode::CREATED, "{answer}");
        answer.body
    }

    /// Signs in a buyer without a browser.
    pub(crate) async fn buyer(&self, user: u64) -> Buyer {
        let mut client = Client::new(self.public);
        let identity = json!({ "user_id": user.to_string(), "user_name": "Han Meimei 韩梅梅" });
        let answer = client.request(Method::POST, "/v1/sessions", &[], Some(&identity)).await.unwrap();
        Buyer { session: format!("Bearer {}", answer.text("token")), client }
    }
}

/// A buyer with a session.
pub(crate) struct Buyer {
    client: Client,
    session: String,
}

impl Buyer {
    /// Orders one unit in the live activity and returns the order id.
    pub(crate) async fn order(&mut self, sku: u64) -> String {
        let order = self.try_to_order(&LIVE.to_string(), sku).await;
        assert_eq!(order.status, StatusCode::CREATED, "{order}");
        order.text("order_id").to_owned()
    }

    /// Requests a ticket and orders one unit with it. Returns the last response.
    pub(crate) async fn try_to_order(&mut self, activity: &str, sku: u64) -> Answer {
        let path = format!("/v1/activities/{activity}/offers/{sku}/ticket");
        let ticket = self.call(Method::POST, &path, None).await;
        if ticket.status != StatusCode::OK {
            return ticket;
        }
        let path = format!("/v1/orders/{}", ticket.text("ticket"));
        self.call(Method::POST, &path, Some(&json!({ "quantity": 1 }))).await
    }

    /// Opens a payment and captures it in the sandbox.
    pub(crate) async fn pay(&mut self, order: &str) {
        let opened = self.call(Method::POST, &format!("/v1/orders/{order}/payment"), None).await;
        assert_eq!(opened.status, StatusCode::CREATED, "{opened}");
        let path = format!("/sandbox/payments/{}/capture", opened.text("payment_id"));
        assert_eq!(self.call(Method::POST, &path, None).await.status, StatusCode::OK);
    }

    pub(crate) async fn cancel(&mut self, order: &str) {
        let answer = self.call(Method::POST, &format!("/v1/orders/{order}/cancel"), None).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
    }

    /// Returns the orders, newest first.
    pub(crate) async fn orders(&mut self) -> Vec<Value> {
        self.call(Method::GET, "/v1/orders", None).await.body["items"].as_array().unwrap().clone()
    }

    async fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.client.request(method, path, &[("authorization", &self.session)], body).await.unwrap()
    }
}

fn command(files: &TempDir, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reference-server"));
    command.current_dir(files.path()).arg(name).args(arguments);
    command.args(["--config", "flashsale.toml"]).env("NO_COLOR", "1");
    command
}

fn catalogue(starts_in: u32) -> Value {
    let price = |amount: u64| json!({ "amount": amount, "currency": "CNY" });
    let sku = |id: u64, product: &str, name: &str| json!({ "id": id.to_string(), "product_id": product, "name": name, "list_price": price(12_900) });
    let offer = |sku: u64, units: u32, strategy: &str, hold: Option<u32>, max: u32| {
        json!({
            "sku_id": sku.to_string(), "price": price(9900), "units": units, "strategy": strategy,
            "hold_seconds": hold, "limits": [{ "subject": "user", "per": "offer", "max": max }],
        })
    };
    let activity = |id: u64, name: &str, starts: &str, offers: Value| {
        json!({
            "id": id.to_string(), "name": name, "description": "限时抢购，先到先得。\nFirst come, first served.",
            "starts_at": starts, "ends_at": "now+6h", "creator": "chen", "reviewer": "li", "status": "published",
            "offers": offers,
        })
    };
    json!({
        "products": [
            { "id": "1", "name": "紫砂壶 Teapot <b>", "description": "手工制作，容量 240 ml。\nMade by hand." },
            { "id": "2", "name": "Merino T-Shirt", "description": "17.5 micron, 150 g/m². 可机洗。" },
        ],
        "skus": [
            sku(PLENTY, "1", "朱泥 / 240 ml"), sku(LAST, "1", "紫泥 / 180 ml"), sku(SOON_ON_SALE, "2", "Charcoal / M"),
        ],
        "activities": [
            activity(LIVE, "双十一狂欢夜", "now-1m", json!([
                offer(PLENTY, 100, "pre_deduct", Some(600), 2), offer(LAST, 1, "order_time", None, 1),
            ])),
            activity(2, "Doors at Ten", &format!("now+{starts_in}s"), json!([
                offer(SOON_ON_SALE, 50, "pre_deduct", Some(600), 1),
            ])),
        ],
    })
}
