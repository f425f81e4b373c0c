//! Commands against a running server and against a data directory.

use std::{path::Path, process::Command};

use reference_server::config::OperatorRole;

use crate::shop::{Shop, catalogue, token};

/// Runs the binary. Returns whether it succeeded, and its output.
pub(crate) async fn run(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reference-server"));
    command.args(arguments).env("FLASHSALE_TOKEN", token(OperatorRole::Operator)).env("NO_COLOR", "1");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_work_with_a_running_server_and_with_a_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (data, copy) = (directory.path().join("data"), directory.path().join("copy"));
    let file = directory.path().join("sale.json");
    std::fs::write(&file, catalogue().to_string()).unwrap();
    let shop = Shop::on(&data).await;
    let server = shop.operations.to_string();

    let (done, printed) = run(&["import", text(&file), "--server", &server]).await;
    assert!(done && printed.contains("SKUs: 5 created"), "{printed}");
    let (done, printed) = run(&["import", text(&file), "--server", &server]).await;
    assert!(done && printed.contains("activities: 0 created, 0 changed, 3 unchanged"), "{printed}");
    shop.buyer(1).await.buy(11, 3).await;

    std::fs::write(&file, "{\"skus\": [{}]}").unwrap();
    let (done, printed) = run(&["import", text(&file), "--server", &server]).await;
    assert!(!done && printed.contains("sale.json:1:"), "{printed}");
    let (done, printed) = run(&["import", text(&file), "--data", text(&data)]).await;
    assert!(!done && printed.contains("another process") && printed.contains("--server"), "{printed}");
    let (done, printed) = run(&["audit", "--server", &server, "--token", "not the right token"]).await;
    assert!(!done && printed.contains("401"), "{printed}");
    let (done, printed) = run(&["audit", "--server", &server]).await;
    assert!(done && printed.contains("all invariants hold"), "{printed}");
    let offer: Vec<&str> = printed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(offer, ["1", "11", "100", "0", "97", "3", "0", "0", "1"], "{printed}");
    let (done, printed) = run(&["audit", "--verify", "--server", &server]).await;
    assert!(done && printed.contains("9 rows") && printed.contains("as it was written"), "{printed}");
    let (done, printed) = run(&["backup", text(&copy), "--server", &server]).await;
    assert!(done, "{printed}");
    shop.close().await;
    let (done, printed) = run(&["audit", "--server", &server]).await;
    assert!(!done && printed.contains("does not answer"), "{printed}");

    // Without a server the commands open the directory themselves.
    let (restored, again) = (directory.path().join("restored"), directory.path().join("again"));
    let (done, printed) = run(&["restore", text(&copy), "--data", text(&restored)]).await;
    assert!(done, "{printed}");
    for data in [&data, &restored] {
        let (done, printed) = run(&["audit", "--verify", "--data", text(data)]).await;
        assert!(done && printed.contains("9 rows"), "{printed}");
        let (done, printed) = run(&["audit", "--data", text(data)]).await;
        assert!(done && printed.contains("97"), "{printed}");
    }
    let (done, printed) = run(&["backup", text(&again), "--data", text(&restored)]).await;
    assert!(done, "{printed}");
    let (done, printed) = run(&["audit", "--data", text(&directory.path().join("nothing"))]).await;
    assert!(!done && printed.contains("holds no data"), "{printed}");
}

#[tokio::test]
async fn check_config_shows_effective_settings_and_no_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        text(&path).to_owned()
    };
    let token = file("token", "hidden-token-of-the-tests\n");
    let good = format!(
        "[http]\nworkers = 2\n[[operations.tokens]]\nname = \"ann\"\nroles = [\"auditor\"]\ntoken_file = \"{token}\"\n\
         [[operations.tokens]]\nname = \"bob\"\nroles = [\"operator\"]\ntoken = \"hidden-token-of-bob\"\n"
    );
    let config = file("good.toml", &good);
    let (done, printed) = run(&["check-config", "--config", &config, "--in-memory"]).await;
    assert!(done, "{printed}");
    for (start, source) in [
        ("http.workers = 2 ", "# file "),
        ("storage.in_memory = true ", "# flag --in-memory"),
        ("operations.tokens[0].name = \"ann\" ", "# file "),
        ("operations.tokens[1].token = \"set\" ", "# file "),
        ("http.backlog = 4096 ", "# default"),
    ] {
        let line = printed.lines().find(|line| line.starts_with(start));
        assert!(line.is_some_and(|line| line.contains(source)), "{start} in {printed}");
    }
    assert!(!printed.contains("hidden"), "{printed}");

    let bad = format!("{good}token_file = \"/nowhere\"\n[http.workers]\n");
    let (done, printed) = run(&["check-config", "--config", &file("bad.toml", &bad)]).await;
    assert!(!done && printed.contains("line 12: ") && !printed.contains("hidden"), "{printed}");
    let bad = "speed = 1\n[secrets]\nsession_key_file = \"a\"\nsession_key_files = [\"/nowhere\"]\n";
    let (done, printed) = run(&["serve", "--config", &file("worse.toml", bad)]).await;
    assert!(!done, "{printed}");
    for problem in [
        "3 problem(s)",
        "speed: ",
        "use secrets.session_key_files instead",
        "session_key_files[0]: /nowhere: ",
    ] {
        assert!(printed.contains(problem), "{problem} in {printed}");
    }
}
