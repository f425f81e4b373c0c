//! The commands other than `serve`. They call a running server, or open the data directory.

use std::{
    env,
    error::Error,
    fmt, io,
    path::{self, Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use flashsale_core::{
    catalogue::{AuditBreak, AuditCheck, Catalogue as _},
    domain::{Attribution, Clock, SystemClock},
    embedded::{EmbeddedCatalogue, EmbeddedIdentities, EmbeddedLedger, EmbeddedOptions, EmbeddedQueue},
    ledger::{LedgerRole, Timing},
    queue::{DeadLetter, JobNumber, Queue as _},
    service::{BatcherOptions, Operations, Payments, Sales},
    snowflake::{Generator, InMemoryLease, Settings},
};
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::{
    app::by,
    backup::{self, Backup as _, EmbeddedBackup},
    bidi,
    cli::check_config,
    cli::{
        args::{
            AuditArgs, BackupArgs, DeadLettersArgs, ImportArgs, ImportFormat, PublishArgs, RestoreArgs,
            ServeArgs, ServerArgs, StorageArgs,
        },
        output::say,
        remote_server::{RemoteError, RemoteServer},
    },
    config::Config,
    import,
    monitoring::reconciliation::{self, Findings},
    runtime::background::Background,
    storefront::{
        export,
        pages::Site,
        products::AllProductDocuments,
        published::{PublishedCatalogue, Range},
    },
};

type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Imports products, SKUs, activities and offers from files.
///
/// # Errors
/// All faults of all files, or the server or the data directory cannot be used.
pub fn import(args: &ImportArgs) -> Outcome {
    let shopify = match (args.format, args.currency) {
        (ImportFormat::Flashsale, None) => None,
        (ImportFormat::Flashsale, Some(_)) => {
            return Err("--currency is only for --format shopify; other files name their currencies".into());
        }
        (ImportFormat::Shopify, currency) => {
            let currency = currency.ok_or("--format shopify needs --currency, such as USD")?;
            Some(import::read_shopify(&args.files, currency)?)
        }
    };
    let background = Background::start()?;
    background.block_on(async {
        if let Some(server) = remote(&args.server)? {
            let body = match &shopify {
                Some((input, _)) => json!({ "products": input.set.products, "skus": input.set.skus }),
                None => json!({ "files": files(&args.files)? }),
            };
            let report = server.call(Method::POST, "/v1/import", Some(&body)).await?;
            say(show_report(&report)?)?;
        } else {
            let directory = directory(&args.storage)?;
            let catalogue = EmbeddedCatalogue::open(&directory, Arc::new(SystemClock)).map_err(in_use)?;
            let by = by("command line", "import");
            let report = match &shopify {
                Some((input, _)) => input.import(&catalogue, &by).await?,
                None => import::read(&args.files, SystemClock.now())?.import(&catalogue, &by).await?,
            };
            say(report)?;
        }
        if let Some((_, left_out)) = &shopify {
            say(left_out)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Loads files to send them. Parses them first: only UTF-8 can be sent, and faults need no round trip.
fn files(paths: &[PathBuf]) -> Result<Vec<Value>, import::ImportErrors> {
    let sources = import::load(paths)?;
    import::parse(&sources, SystemClock.now())?;
    let file = |source: &import::Source| json!({ "name": source.name, "content": String::from_utf8_lossy(&source.content) });
    Ok(sources.iter().map(file).collect())
}

/// Exports the published pages as files.
///
/// # Errors
/// If the API URL is missing or invalid, or data or files cannot be read or written.
pub fn publish(args: &PublishArgs) -> Outcome {
    let serve = ServeArgs { storage: args.storage.clone(), demo: args.demo, ..ServeArgs::default() };
    let config = Config::load(&serve)?;
    let api = args.api_base.clone().or_else(|| config.http.public_url.clone());
    let api = api.ok_or("give --api-base (or http.public_url): the URL of the public listener")?;
    let site = Site::exported(config.identity.demo, &api)
        .ok_or("--api-base: give scheme and host without a trailing slash, such as https://api.example")?;
    let background = Background::start()?;
    let (published, product_documents) = background.block_on(async {
        let catalogue = open_catalogue(&config.storage.directory)?;
        let (range, now) = (Range::read(&catalogue).await?, SystemClock.now());
        let published = PublishedCatalogue::fill(range, &site, None, now)?;
        published.render_all(&site)?;
        let product_documents = AllProductDocuments::write(&catalogue, (&published, now), &site).await?;
        Ok::<_, Box<dyn Error>>((published, product_documents))
    })?;
    let written = export::write(&published, &product_documents, &args.out)?;
    let (files, removed) = (written.files, written.removed);
    say(format_args!("{files} files written to {}, {removed} removed", args.out.display()))?;
    if config.http.cors_origins.is_empty() {
        say("Add the origin of these pages to http.cors_origins of the server; here it is empty.")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a backup.
///
/// # Errors
/// If the server refuses, or the data cannot be copied.
pub fn backup(args: &BackupArgs) -> Outcome {
    let background = Background::start()?;
    background.block_on(async {
        if let Some(server) = remote(&args.server)? {
            let request = json!({ "directory": args.to });
            let answer = server.call(Method::POST, "/v1/backup", Some(&request)).await?;
            // A relative path is relative to the server's directory, which only the server knows.
            let written = answer["directory"].as_str().map_or_else(|| args.to.clone(), PathBuf::from);
            say(format_args!("backup written to {}", written.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let to = path::absolute(&args.to)?;
        let directory = directory(&args.storage)?;
        let (ledger, catalogue) = open(&directory)?;
        let queue = open_queue(&directory)?;
        let identities = EmbeddedIdentities::open(&directory).map_err(in_use)?;
        let (ledger, catalogue) = (Arc::new(ledger), Arc::new(catalogue));
        EmbeddedBackup { ledger, queue, catalogue, identities, directory }.write(&to).await?;
        say(format_args!("backup written to {}", to.display()))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Restores a backup.
///
/// # Errors
/// If the target is not empty, or the backup is incomplete.
pub fn restore(args: &RestoreArgs) -> Outcome {
    let directory = directory(&args.storage)?;
    backup::restore(&args.from, &directory)?;
    say(format_args!("backup restored into {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Lists dead letters, replays one, or discards one.
///
/// # Errors
/// If the dead letter does not exist, the server refuses, or the data cannot be read.
pub fn dead_letters(args: &DeadLettersArgs) -> Outcome {
    let background = Background::start()?;
    let step = args.replay.map(|id| (id, "replay")).or(args.discard.map(|id| (id, "discard")));
    background.block_on(async {
        let remote = remote(&args.server);
        match (step, remote?) {
            (None, Some(server)) => {
                let mut after = String::new();
                loop {
                    let page = format!("/v1/dead-letters?limit=100{after}");
                    let page: LetterPage =
                        serde_json::from_value(server.call(Method::GET, &page, None).await?)?;
                    let is_read = say_all(page.items)?;
                    let Some(next) = page.next.filter(|_| is_read) else { break };
                    after = format!("&after={next}");
                }
            }
            (None, None) => {
                let queue = open_queue(&directory(&args.storage)?)?;
                let mut after = None;
                loop {
                    let page = queue.dead_letters(after, 100).await?;
                    let is_read = say_all(page.iter().map(Letter::from))?;
                    let Some(last) = page.last().filter(|_| is_read) else { break };
                    after = Some(last.number);
                }
            }
            (Some((id, verb)), Some(server)) => {
                let why = args.reason.as_ref().map(|reason| json!({ "reason": reason }));
                server.call(Method::POST, &format!("/v1/dead-letters/{id}/{verb}"), why.as_ref()).await?;
                say(format_args!("dead letter {id}: {verb} done"))?;
            }
            (Some((id, verb)), None) => {
                let operations = operations(&directory(&args.storage)?).await?;
                let reason = args.reason.as_deref().unwrap_or(verb);
                let by = Attribution { actor: "command line".parse()?, reason: reason.parse()? };
                let number = JobNumber(id);
                let letter = match verb {
                    "replay" => operations.replay_dead_letter(number, &by).await?,
                    _ => operations.discard_dead_letter(number, &by).await?,
                };
                letter.ok_or_else(|| {
                    format!("dead letter {id} does not exist; run dead-letters to list all")
                })?;
                say(format_args!("dead letter {id}: {verb} done"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Checks the invariants, or with `--verify` the audit trail. The exit code is 1 if one is broken.
///
/// # Errors
/// If the data cannot be read.
pub fn audit(args: &AuditArgs) -> Outcome {
    let background = Background::start()?;
    if args.verify {
        return background.block_on(verify(args));
    }
    background.block_on(async {
        let findings: Findings = match remote(&args.server)? {
            Some(server) => {
                serde_json::from_value(server.call(Method::GET, "/v1/reconciliation", None).await?)?
            }
            None => {
                let directory = directory(&args.storage)?;
                let (engine, catalogue) = open(&directory)?;
                let queue = open_queue(&directory)?;
                reconciliation::inspect(&engine, &engine, &catalogue, &queue).await?
            }
        };
        print_findings(&findings)?;
        let is_clean = findings.items.is_empty() && findings.parked_callbacks == 0;
        Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Prints the effective configuration with the source of each value. Exits with 1 if it is invalid.
///
/// # Errors
/// All problems at once.
pub fn check_config(args: &ServeArgs) -> Outcome {
    let checked = check_config::check(args, env::vars_os());
    say(checked.report().trim_end())?;
    checked.accepted()?;
    Ok(ExitCode::SUCCESS)
}

async fn verify(args: &AuditArgs) -> Outcome {
    let check: AuditCheck = match remote(&args.server)? {
        Some(server) => {
            serde_json::from_value(server.call(Method::GET, "/v1/audit/verification", None).await?)?
        }
        None => open_catalogue(&directory(&args.storage)?)?.verify_audit().await?,
    };
    say(format_args!("audit trail: {} rows, last hash {}", check.rows, check.hash))?;
    Ok(match check.broken {
        None => {
            say("every row is as it was written")?;
            ExitCode::SUCCESS
        }
        Some(AuditBreak { sequence, reason }) => {
            say(format_args!("BROKEN row {sequence} {reason}"))?;
            ExitCode::FAILURE
        }
    })
}

fn remote(args: &ServerArgs) -> Result<Option<RemoteServer>, RemoteError> {
    let connect =
        |server| RemoteServer::new(server, args.token.as_deref().unwrap_or_default(), args.ca.as_deref());
    args.server.as_deref().map(connect).transpose()
}

fn directory(args: &StorageArgs) -> Result<PathBuf, Box<dyn Error>> {
    let config = Config::load(&ServeArgs { storage: args.clone(), ..ServeArgs::default() })?;
    Ok(config.storage.directory)
}

/// Opens ledger and catalogue of a stopped server.
fn open(directory: &Path) -> Result<(EmbeddedLedger, EmbeddedCatalogue), Box<dyn Error>> {
    let catalogue = open_catalogue(directory)?;
    let options = EmbeddedOptions::new(directory, LedgerRole::Single, Arc::new(SystemClock));
    Ok((EmbeddedLedger::open(options).map_err(in_use)?, catalogue))
}

fn open_queue(directory: &Path) -> Result<EmbeddedQueue, Box<dyn Error>> {
    if !directory.join(EmbeddedCatalogue::FILE).exists() {
        return Err(format!("{} holds no data; check --data", directory.display()).into());
    }
    Ok(EmbeddedQueue::open(directory, Arc::new(SystemClock)).map_err(in_use)?)
}

/// Builds the operator service on the data of a stopped server. It calls no payment provider.
async fn operations(directory: &Path) -> Result<Operations, Box<dyn Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (engine, catalogue) = open(directory)?;
    let queue = open_queue(directory)?;
    let options = BatcherOptions::default();
    let sales = Arc::new(Sales::new(Arc::new(engine), Arc::clone(&clock), Handle::current(), options));
    sales.resume().await?;
    // These commands create nothing that needs an id.
    let ids = Generator::acquire(&InMemoryLease::new(0..=0), &Settings::default(), clock).await?;
    let ids = Arc::new(ids);
    let payments = Payments::new(Arc::clone(&sales), Arc::clone(&ids), []);
    Ok(Operations::new(Arc::new(catalogue), sales, payments, ids, Arc::new(queue), Timing::default()))
}

fn open_catalogue(directory: &Path) -> Result<EmbeddedCatalogue, Box<dyn Error>> {
    if !directory.join(EmbeddedCatalogue::FILE).exists() {
        return Err(format!("{} holds no data; check --data", directory.display()).into());
    }
    Ok(EmbeddedCatalogue::open(directory, Arc::new(SystemClock)).map_err(in_use)?)
}

/// Adds a hint to an error: most often the directory belongs to a running server.
fn in_use(error: impl Error) -> String {
    format!("{error}\nIf a server is running on this directory, use --server and --token to call it.")
}

/// Formats a server's import report like that of a local import.
fn show_report(report: &Value) -> Result<String, RemoteError> {
    let counts = |name: &str| {
        let count = |kind: &str| report[name][kind].as_u64();
        Some(format!(
            "{} created, {} changed, {} unchanged",
            count("created")?,
            count("changed")?,
            count("unchanged")?
        ))
    };
    match (counts("products"), counts("skus"), counts("activities")) {
        (Some(products), Some(skus), Some(activities)) => {
            Ok(format!("products: {products}; SKUs: {skus}; activities: {activities}"))
        }
        _ => Err(RemoteError::NotUnderstood(report.to_string())),
    }
}

/// One page of a server's answer to `GET /v1/dead-letters`.
#[derive(Deserialize)]
struct LetterPage {
    items: Vec<Letter>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Letter {
    id: String,
    topic: String,
    job: String,
    attempts: u32,
    error: String,
}

impl From<&DeadLetter> for Letter {
    fn from(letter: &DeadLetter) -> Self {
        let DeadLetter { number, topic, id, attempts, error, .. } = letter;
        let (topic, job, error) = (topic.to_string(), id.to_string(), error.clone());
        Self { id: number.to_string(), topic, job, attempts: *attempts, error }
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, topic, job, attempts, error } = self;
        let (job, error) = (bidi::escape(job), bidi::escape(error));
        write!(f, "{id:>8} {topic} {job}: {error} (tried {attempts} times)")
    }
}

/// Prints a line for each item until nobody reads any more; returns whether somebody does.
fn say_all(items: impl IntoIterator<Item: fmt::Display>) -> io::Result<bool> {
    for item in items {
        if !say(item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn print_findings(findings: &Findings) -> io::Result<()> {
    let heads = ["activity", "sku", "units", "adjusted", "available", "held", "sold", "transit", "orders"];
    say(heads.map(|head| format!("{head:>10}")).join(" "))?;
    for offer in &findings.offers {
        let cells = [
            offer.activity_id.to_string(),
            offer.sku_id.to_string(),
            offer.units.to_string(),
            offer.adjusted.to_string(),
            offer.available.to_string(),
            offer.held.to_string(),
            offer.sold.to_string(),
            offer.transit.to_string(),
            offer.orders.to_string(),
        ];
        say(cells.map(|cell| format!("{cell:>10}")).join(" "))?;
    }
    for finding in &findings.items {
        let (activity, invariant) = (finding.activity_id, &finding.invariant);
        say(format_args!("VIOLATION activity {activity} {invariant}: {}", finding.detail))?;
    }
    if findings.parked_callbacks > 0 {
        let parked = findings.parked_callbacks;
        say(format_args!("{parked} payment callbacks need a person; run dead-letters to list them"))?;
    }
    match findings.items.len() {
        0 => say("all invariants hold")?,
        count => say(format_args!("{count} violations"))?,
    };
    Ok(())
}
