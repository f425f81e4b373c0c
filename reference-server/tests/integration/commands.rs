//! Commands against a running server and against a data directory.

use std::{
    io::{self, PipeWriter},
    path::Path,
    process::{Command, Stdio},
};

use hyper::Method;
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

/// Imports files into a new data directory. Returns whether it succeeded, and the output, in which
/// the directory of the files is left out.
async fn import(files: &[(&str, &str)], more: &[&str]) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<_> = files
        .iter()
        .map(|(name, content)| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        })
        .collect();
    let data = directory.path().join("data");
    let mut arguments = vec!["import", "--data", text(&data)];
    arguments.extend(paths.iter().map(|path| text(path)));
    arguments.extend(more);
    let (done, printed) = run(&arguments).await;
    (done, printed.replace(&format!("{}/", text(directory.path())), ""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_spreadsheets_are_read_or_explained() {
    let header = "id,name,description,image\n";
    for (case, content) in [
        ("rows of commas", format!("{header}1,Tee,,\n,,,\n,,,\n")),
        ("empty columns", "id,name,description,image,,\n1,Tee,,,,\n".to_owned()),
        ("no-break spaces", format!("{header}1,\u{a0} Tee\u{a0} ,\"100\u{a0} % cotton\",\n")),
        ("tabs in a description", format!("{header}1,Tee,\"Size\tChest\nM\t96 cm\",\n")),
        ("a lone CR in quotes", format!("{header}1,Tee,\"line one\rline two\",\n")),
        ("lines that end with CR", format!("{header}1,Tee,,\n").replace('\n', "\r")),
        (
            "a long address of a picture",
            format!("{header}1,Tee,,https://cdn.example/{}.jpg?v=1\n", "picture".repeat(200)),
        ),
    ] {
        let (done, printed) = import(&[("products.csv", &content)], &[]).await;
        assert!(done && printed.contains("products: 1 created"), "{case}: {printed}");
    }
    for (case, content, fault) in [
        (
            "lines that end with CR",
            "id,name\r1,Tee\r2,Cap\rx,Mug\r",
            "products.csv:4: id: an id is a decimal number from 1 to 2^63-1: \"x\"",
        ),
        (
            "a backslash before a quote",
            "id,name\n1,\"Tee \\\"Rock\\\" black\"\n",
            "products.csv:2: name: a backslash does not escape a quote; a quote inside a quoted field must be doubled",
        ),
        (
            "text after a quote",
            "id,name\n1,\"Cap\"red\n",
            "products.csv:2: name: text after the closing quote; a quote inside a quoted field must be doubled",
        ),
        (
            "a note to a spreadsheet",
            "sep=,\nid,name\n1,Tee\n",
            "products.csv:1: sep= is a note to spreadsheet programs and not part of the table; remove this line",
        ),
        ("tabs", "id\tname\n1\tTee\n", "products.csv:1: columns must be separated by commas"),
        (
            "an unseen character",
            "id,name\n\u{200b}1,Tee\n",
            "products.csv:2: id: an id is a decimal number from 1 to 2^63-1: \"\\u{200b}1\"",
        ),
        (
            "an unseen name",
            "id,name\n1,\u{200b}\n",
            "products.csv:2: name: has no visible character: \"\\u{200b}\"",
        ),
    ] {
        let (done, printed) = import(&[("products.csv", content)], &[]).await;
        assert!(!done && printed.lines().any(|line| line.ends_with(fault)), "{case}: {printed}");
        assert!(printed.contains("nothing was imported"), "{case}: {printed}");
    }

    let sale = async |starts_at: &str, ends_at: &str, price: &str| {
        let activities = format!(
            "id,name,starts_at,ends_at,creator,reviewer,status\n101,Sale,{starts_at},{ends_at},ann,bo,published\n"
        );
        let offers = format!(
            "activity_id,sku_id,price_minor,currency,units,strategy,hold_seconds\n101,11,{price},CNY,5,pre_deduct,900\n"
        );
        let files = [
            ("products.csv", "id,name\n1,Tee\n"),
            ("skus.csv", "id,product_id,name,price_minor,currency\n11,1,Red / L,1000,CNY\n"),
            ("activities.csv", &*activities),
            ("offers.csv", &*offers),
        ];
        import(&files, &[]).await
    };
    let start = "2026-11-11T20:00:00+08:00";
    for (starts_at, ends_at, price) in [
        ("now-10m", "now+2h", "0"),
        ("2026-11-11T20:00:00+08:00[Asia/Shanghai]", "2026-11-11T22:00:00+08:00[Asia/Shanghai]", "900"),
        (start, "9999-12-31", "900"),
        (start, "9999-12-31T23:59:59Z", "900"),
    ] {
        let (done, printed) = sale(starts_at, ends_at, price).await;
        assert!(done && printed.contains("activities: 1 created"), "{printed}");
    }
    let (done, printed) = sale("2026-11-11T20:00:00+08:00[America/New_York]", "9999-12-31", "900").await;
    let expected = "activities.csv:2: starts_at: \"2026-11-11T20:00:00+08:00[America/New_York]\" has a time zone that is \
                    unknown or has another offset then; write a time such as 2026-11-11T20:00:00+08:00 or now+2h";
    assert!(!done && printed.contains(expected), "{printed}");
}

/// What a shop at Shopify exports, shortened.
const SHOPIFY: &str = "\
Handle,Title,Body (HTML),Vendor,Option1 Name,Option1 Value,Option2 Name,Option2 Value,Variant SKU,Variant Price,Image Src,Status
tee,Rock Tee,\"<p>Soft &amp; warm.</p><ul><li>100 % cotton</li></ul>\",Acme,Size,L,Color,Red,T-L-R,19.90,https://cdn.example/1.jpg,active
tee,,,,,M,,Red,T-M-R,19.90,https://cdn.example/2.jpg,
tee,,,,,,,,,,https://cdn.example/3.jpg,
mug,Mug,,Acme,Title,Default Title,,,M-1,8,,active
old,Old Tee,,Acme,Title,Default Title,,,O-1,5.00,,archived
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn products_of_shopify_are_imported_and_what_is_left_out_is_said() {
    let flags = ["--format", "shopify", "--currency", "USD"];
    let (done, printed) = import(&[("products_export_1.csv", SHOPIFY)], &flags).await;
    assert!(
        done && printed.contains("products: 2 created") && printed.contains("SKUs: 3 created"),
        "{printed}"
    );
    for line in [
        "left out:",
        "  products that are not active: 1 (old)",
        "  further pictures of a product: 2",
        "  column \"Vendor\", rows with content: 2",
        "  column \"Variant SKU\", rows with content: 3",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in {printed}");
    }

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("export.csv");
    std::fs::write(&file, SHOPIFY).unwrap();
    let shop = Shop::on(&directory.path().join("data")).await;
    let server = shop.operations.to_string();
    let remote = [&["import", text(&file), "--server", &server], &flags[..]].concat();
    let (done, printed) = run(&remote).await;
    assert!(done && printed.contains("SKUs: 3 created") && printed.contains("left out:"), "{printed}");
    let (done, printed) = run(&remote).await;
    assert!(done && printed.contains("products: 0 created, 0 changed, 2 unchanged"), "{printed}");
    let products = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/products", None).await;
    let tee =
        products.body["items"].as_array().unwrap().iter().find(|item| item["name"] == "Rock Tee").unwrap();
    assert_eq!(tee["description"], "Soft & warm.\n• 100 % cotton");
    assert_eq!(tee["image"], "https://cdn.example/1.jpg");
    let skus = shop.operate(OperatorRole::Auditor, Method::GET, "/v1/skus", None).await;
    let mut shown: Vec<_> = skus.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sku| (sku["name"].as_str().unwrap(), sku["list_price"]["amount"].as_u64().unwrap()))
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, [("L / Red", 1_990), ("M / Red", 1_990), ("Mug", 800)]);
    shop.close().await;

    for (change, fault) in [
        (
            ("19.90", "19.999"),
            "export.csv:2: Variant Price: \"19.999\" is not a price in USD such as 1299.00",
        ),
        (("mug,Mug", ",Mug"), "export.csv:5: Handle: must not be empty"),
        (("Mug,,", ",,"), "export.csv:5: Title: must not be empty"),
        (
            ("tee,,,,,M", "tee,Tee,,,,M"),
            "export.csv:3: Title: the handle \"tee\" has another title at line 2",
        ),
        (
            ("\"<p>", "<p>\""),
            "export.csv:2: Body (HTML): a quote in a field without quotes; put the field in quotes and double the quote",
        ),
        (
            ("Variant Price", "Preis"),
            "export.csv:1: Variant Price: required column is missing; is this a product export of Shopify?",
        ),
    ] {
        let content = SHOPIFY.replacen(change.0, change.1, 1);
        let (done, printed) = import(&[("export.csv", &content)], &flags).await;
        assert!(!done && printed.lines().any(|line| line.ends_with(fault)), "{fault}: {printed}");
    }
    for (flags, message) in [
        (&["--format", "shopify"][..], "--format shopify needs --currency"),
        (&["--currency", "USD"], "--currency is only for --format shopify"),
        (&["--format", "shopify", "--currency", "usd"], "is not an ISO 4217 code such as CNY"),
    ] {
        let (done, printed) = import(&[("export.csv", SHOPIFY)], flags).await;
        assert!(!done && printed.contains(message), "{printed}");
    }
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
