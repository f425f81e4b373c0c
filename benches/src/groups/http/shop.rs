//! The server of the figures: in memory, on one core, without limits of rate, with one offer on sale and one sold out.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use flashsale_testkit::{client::Client, process::Process};
use hyper::Method;
use serde_json::{Value, json};

use super::{address, load::Target, started};
use crate::{Failure, report::progress};

const TOKEN: &str = "operator-token-of-the-figures";

/// How long the page of a sold-out offer may take to say so.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Shop {
    process: Process,
    public: SocketAddr,
    operations: SocketAddr,
}

/// Builds the server, beside this program.
pub(super) fn build() -> Result<(), Failure> {
    progress("building the server");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    let built = build.args(["build", "--release", "--quiet", "-p", "reference-server"]).status()?;
    if built.success() { Ok(()) } else { Err("the server cannot be built".into()) }
}

impl Shop {
    /// Starts the server.
    pub(super) fn start(directory: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe()?.with_file_name("reference-server");
        let configuration = directory.join("flashsale.toml");
        fs::write(
            &configuration,
            format!(
                r#"
                [http]
                public = "127.0.0.1:0"
                operations = "127.0.0.1:0"
                workers = 1

                [storage]
                in_memory = true

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

    /// Puts goods on sale, sells one of them out, and answers what is asked: by name, a page, the status document, and an
    /// order of what is sold out.
    pub(super) async fn targets(&self) -> Result<Vec<(&'static str, Target)>, Failure> {
        let authorization = format!("Bearer {TOKEN}");
        let mut operator = Client::new(self.operations);
        let answer = operator
            .request(Method::POST, "/v1/import", &[("authorization", &authorization)], Some(&catalogue()))
            .await?;
        if !answer.status.is_success() {
            return Err(format!("the import fails: {answer}\n{}", self.process).into());
        }
        let winner = self.ticket(1, 12).await?;
        let path = format!("/v1/orders/{winner}");
        let mut buyer = Client::new(self.public);
        let answer = buyer.request(Method::POST, &path, &[], Some(&json!({ "quantity": 1 }))).await?;
        if answer.status != 201 {
            return Err(format!("the last unit is not sold: {answer}").into());
        }
        let late = self.ticket(2, 12).await?;
        let begun = Instant::now();
        loop {
            let status = buyer.request(Method::GET, "/v1/activities/1/status", &[], None).await?;
            if status.body["offers"][1]["state"] == "sold_out" {
                break;
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("it is not sold out: {status}").into());
            }
        }
        let get = |path: &str, more: &str| Target {
            address: self.public,
            request: format!("GET {path} HTTP/1.1\r\nhost: shop\r\n{more}\r\n").into_bytes(),
            begins: "HTTP/1.1 200",
        };
        let body = r#"{"quantity":1}"#;
        let order = format!(
            "POST /v1/orders/{late} HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(vec![
            ("page", get("/en/activities/1", "accept-encoding: br\r\n")),
            ("status", get("/v1/activities/1/status", "")),
            (
                "sold_out",
                Target { address: self.public, request: order.into_bytes(), begins: "HTTP/1.1 409" },
            ),
        ])
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

fn catalogue() -> Value {
    let price = json!({ "amount": 9900, "currency": "CNY" });
    let sku = |id: &str| json!({ "id": id, "product_id": "1", "name": "Red / L", "list_price": price });
    let offer = |sku: &str, units: u32| json!({ "sku_id": sku, "price": price, "units": units, "strategy": "order_time", "limits": [] });
    json!({
        "products": [{ "id": "1", "name": "Teapot 茶壶", "description": "For one." }],
        "skus": [sku("11"), sku("12")],
        "activities": [{
            "id": "1", "name": "Singles' Day", "starts_at": "now-1m", "ends_at": "now+6h", "creator": "chen",
            "reviewer": "li", "status": "published", "offers": [offer("11", 1_000_000), offer("12", 1)],
        }],
    })
}
