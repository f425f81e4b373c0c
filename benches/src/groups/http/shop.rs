//! The measured server: one worker, no rate limits.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use flashsale_testkit::{
    client::{Answer, Client},
    process::Process,
};
use hyper::Method;
use serde_json::{Value, json};

use super::{address, load::Target, started};
use crate::{Failure, report::progress};

const TOKEN: &str = "operator-token-of-the-figures";

/// How long the sold-out state may take to appear in the status.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Shop {
    pub(super) process: Process,
    pub(super) public: SocketAddr,
    operations: SocketAddr,
}

/// Where the server stores its data.
pub(super) enum Storage {
    Memory,
    Directory(PathBuf),
}

/// Builds the server into the directory of this program.
pub(super) fn build() -> Result<(), Failure> {
    progress("building the server");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    let built = build.args(["build", "--release", "--quiet", "-p", "reference-server"]).status()?;
    if built.success() { Ok(()) } else { Err("the server did not build".into()) }
}

impl Shop {
    /// Starts the server, with its configuration in `directory`.
    pub(super) fn start(directory: &Path, storage: &Storage) -> Result<Self, Failure> {
        let program = std::env::current_exe()?.with_file_name("reference-server");
        let configuration = directory.join("flashsale.toml");
        let storage = match storage {
            Storage::Memory => "in_memory = true".to_owned(),
            Storage::Directory(directory) => {
                format!("directory = {:?}", directory.to_str().ok_or("the path is not UTF-8")?)
            }
        };
        fs::write(
            &configuration,
            format!(
                r#"
                [http]
                public = "127.0.0.1:0"
                operations = "127.0.0.1:0"
                workers = 1

                [storage]
                {storage}

                [identity]
                demo = true

                [payment]
                sandbox = true

                [guard]
                user_orders = "off"
                address_orders = "off"
                busy_address = "off"

                [[operations.tokens]]
                name = "figures"
                roles = ["operator"]
                token = "{TOKEN}"
                "#
            ),
        )?;
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(configuration).env("NO_COLOR", "1");
        let (process, operations) = started(command, "operations=")?;
        let line = process.wait_for_line(Duration::from_secs(1), |line| line.contains("public="));
        Ok(Self { process, public: address(&line, "public=")?, operations })
    }

    /// Sets up a sale with one offer in stock and one sold out. Returns the requests to measure by
    /// name: a page, the status document, and an order for the sold-out offer.
    pub(super) async fn targets(&self) -> Result<Vec<(&'static str, Target)>, Failure> {
        let offer = |sku: &str, units: u32| json!({ "sku_id": sku, "price": price(), "units": units, "strategy": "order_time", "limits": [] });
        self.sell(&json!([offer("11", 1_000_000), offer("12", 1)])).await?;
        let winner = self.ticket(1, 12).await?;
        let path = format!("/v1/orders/{winner}");
        let mut buyer = Client::new(self.public);
        let answer = buyer.request(Method::POST, &path, &[], Some(&json!({ "quantity": 1 }))).await?;
        if answer.status != 201 {
            return Err(format!("the only unit was not sold: {answer}").into());
        }
        let late = self.ticket(2, 12).await?;
        let begun = Instant::now();
        loop {
            let status = buyer.request(Method::GET, "/v1/activities/1/status", &[], None).await?;
            if status.body["offers"][1]["state"] == "sold_out" {
                break;
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("the offer does not become sold out: {status}").into());
            }
        }
        let get = |path: &str, more: &str| Target {
            address: self.public,
            request: format!("GET {path} HTTP/1.1\r\nhost: shop\r\n{more}\r\n").into_bytes(),
            begins: "HTTP/1.1 200",
        };
        Ok(vec![
            ("page", get("/en/activities/1", "accept-encoding: br\r\n")),
            ("status", get("/v1/activities/1/status", "")),
            ("sold_out", Target { address: self.public, request: order(&late), begins: "HTTP/1.1 409" }),
        ])
    }

    /// Opens activity 1 with offers of SKUs 11 and 12.
    pub(super) async fn sell(&self, offers: &Value) -> Result<(), Failure> {
        let answer = self.operate(Method::POST, "/v1/import", Some(&catalogue(offers))).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(format!("the import failed: {answer}\n{}", self.process).into())
    }

    /// The number of units of an offer held by unpaid orders.
    pub(super) async fn held(&self, sku: u64) -> Result<u64, Failure> {
        let path = format!("/v1/activities/1/offers/{sku}/stock");
        let answer = self.operate(Method::GET, &path, None).await?;
        answer.body["held"].as_u64().ok_or_else(|| format!("no stock: {answer}").into())
    }

    async fn operate(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str())];
        Ok(Client::new(self.operations).request(method, path, &headers, body).await?)
    }

    async fn ticket(&self, user: u64, sku: u64) -> Result<String, Failure> {
        let mut client = Client::new(self.public);
        let identity = json!({ "user_id": user.to_string(), "user_name": "Li" });
        let session = client.request(Method::POST, "/v1/sessions", &[], Some(&identity)).await?;
        let authorization = format!("Bearer {}", session.text("token"));
        let path = format!("/v1/activities/1/offers/{sku}/ticket");
        let ticket = client.request(Method::POST, &path, &[("authorization", &authorization)], None).await?;
        if !ticket.status.is_success() {
            return Err(format!("no ticket: {ticket}").into());
        }
        Ok(ticket.text("ticket").to_owned())
    }
}

/// Builds the raw request for an order of one unit.
pub(super) fn order(ticket: &str) -> Vec<u8> {
    let body = r#"{"quantity":1}"#;
    let head = format!(
        "POST /v1/orders/{ticket} HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head, body.to_owned()].concat().into_bytes()
}

pub(super) fn price() -> Value {
    json!({ "amount": 9900, "currency": "CNY" })
}

fn catalogue(offers: &Value) -> Value {
    let sku = |id: &str| json!({ "id": id, "product_id": "1", "name": "Red / L", "list_price": price() });
    json!({
        "products": [{ "id": "1", "name": "Teapot 茶壶", "description": "For one." }],
        "skus": [sku("11"), sku("12")],
        "activities": [{
            "id": "1", "name": "Singles' Day", "starts_at": "now-1m", "ends_at": "now+6h", "creator": "chen",
            "reviewer": "li", "status": "published", "offers": offers,
        }],
    })
}
