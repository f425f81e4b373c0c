//! Commands against a running server and against a data directory.

use std::{
    io::{self, PipeWriter},
    path::Path,
    process::{Command, Stdio},
};

use reference_server::config::OperatorRole;

use crate::shop::{Shop, catalogue, token};

/// Runs the binary. Returns whether it succeeded, and its output.
pub(crate) async fn run(arguments: &[&str]) -> (bool, String) {
    run_in(Path::new("."), arguments).await
}

async fn run_in(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reference-server"));
    command.current_dir(directory);
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
    assert!(done && printed == format!("backup written to {}\n", copy.display()), "{printed}");
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
    assert!(done && printed.contains(text(&again)), "{printed}");
    let (done, printed) = run(&["audit", "--data", text(&directory.path().join("nothing"))]).await;
    assert!(!done && printed.contains("holds no data"), "{printed}");
}

/// A relative path means another directory to a server than to the person who types the command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_to_a_relative_path_names_the_absolute_one() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    // Relative to this process, in which the server runs; the command runs elsewhere.
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count());
    let relative = format!("{up}{}/copy", text(directory.path()).trim_start_matches('/'));
    let shop = Shop::on(&data).await;
    let server = shop.operations.to_string();
    let (done, printed) = run_in(directory.path(), &["backup", &relative, "--server", &server]).await;
    let written = printed.trim_end().strip_prefix("backup written to ").unwrap_or_default();
    assert!(done && written == text(&here.join(&relative)), "{printed}");
    shop.close().await;

    // Without a server the command's own directory counts.
    let (done, printed) = run_in(directory.path(), &["backup", "again", "--data", "data"]).await;
    let written = directory.path().join("again");
    assert!(done && printed.starts_with(&format!("backup written to {}\n", written.display())), "{printed}");
    assert!(written.join("catalogue.redb").exists() && directory.path().join("copy").exists());
}

/// Returns a pipe that nobody reads, as `head` leaves it behind.
fn closed_pipe() -> PipeWriter {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_pipe_changes_neither_the_work_nor_the_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let (data, copy) = (directory.path().join("data"), directory.path().join("copy"));
    let sale = directory.path().join("sale.json");
    std::fs::write(&sale, catalogue().to_string()).unwrap();
    let wrong = directory.path().join("wrong.toml");
    std::fs::write(&wrong, "[http]\nhead_fields = 101\n").unwrap();
    let data = ["--data", text(&data)];
    let cases: [(&[&str], i32); 6] = [
        (&["import", text(&sale)], 0),
        (&["audit", "--verify"], 0),
        (&["backup", text(&copy)], 0),
        (&["check-config", "--in-memory"], 0),
        (&["check-config", "--help"], 0),
        (&["check-config", "--config"], 1),
    ];
    for (arguments, code) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reference-server"));
        command.args(arguments).env("FLASHSALE_LOG", "off").stdout(closed_pipe()).stderr(Stdio::piped());
        match (arguments, code) {
            (_, 1) => command.arg(&wrong).stderr(closed_pipe()),
            (["check-config", ..], _) => &mut command,
            _ => command.args(data),
        };
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*printed), (Some(code), ""), "{arguments:?}");
    }
    assert!(copy.join("catalogue.redb").exists());
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

#[tokio::test]
async fn check_config_says_what_to_write_instead_of_what_cannot_work() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.toml");
    let origin = "http.cors_origins[0]: ";
    let is_list = "is a list; write it in brackets";
    for (line, key, write) in [
        ("cors_origins = [\"https://shop.example/\"]", origin, "write \"https://shop.example\""),
        ("cors_origins = [\"https://Shop.Example\"]", origin, "write \"https://shop.example\""),
        ("cors_origins = [\"https://shop.example:443/en\"]", origin, "write \"https://shop.example\""),
        ("cors_origins = [\"*\"]", origin, "write each origin by itself"),
        ("cors_origins = \"https://shop.example\"", "http.cors_origins: ", is_list),
        ("cors_headers = [\"*\"]", "http.cors_headers: ", "write each header by its name"),
        ("trusted_proxies = [\"10.0.0.1\", \"proxy\"]", "http.trusted_proxies: ", "entry 2 is no address"),
        ("trusted_proxies = \"10.0.0.1\"", "http.trusted_proxies: ", is_list),
        ("public = \"8080\"", "http.public: ", "such as 127.0.0.1:8080"),
        ("public = \"nowhere.invalid:8080\"", "http.public: ", "write an address"),
        ("operations = \"127.0.0.1:8080\"", "http.operations: ", "give another port"),
        ("public_url = \"https://shop.example/\"", "http.public_url: ", "without a trailing slash"),
    ] {
        std::fs::write(&file, format!("[http]\n{line}\n")).unwrap();
        let (done, printed) = run(&["check-config", "--config", text(&file)]).await;
        let said = printed.lines().any(|said| said.trim_start().starts_with(key) && said.contains(write));
        assert!(!done && said && printed.contains("1 problem(s)"), "{line}: {printed}");
    }
    for (line, shown) in [
        ("public = \"localhost:8080\"", "http.public = \"localhost:8080\" "),
        ("trusted_proxies = [\"10.0.0.1\"]", "http.trusted_proxies = [\"10.0.0.1/32\"] "),
        ("cors_origins = [\"http://localhost:3000\"]", "http.cors_origins = [\"http://localhost:3000\"] "),
        ("cors_headers = [\"X-Shop\"]", "http.cors_headers = [\"x-shop\"] "),
    ] {
        std::fs::write(&file, format!("[http]\n{line}\n")).unwrap();
        let (done, printed) = run(&["check-config", "--config", text(&file)]).await;
        assert!(done && printed.lines().any(|line| line.starts_with(shown)), "{line}: {printed}");
    }
}
