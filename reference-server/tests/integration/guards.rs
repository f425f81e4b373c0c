//! Guards against suspicious clients: challenges, denials, rate limits and client addresses.

use std::time::Duration;

use flashsale_core::{
    admission::{Mode, Rule, Verdict},
    domain::{ActivityId, Clock as _, SkuId, UserId},
};
use flashsale_testkit::client::Answer;
use hyper::{Method, StatusCode};
use reference_server::{
    auth::keyring::Keyring,
    challenge::answer,
    config::{Config, TicketKey},
};
use serde_json::{Value, json};

use crate::shop::{Buyer, Shop, expect};

const CHALLENGE: &str = "/v1/activities/1/offers/11/challenge";
const TICKET: &str = "/v1/activities/1/offers/11/ticket";

/// Starts a shop that requires an easy proof of work from everybody.
async fn shop_with(configure: impl FnOnce(&mut Config)) -> Shop {
    Shop::with(|config| {
        config.challenge.cost = 16;
        config.guard.proof_of_work_from = 0;
        configure(config);
    })
    .await
}

impl Buyer<'_> {
    async fn challenge(&self, shop: &Shop) -> Value {
        let answer = self.post(shop, CHALLENGE, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer}");
        assert_eq!(answer.header("cache-control"), "no-store");
        answer.body
    }

    async fn post(&self, shop: &Shop, path: &str, body: Option<Value>) -> Answer {
        shop.call(Method::POST, path, &[("authorization", &self.session)], body.as_ref()).await
    }

    async fn ticket_for(&self, shop: &Shop, challenge: &Value, solution: &Value) -> Answer {
        let body = json!({ "challenge_id": challenge["challenge_id"], "solution": solution });
        self.post(shop, TICKET, Some(body)).await
    }
}

/// Solves the proof of work of a challenge, using only the published contract.
pub(crate) fn worked(challenge: &Value) -> Value {
    let work = &challenge["proof_of_work"];
    let text = |member: &str| work[member].as_str().unwrap().to_owned();
    let number = |member: &str| u32::try_from(work[member].as_u64().unwrap()).unwrap();
    let parameters = altcha::ChallengeParameters {
        algorithm: text("algorithm"),
        cost: number("cost"),
        data: None,
        expires_at: None,
        key_length: number("key_length").try_into().unwrap(),
        key_prefix: text("key_prefix"),
        key_signature: None,
        memory_cost: Some(number("memory_cost")),
        nonce: text("nonce"),
        parallelism: Some(number("parallelism")),
        salt: text("salt"),
    };
    let challenge = altcha::Challenge { parameters, signature: None };
    let solution = altcha::solve_challenge(altcha::SolveChallengeOptions::new(&challenge)).unwrap().unwrap();
    json!({ "counter": solution.counter, "derived_key": solution.derived_key })
}

