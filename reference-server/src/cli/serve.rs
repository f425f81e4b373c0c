//! `serve`: puts the parts together, runs them, and takes them down in order.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use flashsale_core::domain::{Clock, SystemClock};

use crate::{
    app::{App, by},
    cli::args::ServeArgs,
    cli::check_config,
    config::Config,
    http::{Listener, Runtimes, Server, tls::Tls},
    import,
    rfc3339::Rfc3339,
    routes::{Operations, Public},
    runtime::{
        background::Background,
        logging, open_files,
        signals::{Signal, Signals},
    },
};

/// For how long after the first signal others are taken for the same one: supervisors, `timeout` and process groups send
/// it more than once.
const SAME_SIGNAL: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT; a second signal, 2 s after the first or later, ends the process at once. SIGHUP lets it
/// read the certificates again.
///
/// # Errors
///
/// If the configuration is wrong, an address cannot be bound, or the system refuses threads.
pub fn run(args: &ServeArgs) -> Result<(), Box<dyn Error>> {
    let config = check_config::load(args)?;
    logging::start(&config.log);
    let room = open_files::raise();
    if room < config.http.max_connections as u64 {
        tracing::warn!(
            room,
            max_connections = config.http.max_connections,
            "the system lets this process open fewer files than http.max_connections needs; raise its limit (LimitNOFILE, ulimit -n)"
        );
    }
    let background = Background::start()?;
    background.block_on(serve(&config, &background))
}

async fn serve(config: &Config, background: &Background) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::listen()?;
    let shared = Runtimes::Shared(background.spawner().runtime().clone());
    let http = &config.http;
    let (workers, public_runtimes) = if http.shared_runtime {
        (NonZeroUsize::MIN, shared.clone())
    } else {
        let workers = NonZeroUsize::new(http.workers).map_or_else(thread::available_parallelism, Ok)?;
        (workers, Runtimes::PerCore)
    };
    // A wrong address is told before the data is touched. Bound is only once the data is ours: a socket that shares
    // its port (`SO_REUSEPORT`) would take a part of the connections away from the server that runs on the data.
    listening("http.public", http.public, || Listener::probe(http.public))?;
    listening("http.operations", http.operations, || Listener::probe(http.operations))?;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let tls =
        |listener, files| Tls::new(listener, files, clock.now()).map_err(|problems| problems.join("; "));
    let public_tls = tls("public", &config.tls.public)?;
    let operations_tls = tls("operations", &config.tls.operations)?;
    let (app, jobs) = App::open(config, Arc::clone(&clock), background.spawner().clone()).await?;
    let listeners =
        listening("http.public", http.public, || Listener::bind(http.public, workers, http.backlog))
            .and_then(|public| {
                let bind = || Listener::bind(http.operations, NonZeroUsize::MIN, http.backlog);
                Ok((public, listening("http.operations", http.operations, bind)?))
            });
    let (public, operations) = match listeners {
        Ok(listeners) => listeners,
        Err(problem) => {
            app.close(jobs).await.map_err(|error| error as Box<dyn Error>)?;
            return Err(problem.into());
        }
    };
    if config.demo {
        import_demo(&app).await?;
    }
    warn(&app);
    let certificates: Vec<Tls> = [&public_tls, &operations_tls].into_iter().flatten().cloned().collect();
    for tls in &certificates {
        app.metrics.watch_certificate(tls);
        tracing::info!(listener = tls.listener(), ends_at = %Rfc3339(tls.ends_at()), "TLS with a certificate of ours");
    }

    let addresses = [address(&public, &public_tls), address(&operations, &operations_tls)];
    let (public, operations) = (public.with_tls(public_tls), operations.with_tls(operations_tls));
    let public = Server::start(public, &Arc::new(Public::new(Arc::clone(&app))), &public_runtimes, http)?;
    let operators = Arc::new(Operations::new(Arc::clone(&app)));
    let operations = Server::start(operations, &operators, &shared, &http.for_operations())?;
    if config.demo {
        let made_tokens = config.operations.tokens.is_empty();
        greet(&app, &addresses, made_tokens);
    }
    tracing::info!(public = %public.address(), operations = %operations.address(), "serving");

    let signal = loop {
        match signals.next().await {
            Signal::End(signal) => break signal,
            Signal::Reload => reload(&certificates, &clock).await,
        }
    };
    let first = Instant::now();
    tracing::info!(signal, "stopping; a second signal, in 2 s or later, ends the process at once");
    tokio::spawn(async move {
        loop {
            let Signal::End(signal) = signals.next().await else { continue };
            if first.elapsed() >= SAME_SIGNAL {
                tracing::warn!(signal, "ending at once");
                process::exit(1);
            }
        }
    });
    let limit = http.drain_timeout();
    let (cut_public, cut_operations) = tokio::join!(public.drain(limit), operations.drain(limit));
    let unfinished = background.spawner().drain(limit).await;
    let closed = app.close(jobs).await;
    tracing::info!(connections_cut = cut_public + cut_operations, unfinished, "stopped");
    closed.map_err(|error| error as Box<dyn Error>)
}

