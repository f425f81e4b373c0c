//! The server fails with a helpful error when it cannot work, and overwrites nothing.

use std::{fs, path::Path, process::Command};

use flashsale_core::domain::{Strategy, UserId};
use flashsale_testkit::{
    buyers::{Buyer, BuyerScript, ClientLog, Crowd, Ending, Purchase, Sending, Shop},
    checks::Census,
    client::Client,
    disk::Disk,
    say,
};
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::site::{SOON, Site, contents, offer, run};

/// Runs `serve` and checks that it exits with an error that contains all of `words`.
fn assert_refuses(site: &Site, words: &[&str]) {
    let (exit, output) = run(site.command("serve"));
    assert!(!exit.success(), "the server started: {output}");
    for word in words {
        assert!(output.contains(word), "the error does not contain {word:?}: {output}");
    }
    assert!(!output.contains("panicked"), "{output}");
}

fn site_in(directory: &Path) -> Site {
    Site::new(directory.join("data"), vec![offer(1, Strategy::PreDeduct, 1_000, Some(600))])
}

fn buyers(site: &Site, users: std::ops::Range<u64>) -> Crowd {
    Crowd {
        users,
        offers: site.offers.clone(),
        connections: 8,
        seed: 0,
        part: Some(BuyerScript { sending: Sending::Once, ending: Ending::Leave, quantity: 1 }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_in(directory.path());
    let server = site.serve();
    let notes = ClientLog::new();
    assert_refuses(&site, &["another process", &site.data.display().to_string()]);
    let (exit, output) = run(site.command("audit"));
    assert!(!exit.success() && output.contains("another process") && output.contains("--server"), "{output}");
    buyers(&site, 1..100).buy(&server.shop, &notes).await;
    assert_eq!(notes.acknowledged_so_far(), 99, "the first process keeps working: {:?}", notes.violations());
}

#[test]
fn a_data_directory_that_cannot_be_created_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_in(directory.path());
    fs::write(directory.path().join("file"), "not a directory").unwrap();
    let site = site.moved_to(directory.path().join("file").join("data"));
    assert_refuses(&site, &[&site.data.display().to_string()]);
}

#[test]
fn a_read_only_data_directory_is_reported_and_left_unchanged() {
    let disk = match Disk::new(64) {
        Ok(disk) => disk,
        Err(refused) => {
            say(&format!("NOT RUN: {refused}"));
            return;
        }
    };
    let site = site_in(&disk.path());
    disk.make_read_only();
    let before = contents(&site.data);
    assert_refuses(&site, &[&site.data.display().to_string()]);
    assert!(contents(&site.data) == before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_reported_and_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_in(directory.path());
    let server = site.serve();
    buyers(&site, 1..100).buy(&server.shop, &ClientLog::new()).await;
    server.process.terminate();
    assert!(server.process.wait_for_exit(SOON).success(), "{}", server.process);

    // Smaller files are leases and locks, which every start rewrites.
    let files =
        contents(&site.data).into_iter().filter(|(_, content)| content.len() >= 4_096).collect::<Vec<_>>();
    assert!(!files.is_empty(), "no data files");
    for (file, good) in &files {
        let damages: [(&str, Vec<u8>); 4] = [
            ("it is empty", Vec::new()),
            ("its first bytes are overwritten", [vec![0xff; 64], good[64..].to_vec()].concat()),
            ("its second half is missing", good[..good.len() / 2].to_vec()),
            ("it is all zeros", vec![0; good.len()]),
        ];
        for (damage, bad) in damages {
            println!("{}: {damage}", file.display());
            fs::write(file, &bad).unwrap();
            assert_refuses(&site, &[&file.display().to_string()]);
            assert!(fs::read(file).unwrap() == bad, "the damaged file was overwritten");
        }
        fs::write(file, good).unwrap();
    }
    let server = site.serve();
    assert!(server.process.is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_sale_until_a_restart() {
    let disk = match Disk::new(64) {
        Ok(disk) => disk,
        Err(refused) => {
            say(&format!("NOT RUN: {refused}"));
            return;
        }
    };
    let site = site_in(&disk.path());
    let server = site.serve();
    let notes = ClientLog::new();
    buyers(&site, 1..200).buy(&server.shop, &notes).await;
    assert_eq!(notes.acknowledged_so_far(), 199, "{:?}", notes.violations());

    disk.fill();
    let mut client = Client::new(server.shop.operations);
    let mut public = Client::new(server.shop.public);
    // Free space inside the engine's file may last for a while.
    let declined = async {
        for user in 1_000.. {
            let status = try_to_buy(&server.shop, &notes, &mut public, &site, user).await;
            if status != StatusCode::CREATED {
                return status;
            }
        }
        unreachable!("users do not run out")
    };
    let status = tokio::time::timeout(SOON, declined).await.expect("a full disk stops the sale");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{}", server.process);
    let ready = client.request(Method::GET, "/readyz", &[], None).await.unwrap();
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{ready}");
    let alive = client.request(Method::GET, "/healthz", &[], None).await.unwrap();
    assert_eq!(alive.status, StatusCode::SERVICE_UNAVAILABLE, "{alive}");

    // The outcome of the last commits is unknown, so the sale needs more than free space to resume.
    disk.make_room();
    let status = try_to_buy(&server.shop, &notes, &mut public, &site, 1_000_000).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{}", server.process);
    server.process.kill();
    let server = site.serve();
    let mut public = Client::new(server.shop.public);
    let status = try_to_buy(&server.shop, &notes, &mut public, &site, 1_000_001).await;
    assert_eq!(status, StatusCode::CREATED, "{}", server.process);
    let census = Census::take(&server.shop, &notes, &site.offers).await;
    census.check(&site.offers, &notes).assert_none();
}

/// A supervisor restarts what ends with a failure; it cannot help a process that stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_cannot_work_any_more_says_so_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_in(directory.path());
    let server = site.serve_limited(&[("FLASHSALE__MONITOR__EXIT_AFTER_SECONDS", "10")]);
    let notes = ClientLog::new();
    buyers(&site, 1..50).buy(&server.shop, &notes).await;
    assert_eq!(notes.acknowledged_so_far(), 49, "{:?}", notes.violations());
    let mut operations = Client::new(server.shop.operations);
    let alive = operations.request(Method::GET, "/healthz", &[], None).await.unwrap();
    assert_eq!(alive.status, StatusCode::OK, "{alive}");

    server.process.limit_files(0);
    let mut public = Client::new(server.shop.public);
    let status = try_to_buy(&server.shop, &notes, &mut public, &site, 1_000).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{}", server.process);
    let failed = operations.request(Method::GET, "/healthz", &[], None).await.unwrap();
    assert_eq!((failed.status, failed.code()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"), "{failed}");
    let exit = server.process.wait_for_exit(SOON);
    assert_eq!(exit.code(), Some(1), "{}", server.process);
    let output = server.process.output();
    assert!(output.contains("could not work any more: ledger: "), "{output}");

    let server = site.serve();
    let mut public = Client::new(server.shop.public);
    let status = try_to_buy(&server.shop, &notes, &mut public, &site, 2_000).await;
    assert_eq!(status, StatusCode::CREATED, "{}", server.process);
    let census = Census::take(&server.shop, &notes, &site.offers).await;
    census.check(&site.offers, &notes).assert_none();
}

/// Makes one attempt to buy, without retries. Returns the status of the order request.
async fn try_to_buy(
    shop: &Shop,
    notes: &ClientLog,
    client: &mut Client,
    site: &Site,
    user: u64,
) -> StatusCode {
    let user = UserId::new(user).unwrap();
    let offer = site.offers[0];
    let buyer = Buyer::sign_in(shop, notes, client, user).await.unwrap();
    let ticket = buyer.ticket(client, &offer).await.unwrap().expect("tickets need no disk");
    let number = notes.intent(Purchase::new(offer, user, ticket.clone(), 1));
    let body = json!({ "quantity": 1 });
    let answer =
        client.request(Method::POST, &format!("/v1/orders/{ticket}"), &[], Some(&body)).await.unwrap();
    if answer.status == StatusCode::CREATED {
        notes.told(number, &serde_json::from_value(answer.body.clone()).unwrap());
    } else {
        notes.unanswered(number);
    }
    answer.status
}

#[test]
fn an_unknown_configuration_key_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_in(directory.path());
    let wrong = directory.path().join("wrong.toml");
    fs::write(&wrong, "[http]\npublik = \"127.0.0.1:0\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reference-server"));
    command.arg("serve").arg("--data").arg(&site.data).arg("--config").arg(&wrong);
    let (exit, output) = run(command);
    assert!(!exit.success() && output.contains("publik") && output.contains("public"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_can_be_given_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let site = site_in(directory.path());
    let server = site.serve_with(&[("FLASHSALE__HTTP__PUBLIC", "localhost:0")]);
    assert!(server.shop.public.ip().is_loopback(), "{}", server.process);
    let time = Client::new(server.shop.public).request(Method::GET, "/v1/time", &[], None).await.unwrap();
    assert_eq!(time.status, StatusCode::OK, "{time}");
}
