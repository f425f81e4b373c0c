//! A million forged credentials, and one ticket that is used a thousand times.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fastrand::Rng;
use flashsale_core::{
    admission::{ChallengeKeys, Claims, Exercise, Mode, TicketKey, TicketKeys},
    domain::{
        ActivityId, Identity, IdentityKey, Issuer, Name, OrderRef, SkuId, SubjectId, Timestamp, UserId,
    },
    ledger::{BatchId, Epoch, Position},
};
use flashsale_testkit::client::Client;
use hyper::Method;
use reference_server::{
    auth::{
        keyring::Ring,
        receipts::{Receipt, Receipts},
        sessions::Sessions,
        signature,
    },
    config::Secret,
};
use rustix::process::{Resource, Rlimit};
use serde_json::json;

use crate::shop::Shop;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const LATER: Timestamp = Timestamp::from_millis(1_790_000_300_000);
/// The number of altered copies of each credential.
const ALTERED: u64 = 200_000;
/// The number of authentic credentials that are presented where they are not valid.
const MISPLACED: u64 = 20_000;

/// The number of attempts, by credential and kind of forgery.
#[derive(Default)]
struct Tally(BTreeMap<(&'static str, &'static str), u64>);

impl Tally {
    fn refused(&mut self, credential: &'static str, kind: &'static str, accepted: bool, shown: &str) {
        assert!(!accepted, "{credential}: {kind} was accepted: {shown}");
        *self.0.entry((credential, kind)).or_default() += 1;
    }

    /// Alters the decoded bytes, and the text itself, in every way that [`alter`] knows.
    fn alter(
        &mut self,
        credential: &'static str,
        originals: [&str; 2],
        random: &mut Rng,
        mut is_accepted: impl FnMut(&str) -> bool,
    ) {
        assert!(originals.iter().all(|text| is_accepted(text)), "{credential}: an original is rejected");
        let bytes = originals.map(|text| URL_SAFE_NO_PAD.decode(text).unwrap());
        let mut tried = 0;
        while tried < ALTERED {
            let (kind, altered) = alter(&bytes[0], &bytes[1], random);
            let text = if kind == "character" {
                let mut text = originals[0].as_bytes().to_vec();
                let place = random.usize(0..text.len());
                text[place] = random.u8(0x21..0x7f);
                String::from_utf8(text).unwrap()
            } else {
                URL_SAFE_NO_PAD.encode(altered)
            };
            if !originals.contains(&text.as_str()) {
                self.refused(credential, kind, is_accepted(&text), &text);
                tried += 1;
            }
        }
    }
}

/// Returns an altered copy of `own`, sometimes with bytes from the same position of `other`.
fn alter(own: &[u8], other: &[u8], random: &mut Rng) -> (&'static str, Vec<u8>) {
    let mut bytes = own.to_vec();
    let place = random.usize(0..bytes.len());
    let field = random.usize(0..bytes.len() - 8);
    match random.u8(0..8) {
        0 | 1 => {
            bytes[place] ^= 1 << random.u8(0..8);
            ("bit", bytes)
        }
        2 => {
            let second = random.usize(0..bytes.len() - 8);
            for offset in 0..8 {
                bytes.swap(field + offset, second + offset);
            }
            ("swapped fields", bytes)
        }
        3 => {
            let end = (field + 8).min(other.len());
            bytes[field..end].copy_from_slice(&other[field..end]);
            ("field of another", bytes)
        }
        4 => {
            bytes.truncate(place);
            bytes.extend(&other[place.min(other.len())..]);
            ("head and tail of two", bytes)
        }
        5 => {
            let number = u64::from_be_bytes(*bytes[field..].first_chunk().unwrap());
            let more = number.wrapping_add(random.u64(1..1 << 40));
            bytes[field..field + 8].copy_from_slice(&more.to_be_bytes());
            ("greater number", bytes)
        }
        6 => {
            bytes.truncate(place);
            ("cut", bytes)
        }
        _ => ("character", bytes),
    }
}

fn ticket_keys(ids: &[u8]) -> TicketKeys {
    let mut keys = ids.iter().map(|id| TicketKey::new(u32::from(*id), [*id; 32]).unwrap());
    TicketKeys::new(keys.next().unwrap(), keys).unwrap()
}

fn claims(number: u64, device: Option<SubjectId>) -> Claims {
    Claims {
        activity: ActivityId::new(number).unwrap(),
        sku: SkuId::new(number + 1).unwrap(),
        user: UserId::new(number + 2).unwrap(),
        user_name: Name::new("李雷").unwrap(),
        device,
    }
}