fn listening<T>(key: &str, address: SocketAddr, listen: impl FnOnce() -> io::Result<T>) -> Result<T, String> {
    listen().map_err(|error| {
        let whose = match error.kind() {
            io::ErrorKind::AddrInUse => "; another process listens there",
            _ => "",
        };
        format!(
            "cannot listen on {address}: {error}{whose}; choose another address with {key} in the configuration"
        )
    })
}

/// Under which address a listener is reached on this machine.
fn address(listener: &Listener, tls: &Option<Tls>) -> String {
    let scheme = if tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", listener.address())
}

/// Reads the certificates again; one that cannot be used leaves the listener with the one it has.
async fn reload(certificates: &[Tls], clock: &Arc<dyn Clock>) {
    if certificates.is_empty() {
        tracing::info!(
            "SIGHUP reads certificates again, and there are none; what else has changed needs a restart"
        );
    }
    for tls in certificates {
        let (reread, clock) = (tls.clone(), Arc::clone(clock));
        let read = tokio::task::spawn_blocking(move || reread.reload(clock.now())).await;
        let problems = match read {
            Ok(Ok(changed)) => {
                let (listener, ends_at) = (tls.listener(), Rfc3339(tls.ends_at()));
                tracing::info!(listener, changed, %ends_at, "the certificate was read again");
                continue;
            }
            Ok(Err(problems)) => problems.join("; "),
            Err(error) => error.to_string(),
        };
        tracing::error!(
            listener = tls.listener(),
            problems,
            "the certificate stays as it was; repair its files and send SIGHUP again"
        );
    }
}

/// Says what this server cannot do as it is configured, and whom it believes.
fn warn(app: &App) {
    match &app.sessions {
        None if app.jwt.is_some() => {}
        None => tracing::warn!(
            "no identity: nobody can sign in; give a key in [identity.jwt], or set identity.demo to try a sale"
        ),
        Some(_) => tracing::warn!("the demo identity is on: everybody is believed to be who they say"),
    }
    if app.provider.is_none() {
        tracing::warn!("no payment provider: orders cannot be paid; set payment.sandbox to try a sale");
    }
    if app.tokens.is_empty() {
        tracing::warn!("no operations token: nobody can import, adjust or audit; add [[operations.tokens]]");
    }
}

/// Imports the data that comes with the server; what is there already stays.
async fn import_demo(app: &Arc<App>) -> Result<(), Box<dyn Error>> {
    let by = by("demo", "serve --demo");
    let input = import::parse(&import::demo(), app.clock.now())?;
    let report = app.storefront.import(&input, &by).await?;
    if report.changed_anything() {
        tracing::info!(%report, "demo data imported");
    }
    app.publish(&by).await?;
    Ok(())
}

/// Tells whoever started the demonstration where to look.
fn greet(app: &App, [public, operations]: &[String; 2], made_tokens: bool) {
    println!(
        "\nflashsale demo: nobody is who they say, and no money is moved. Do not show it to the internet.\n"
    );
    println!("  shop        {public}/");
    println!("  operations  {operations}/readyz");
    let directory =
        app.directory.as_deref().map_or_else(|| "in memory only".into(), |path| path.display().to_string());
    println!("  data        {directory}\n");
    // Tokens of the configuration are known to whoever wrote it, and to nobody else.
    for token in app.tokens.iter().filter(|_| made_tokens) {
        let roles: Vec<_> = token.roles.iter().map(|role| role.as_str()).collect();
        println!("  {:<10}  {}", roles.join(","), String::from_utf8_lossy(token.token.expose()));
    }
    println!();
    let now = app.clock.now();
    let published = app.storefront.published();
    for listed in published.activities.values() {
        let window = listed.activity.window;
        let phase = if now < window.starts_at() {
            "upcoming"
        } else if now < window.ends_at() {
            "live"
        } else {
            "ended"
        };
        println!("  {phase:<9} {public}/activities/{}  {}", listed.activity.id, listed.activity.name);
    }
    let is_live = |window: flashsale_core::domain::Window| now < window.ends_at();
    if !published.activities.values().any(|listed| is_live(listed.activity.window)) {
        println!(
            "\n  All activities of this directory are over. Stop the server and remove {directory} to begin anew."
        );
    }
    println!();
}