fn count(shop: &Shop, rule: Rule, verdict: Verdict) -> u64 {
    shop.app.guards.counts().find(|count| (count.rule, count.verdict) == (rule, verdict)).unwrap().count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_buyer_gets_no_challenge() {
    let shop = Shop::open().await;
    let buyer = shop.buyer(1).await;
    let challenge = buyer.challenge(&shop).await;
    assert_eq!(challenge["kind"], "none");
    assert_eq!(challenge.as_object().unwrap().len(), 3, "{challenge}");
    buyer.buy(11, 1).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_of_work_counts_once_and_only_for_its_buyer_and_offer() {
    let shop = shop_with(|_| {}).await;
    let (buyer, other) = (shop.buyer(1).await, shop.buyer(2).await);
    expect(&buyer.ask_for_ticket(1, 11).await, 403, "challenge_required");
    let challenge = buyer.challenge(&shop).await;
    assert_eq!(challenge["kind"], "proof_of_work");
    assert!(challenge["quiz"].is_null());
    let solution = worked(&challenge);

    expect(&other.ticket_for(&shop, &challenge, &solution).await, 403, "challenge_required");
    let elsewhere = json!({ "challenge_id": challenge["challenge_id"], "solution": solution });
    let path = "/v1/activities/1/offers/12/ticket";
    expect(&buyer.post(&shop, path, Some(elsewhere)).await, 403, "challenge_required");
    let alone = json!({ "challenge_id": challenge["challenge_id"] });
    expect(&buyer.post(&shop, TICKET, Some(alone)).await, 403, "challenge_required");

    let issued = buyer.ticket_for(&shop, &challenge, &solution).await;
    assert_eq!(issued.status, StatusCode::OK, "{issued}");
    let placed = shop.order_with(issued.text("ticket"), &[], 1).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{placed}");
    let again = buyer.ticket_for(&shop, &challenge, &solution).await;
    expect(&again, 403, "challenge_required");
    assert!(again.text("detail").contains("once"), "{again}");
    assert_eq!(count(&shop, Rule::Challenge, Verdict::Passed), 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_solution_uses_up_its_challenge_and_raises_the_risk() {
    let shop = shop_with(|_| {}).await;
    let buyer = shop.buyer(1).await;
    // 25 points for an unknown account, 15 per failure: a quiz after three failures.
    for kind in ["proof_of_work", "proof_of_work", "proof_of_work", "quiz"] {
        let challenge = buyer.challenge(&shop).await;
        assert_eq!(challenge["kind"], kind);
        let mut wrong = worked(&challenge);
        wrong["counter"] = json!(wrong["counter"].as_u64().unwrap() + 1);
        expect(&buyer.ticket_for(&shop, &challenge, &wrong).await, 403, "challenge_required");
        let right = worked(&challenge);
        expect(&buyer.ticket_for(&shop, &challenge, &right).await, 403, "challenge_required");
    }
    assert_eq!(count(&shop, Rule::Challenge, Verdict::Passed), 0);
    for bad in [json!({ "nonce": 1 }), json!({ "counter": -1 }), json!({ "counter": 1_u64 << 40 }), json!([])]
    {
        let body = json!({ "challenge_id": "x", "solution": bad });
        expect(&buyer.post(&shop, TICKET, Some(body)).await, 400, "invalid_request");
    }
    expect(
        &buyer.ticket_for(&shop, &json!({ "challenge_id": "1" }), &json!({})).await,
        403,
        "challenge_required",
    );
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiz_can_be_answered_or_replaced_by_proof_of_work() {
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("ticket.key");
    std::fs::write(&file, "a ticket key of the tests of guards").unwrap();
    let mut keys = None;
    let shop = shop_with(|config| {
        config.guard.quiz_from = 0;
        config.challenge.digits_instead_of_quiz = 2;
        config.secrets.ticket_keys = vec![TicketKey { id: 1, file }];
        keys = Some(Keyring::load(config, None).unwrap().challenges);
    })
    .await;
    let buyer = shop.buyer(1).await;
    let read = |challenge: &Value| {
        let text = challenge["challenge_id"].as_str().unwrap();
        let (activity, sku) = (ActivityId::new(1).unwrap(), SkuId::new(11).unwrap());
        let challenge =
            keys.as_ref().unwrap().verify(text, activity, sku, UserId::new(1).unwrap(), shop.clock.now());
        json!({ "text": answer(&challenge.unwrap()) })
    };
    let quiz = buyer.challenge(&shop).await;
    assert_eq!((&quiz["kind"], &quiz["quiz"]["length"]), (&json!("quiz"), &json!(6)));
    assert!(quiz["quiz"]["image"].as_str().unwrap().starts_with("data:image/png;base64,"));
    let issued = buyer.ticket_for(&shop, &quiz, &read(&quiz)).await;
    assert_eq!(issued.status, StatusCode::OK, "{issued}");

    let unseen = buyer.challenge(&shop).await;
    assert_eq!(unseen["proof_of_work"]["key_prefix"], "00");
    let issued = buyer.ticket_for(&shop, &unseen, &worked(&unseen)).await;
    assert_eq!(issued.status, StatusCode::OK, "{issued}");

    let other = buyer.challenge(&shop).await;
    expect(&buyer.ticket_for(&shop, &other, &read(&quiz)).await, 403, "challenge_required");
    // Sending both solutions is rejected.
    let both = buyer.challenge(&shop).await;
    let mut solution = worked(&both);
    solution["text"] = read(&both)["text"].clone();
    expect(&buyer.ticket_for(&shop, &both, &solution).await, 403, "challenge_required");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_can_be_solved_before_the_start() {
    let shop = shop_with(|_| {}).await;
    let buyer = shop.buyer(1).await;
    let (challenge, ticket) = ("/v1/activities/2/offers/11/challenge", "/v1/activities/2/offers/11/ticket");
    let early = buyer.post(&shop, challenge, None).await;
    expect(&early, 409, "not_started");
    let wait: u64 = early.header("retry-after").parse().unwrap();
    shop.clock.advance(Duration::from_secs(wait));
    let given = buyer.post(&shop, challenge, Some(json!({}))).await;
    assert_eq!(given.status, StatusCode::OK, "{given}");
    let body = json!({ "challenge_id": given.text("challenge_id"), "solution": worked(&given.body) });
    let early = buyer.post(&shop, ticket, Some(body.clone())).await;
    expect(&early, 409, "not_started");
    let wait: u64 = early.header("retry-after").parse().unwrap();
    shop.clock.advance(Duration::from_secs(wait));
    let issued = buyer.post(&shop, ticket, Some(body)).await;
    assert_eq!(issued.status, StatusCode::OK, "{issued}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_solution_is_rejected_if_it_is_late_or_too_easy() {
    let shop = shop_with(|config| config.rate.busy_address = 2.try_into().unwrap()).await;
    let buyer = shop.buyer(1).await;
    let challenge = buyer.challenge(&shop).await;
    shop.clock.advance(Duration::from_secs(301));
    let late = buyer.ticket_for(&shop, &challenge, &worked(&challenge)).await;
    expect(&late, 403, "challenge_required");
    assert!(late.text("detail").contains("expired"), "{late}");
    let challenge = buyer.challenge(&shop).await;
    assert_eq!(challenge["kind"], "proof_of_work");
    // Meanwhile the address becomes busy, which requires a harder challenge.
    let easy = buyer.ticket_for(&shop, &challenge, &worked(&challenge)).await;
    expect(&easy, 403, "challenge_required");
    assert!(easy.text("detail").contains("harder"), "{easy}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_buyer_gets_neither_challenge_nor_ticket() {
    let shop = shop_with(|config| {
        config.guard.quiz_from = 0;
        config.guard.deny_from = 0;
    })
    .await;
    let buyer = shop.buyer(1).await;
    expect(&buyer.post(&shop, CHALLENGE, None).await, 403, "denied");
    expect(&buyer.ask_for_ticket(1, 11).await, 403, "denied");
    for (method, path, status, code) in [
        (Method::GET, CHALLENGE, 405, "method_not_allowed"),
        (Method::POST, "/v1/activities/9/offers/11/challenge", 404, "not_found"),
        (Method::POST, "/v1/activities/1/offers/99/challenge", 404, "not_found"),
        (Method::POST, "/v1/activities/3/offers/11/challenge", 404, "not_found"),
    ] {
        expect(&buyer.call(method, path).await, status, code);
    }
    expect(&shop.call(Method::POST, CHALLENGE, &[], None).await, 401, "unauthorized");
    expect(&buyer.post(&shop, CHALLENGE, Some(json!({ "x": 1 }))).await, 400, "invalid_request");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_addresses_are_taken_from_trusted_proxies_only() {
    let trusting = Shop::with(|config| {
        config.rate.busy_address = 3.try_into().unwrap();
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let buyer = trusting.buyer(1).await;
    let ask = async |field: &str| {
        let headers = [("authorization", buyer.session.as_str()), ("x-forwarded-for", field)];
        trusting.call(Method::POST, TICKET, &headers, None).await
    };
    for _ in 0..3 {
        assert_eq!(ask("203.0.113.9").await.status, StatusCode::OK);
    }
    // Entries that the client put before the one that the proxy appended are ignored.
    for field in ["203.0.113.9", "1.2.3.4, 203.0.113.9", "\"x\", 203.0.113.9:99"] {
        expect(&ask(field).await, 403, "challenge_required");
    }
    assert_eq!(ask("203.0.113.10").await.status, StatusCode::OK);
    // IPv6 addresses are counted per /64.
    for host in 1..=3 {
        assert_eq!(ask(&format!("2001:db8::{host}")).await.status, StatusCode::OK);
    }
    expect(&ask("2001:db8::ffff:1").await, 403, "challenge_required");
    assert_eq!(ask("2001:db8:0:1::1").await.status, StatusCode::OK);
    trusting.close().await;

    let untrusting = Shop::with(|config| config.rate.busy_address = 3.try_into().unwrap()).await;
    let buyer = untrusting.buyer(1).await;
    for number in 0..5 {
        let field = format!("203.0.113.{number}");
        let headers = [("authorization", buyer.session.as_str()), ("x-forwarded-for", field.as_str())];
        let answer = untrusting.call(Method::POST, TICKET, &headers, None).await;
        let expected = if number < 3 { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(answer.status, expected, "{number}: {answer}");
    }
    untrusting.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_limited_clients_are_told_when_to_retry() {
    let shop = Shop::with(|config| {
        config.guard.risk = Mode::Off;
        config.rate.user_tickets = 2.try_into().unwrap();
        config.rate.user_orders = 2.try_into().unwrap();
        config.rate.address_orders = 3.try_into().unwrap();
    })
    .await;
    let buyer = shop.buyer(1).await;
    let ticket = buyer.ticket(11).await;
    buyer.ticket(11).await;
    let limited = buyer.ask_for_ticket(1, 11).await;
    expect(&limited, 429, "rate_limited");
    assert_eq!(limited.header("retry-after"), "30");
    assert_eq!(limited.header("ratelimit-policy"), "\"user_tickets\";q=2;w=60");
    assert_eq!(limited.header("ratelimit"), "\"user_tickets\";r=0;t=30");
    expect(&buyer.post(&shop, CHALLENGE, None).await, 429, "rate_limited");

    for _ in 0..2 {
        assert!(shop.order_with(&ticket, &[], 1).await.status.is_success());
    }
    let limited = shop.order_with(&ticket, &[], 1).await;
    expect(&limited, 429, "rate_limited");
    assert_eq!(limited.header("ratelimit-policy"), "\"user_orders\";q=2;w=10");
    let other = shop.buyer(2).await.ticket(11).await;
    assert!(shop.order_with(&other, &[], 1).await.status.is_success());
    let limited = shop.order_with(&other, &[], 1).await;
    expect(&limited, 429, "rate_limited");
    assert_eq!(limited.header("ratelimit"), "\"address_orders\";r=0;t=4");
    // A forged ticket is rejected before it uses up any quota.
    expect(&shop.order_with(&format!("{other}A"), &[], 1).await, 403, "ticket_invalid");
    assert_eq!(count(&shop, Rule::Ticket, Verdict::Denied), 1);
    shop.clock.advance(Duration::from_secs(5));
    assert!(shop.order_with(&other, &[], 1).await.status.is_success());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_in_observe_or_off_mode_block_nobody() {
    for mode in [Mode::Observe, Mode::Off] {
        let shop = shop_with(|config| {
            config.guard.set_all(mode);
            config.guard.quiz_from = 0;
            config.guard.deny_from = 0;
            config.rate.user_tickets = 1.try_into().unwrap();
            config.rate.user_orders = 1.try_into().unwrap();
            config.rate.address_orders = 1.try_into().unwrap();
            config.rate.busy_address = 1.try_into().unwrap();
        })
        .await;
        let buyer = shop.buyer(1).await;
        for _ in 0..5 {
            buyer.buy(11, 1).await;
        }
        let observed = u64::from(mode == Mode::Observe);
        for (rule, verdict, seen) in [
            (Rule::UserTickets, Verdict::Limited, 4),
            (Rule::UserOrders, Verdict::Limited, 4),
            (Rule::AddressOrders, Verdict::Limited, 4),
            (Rule::BusyAddress, Verdict::Challenged, 4),
            (Rule::Risk, Verdict::Denied, 5),
        ] {
            assert_eq!(count(&shop, rule, verdict), observed * seen, "{mode:?} {rule:?}");
        }
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_challenge_solver_of_the_pages_is_served() {
    let shop = Shop::open().await;
    let solver = shop.read("/assets/solver.js").await;
    assert_eq!(solver.status, StatusCode::OK);
    assert!(solver.header("content-type").starts_with("text/javascript"));
    shop.close().await;
}