fn tickets(tally: &mut Tally, random: &mut Rng) {
    let keys = ticket_keys(&[1]);
    let issue =
        |keys: &TicketKeys, number, device| keys.issue(claims(number, device), NOW, LATER).unwrap().text;
    let holds = |text: &str, device| keys.verify(text, NOW, device).is_ok_and(|ticket| !ticket.expired);
    let originals = [issue(&keys, 10, None), issue(&keys, 1_000, None)];
    tally.alter("ticket", originals.each_ref().map(String::as_str), random, |text| holds(text, None));
    let device = Some(SubjectId(7));
    let originals = [issue(&keys, 10, device), issue(&keys, 1_000, device)];
    tally.alter("bound ticket", originals.each_ref().map(String::as_str), random, |text| holds(text, device));
    let retired = ticket_keys(&[9]);
    let impostor = TicketKeys::new(TicketKey::new(1, [5; 32]).unwrap(), []).unwrap();
    for number in 1..=MISPLACED {
        let bound = issue(&keys, number, device);
        tally.refused("ticket", "other device", holds(&bound, Some(SubjectId(random.u64(8..)))), &bound);
        tally.refused("ticket", "no device", holds(&bound, None), &bound);
        let old = issue(&retired, number, None);
        tally.refused("ticket", "old key", holds(&old, None), &old);
        let other = issue(&impostor, number, None);
        tally.refused("ticket", "other key", holds(&other, None), &other);
        let expired = keys.issue(claims(number, None), NOW, NOW).unwrap().text;
        tally.refused("ticket", "expired", holds(&expired, None), &expired);
    }
}

fn sessions(tally: &mut Tally, random: &mut Rng) {
    let ring = |name: &[u8]| Ring::new(Secret::new(name), []);
    let sessions = |name: &[u8]| {
        Sessions::new(&ring(name), Duration::from_secs(300), Issuer::new(&IdentityKey::new([7; 32]), ""))
    };
    let (retired, sessions) = (sessions(b"a key that was retired.."), sessions(b"the key of the sessions"));
    let name = Name::new("韩梅梅").unwrap();
    let issue = |sessions: &Sessions, user: &str| sessions.issue(&Identity::new(user).unwrap(), &name, NOW).0;
    for (kind, users) in [("session", ["10", "1000"]), ("session of a text", ["auth0|10", "auth0|1000"])] {
        let originals = users.map(|user| issue(&sessions, user));
        let texts = originals.each_ref().map(String::as_str);
        tally.alter(kind, texts, random, |text| sessions.verify(text, NOW).is_some());
    }
    for number in 1..=MISPLACED {
        let old = issue(&retired, &number.to_string());
        tally.refused("session", "old key", sessions.verify(&old, NOW).is_some(), &old);
        let own = issue(&sessions, &number.to_string());
        tally.refused("session", "expired", sessions.verify(&own, LATER).is_some(), &own);
    }
}

fn receipts(tally: &mut Tally, random: &mut Rng) {
    let receipts = Receipts::new(&Ring::new(Secret::new(*b"the key of the receipts"), []));
    let order_of = |activity: u64, order: u64| OrderRef {
        activity: activity.try_into().unwrap(),
        order: order.try_into().unwrap(),
    };
    let order = order_of(7, 77);
    let issue = |order, user: u64| {
        let position = Position { epoch: Epoch(1), sequence: user, batch: BatchId(user) };
        receipts.issue(order, Receipt { user: UserId::new(user).unwrap(), position })
    };
    let originals = [issue(order, 10), issue(order, 1_000)];
    let texts = originals.each_ref().map(String::as_str);
    tally.alter("receipt", texts, random, |text| receipts.verify(order, text).is_some());
    for number in 100..100 + MISPLACED {
        let other = issue(order_of(7, number), 10);
        tally.refused("receipt", "other order", receipts.verify(order, &other).is_some(), &other);
        let other = issue(order_of(number, 77), 10);
        tally.refused("receipt", "other activity", receipts.verify(order, &other).is_some(), &other);
    }
}

