//! Signed webhook notifications about orders.

use std::{convert::Infallible, fs, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header::HeaderMap, service::service_fn};
use hyper_util::rt::TokioIo;
use reference_server::{
    auth::{keyring::Ring, signature},
    config::{OperatorRole, Secret},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    metrics::scrape,
    shop::{Shop, bare_id, expect},
};

const SECRET: &[u8] = b"the secret of the mailer";

/// A webhook receiver and the notifications that it got.
struct Receiver {
    address: SocketAddr,
    got: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
}

impl Receiver {
    /// Starts a receiver that answers with these statuses in order, then always with 204.
    async fn open(mut answers: Vec<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, got) = mpsc::unbounded_channel();
        answers.reverse();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let status = answers.pop().unwrap_or(204);
                let sender = sender.clone();
                let answer = service_fn(move |request: Request<Incoming>| {
                    let sender = sender.clone();
                    async move {
                        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/orders"));
                        let (head, body) = request.into_parts();
                        sender.send((head.headers, body.collect().await.unwrap().to_bytes())).unwrap();
                        let answer = Response::builder().status(status).body(Empty::<Bytes>::new());
                        Ok::<_, Infallible>(answer.unwrap())
                    }
                });
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(serving);
            }
        });
        Self { address, got }
    }

    /// Waits for the next notification and checks its signature.
    async fn next(&mut self, shop: &Shop) -> Value {
        let (headers, body) = self.got.recv().await.unwrap();
        let ring = Ring::new(Secret::new(SECRET), []);
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        let now = flashsale_core::domain::Clock::now(&*shop.clock);
        signature::verify(&ring, &text(signature::HEADER), &body, now).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (text("content-type").as_str(), body["id"].as_str()),
            ("application/json", Some(text("idempotency-key").as_str()))
        );
        body
    }
}

async fn shop(receiver: &Receiver, directory: &std::path::Path) -> Shop {
    let secret = directory.join("secret");
    fs::write(&secret, SECRET).unwrap();
    let webhook = format!("http://{}/orders", receiver.address);
    Shop::with(|config| {
        config.notifications.webhook = Some(webhook);
        config.notifications.secret_file = Some(secret);
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_is_retried_until_the_receiver_accepts_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::open(vec![503, 500]).await;
    let shop = shop(&receiver, directory.path()).await;
    let buyer = shop.buyer(1).await;
    let order = buyer.buy(11, 2).await;
    let mut ids = Vec::new();
    let retried = "flashsale_job_attempts_total{topic=\"notifications\",outcome=\"retried\"}";
    for _ in 0..3 {
        let placed = receiver.next(&shop).await;
        assert_eq!((&placed["kind"], &placed["order"]["order_id"]), (&json!("placed"), &json!(order)));
        assert_eq!((&placed["order"]["quantity"], &placed["order"]["user_id"]), (&json!(2), &json!("1")));
        ids.push(placed["id"].clone());
        if ids.len() < 3 {
            // Advance the clock only after the retry has been scheduled.
            while scrape(&shop).await.get(retried) != Some(&f64::from(u32::try_from(ids.len()).unwrap())) {}
            shop.clock.advance(Duration::from_secs(4));
        }
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "retries must have the same event id: {ids:?}");
    assert_eq!(buyer.call(Method::POST, &format!("/v1/orders/{order}/cancel")).await.status, StatusCode::OK);
    let cancelled = receiver.next(&shop).await;
    assert_eq!(
        (&cancelled["kind"], &cancelled["order"]["status"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    assert_ne!(cancelled["id"], ids[0]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_names_the_buyer_as_the_shop_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::open(Vec::new()).await;
    let shop = shop(&receiver, directory.path()).await;
    let identity = json!({ "user_id": "auth0|5f7c", "user_name": "Ann" });
    let session = shop.call(Method::POST, "/v1/sessions", &[], Some(&identity)).await;
    let authorization = format!("Bearer {}", session.text("token"));
    let headers = [("authorization", authorization.as_str())];
    let ticket = shop.call(Method::POST, "/v1/activities/1/offers/11/ticket", &headers, None).await;
    let order = shop.order_with(ticket.text("ticket"), &[], 1).await;
    assert_eq!(order.status, StatusCode::CREATED, "{order}");
    assert_eq!(receiver.next(&shop).await["order"]["user_id"], "auth0|5f7c");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanently_rejected_notification_becomes_a_dead_letter() {
    let directory = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::open(vec![410]).await;
    let shop = shop(&receiver, directory.path()).await;
    let order = shop.buyer(1).await.buy(11, 1).await;
    let refused = receiver.next(&shop).await;
    let dead = "flashsale_jobs{topic=\"notifications\",state=\"dead\"}";
    // The job is settled right after the response.
    while scrape(&shop).await.get(dead) != Some(&1.0) {}
    let letters = shop.operate(OperatorRole::Operator, Method::GET, "/v1/dead-letters", None).await;
    let letter = &letters.body["items"][0];
    assert_eq!(
        (&letter["job"], &letter["content"]["order"]["id"]),
        (&refused["id"], &json!(bare_id(&order)))
    );
    let path = format!("/v1/dead-letters/{}/replay", letter["id"].as_str().unwrap());
    expect(&shop.operate(OperatorRole::Auditor, Method::POST, &path, None).await, 403, "forbidden");
    assert_eq!(shop.operate(OperatorRole::Operator, Method::POST, &path, None).await.status, StatusCode::OK);
    assert_eq!(receiver.next(&shop).await["id"], refused["id"]);
    shop.close().await;
}