fn challenges(tally: &mut Tally, random: &mut Rng) {
    let (activity, sku) = (ActivityId::new(1).unwrap(), SkuId::new(2).unwrap());
    let user = |number: NonZeroU64| UserId::new(number.get()).unwrap();
    let me = user(NonZeroU64::MIN);
    let keys = ChallengeKeys::new([(1, [1; 32])]).unwrap();
    let retired = ChallengeKeys::new([(9, [9; 32])]).unwrap();
    let issue = |keys: &ChallengeKeys, activity, sku, user, expires_at| {
        keys.issue(activity, sku, user, Exercise::ProofOfWork, expires_at).unwrap().text
    };
    let holds = |text: &str| keys.verify(text, activity, sku, me, NOW).is_ok();
    let originals = [issue(&keys, activity, sku, me, LATER), issue(&keys, activity, sku, me, LATER)];
    tally.alter("challenge", originals.each_ref().map(String::as_str), random, holds);
    for number in 3..3 + MISPLACED {
        for (kind, text) in [
            ("other activity", issue(&keys, ActivityId::new(number).unwrap(), sku, me, LATER)),
            ("other offer", issue(&keys, activity, SkuId::new(number).unwrap(), me, LATER)),
            ("other user", issue(&keys, activity, sku, user(NonZeroU64::new(number).unwrap()), LATER)),
            ("expired", issue(&keys, activity, sku, me, NOW)),
            ("old key", issue(&retired, activity, sku, me, LATER)),
        ] {
            tally.refused("challenge", kind, holds(&text), &text);
        }
    }
}

fn callbacks(tally: &mut Tally, random: &mut Rng) {
    let (secret, old) =
        (Secret::new(*b"the secret of callbacks"), Secret::new(*b"a secret that was retired"));
    let ring = Ring::new(secret.clone(), []);
    let holds = |header: &str, body: &[u8]| signature::verify(&ring, header, body, NOW).is_ok();
    let body =
        json!({ "event_id": "e1", "payment_id": "1-0-5", "kind": "captured", "amount": 100 }).to_string();
    let header = signature::sign(&secret, NOW, body.as_bytes());
    assert!(holds(&header, body.as_bytes()));
    for number in 0..ALTERED / 2 {
        let mut other = body.clone().into_bytes();
        let place = random.usize(0..other.len());
        other[place] ^= 1 << random.u8(0..8);
        tally.refused("callback", "bit of the body", holds(&header, &other), &header);
        let mut altered = header.clone().into_bytes();
        let place = random.usize(0..altered.len());
        altered[place] = random.u8(0x21..0x7f);
        // Hexadecimal digits may be in either case.
        let altered = String::from_utf8(altered).unwrap();
        if !altered.eq_ignore_ascii_case(&header) {
            tally.refused("callback", "character of the header", holds(&altered, body.as_bytes()), &altered);
        }
        if number % 5 == 0 {
            let away = Duration::from_secs(302 + number);
            for (kind, header) in [
                ("too old", signature::sign(&secret, NOW.before(away), body.as_bytes())),
                ("future", signature::sign(&secret, NOW.after(away), body.as_bytes())),
                ("old key", signature::sign(&old, NOW, body.as_bytes())),
            ] {
                tally.refused("callback", kind, holds(&header, body.as_bytes()), &header);
            }
        }
    }
}

#[test]
fn none_of_a_million_forged_credentials_is_accepted() {
    let (mut tally, mut random) = (Tally::default(), Rng::with_seed(0xf0_2c_ed));
    tickets(&mut tally, &mut random);
    sessions(&mut tally, &mut random);
    receipts(&mut tally, &mut random);
    challenges(&mut tally, &mut random);
    callbacks(&mut tally, &mut random);
    for ((credential, kind), count) in &tally.0 {
        println!("{credential:<13} {kind:<24} {count:>8} rejected");
    }
    let total: u64 = tally.0.values().sum();
    println!("{total} forged credentials, 0 accepted");
    assert!(total >= 1_000_000, "{total}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_parallel_uses_of_a_ticket_create_one_order() {
    let shop = Shop::with(|config| config.guard.set_all(Mode::Off)).await;
    let buyer = shop.buyer(1).await;
    let ticket = buyer.ticket(11).await;
    // Both ends of every connection are in this process, so raise its file limit.
    let files = rustix::process::getrlimit(Resource::Nofile);
    let all = Rlimit { current: files.maximum, maximum: files.maximum };
    rustix::process::setrlimit(Resource::Nofile, all).unwrap();
    let uses = (0..1_000).map(|number| {
        let (public, path) = (shop.public, format!("/v1/orders/{ticket}"));
        tokio::spawn(async move {
            let key = format!("key-{number}");
            let (headers, body) = ([("idempotency-key", key.as_str())], json!({ "quantity": 1 }));
            let mut client = Client::new(public);
            let answer = client.request(Method::POST, &path, &headers, Some(&body)).await.unwrap();
            if answer.status == 201 { "placed".to_owned() } else { answer.code().to_owned() }
        })
    });
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for code in futures_util::future::join_all(uses).await {
        *counts.entry(code.unwrap()).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([("placed".to_owned(), 1), ("ticket_used".to_owned(), 999)]));
    assert_eq!(shop.stock(11).await["held"], 1);
    shop.close().await;
}
