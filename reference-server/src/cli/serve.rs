//! `serve`: starts the server, runs it, and shuts it down in order.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    pin::pin,
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use flashsale_core::{
    clock::OperatingSystem,
    domain::{Clock, SystemClock},
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use crate::{
    app::{App, DataLock, Jobs, Progress, by},
    cli::{args::ServeArgs, check_config, output::say},
    config::Config,
    http::{Deferred, Handler as _, Listener, Runtimes, Server, tls::Tls},
    import,
    rfc3339::Rfc3339,
    routes::{Operations, Public, starting},
    runtime::{
        background::Background,
        logging, open_files,
        signals::{Signal, Signals},
    },
};

/// How long to ignore further stop signals: supervisors and process groups send duplicates.
const DUPLICATE_SIGNALS: Duration = Duration::from_secs(2);
/// How long a stop during the start waits for connections and for the start itself.
const STARTING_LIMIT: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT. A second one, at least 2 s later, ends the process at once.
/// SIGHUP reloads the certificates.
///
/// # Errors
/// If the configuration is invalid, data, addresses or threads are not available, or the process
/// could not work any more and `monitor.exit_after_seconds` have passed.
pub fn run(args: &ServeArgs) -> Result<(), Box<dyn Error>> {
    let config = check_config::load(args)?;
    logging::start(&config.log);
    let available = open_files::raise();
    if available < config.http.max_connections as u64 {
        tracing::warn!(
            available,
            max_connections = config.http.max_connections,
            "the limit of open files is too low for http.max_connections; raise it (LimitNOFILE, ulimit -n)"
        );
    }
    let addresses = [config.http.public.resolve()?, config.http.operations.resolve()?];
    let background = Background::start()?;
    background.block_on(serve(&config, addresses, &background))
}

async fn serve(
    config: &Config,
    [public, operations]: [SocketAddr; 2],
    background: &Background,
) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::listen()?;
    let shared = Runtimes::Shared(background.spawner().runtime().clone());
    let http = &config.http;
    let (workers, public_runtimes) = if http.shared_runtime {
        (NonZeroUsize::MIN, shared.clone())
    } else {
        let workers = NonZeroUsize::new(http.workers).map_or_else(thread::available_parallelism, Ok)?;
        (workers, Runtimes::PerCore)
    };
    // Probe before binding: with `SO_REUSEPORT` the port of another server could be bound as well. Lock
    // the data before, so that no connection comes here while another server uses it.
    listening("http.public", public, || Listener::probe(public))?;
    listening("http.operations", operations, || Listener::probe(operations))?;
    let _locked = DataLock::take(config)?;

    let started = SystemClock.now();
    let tls = |listener, files| Tls::new(listener, files, started).map_err(|problems| problems.join("; "));
    let public_tls = tls("public", &config.tls.public)?;
    let operations_tls = tls("operations", &config.tls.operations)?;
    let public = listening("http.public", public, || Listener::bind(public, workers, http.backlog))?;
    let operations = listening("http.operations", operations, || {
        Listener::bind(operations, NonZeroUsize::MIN, http.backlog)
    })?;
    let certificates: Vec<Tls> = [&public_tls, &operations_tls].into_iter().flatten().cloned().collect();
    let addresses = [address(&public, &public_tls), address(&operations, &operations_tls)];
    let (public, operations) = (public.with_tls(public_tls), operations.with_tls(operations_tls));

    // The ports answer from the first moment; the application follows.
    let progress = Arc::<Progress>::default();
    let buyers = Arc::new(Deferred::new(Public::counters(), starting::public(http)));
    let operators = Arc::new(Deferred::new(Operations::counters(), starting::operations(progress.clone())));
    let public = Server::start(public, &buyers, &public_runtimes, http)?;
    let operations = Server::start(operations, &operators, &shared, &http.for_operations())?;
    tracing::info!(
        public_address = %public.address(),
        operations_address = %operations.address(),
        "listening; not ready before the stores are open"
    );
    let mut opening = Opening::start(config, background, &progress)?;
    let opened = loop {
        tokio::select! {
            opened = &mut opening.done => break opened.unwrap_or_else(|_| Err("the start has panicked".into())),
            signal = signals.next() => match signal {
                Signal::End(signal) => {
                    tracing::info!(signal, "stopping during the start");
                    tokio::join!(public.drain(STARTING_LIMIT), operations.drain(STARTING_LIMIT), opening.give_up());
                    tracing::info!("stopped");
                    return Ok(());
                }
                // Its own clock does not run yet.
                Signal::Reload => reload(&certificates, &(Arc::new(SystemClock) as Arc<dyn Clock>)).await,
            },
        }
    };
    let (app, jobs) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tokio::join!(public.drain(STARTING_LIMIT), operations.drain(STARTING_LIMIT));
            return Err(error as Box<dyn Error>);
        }
    };
    warn(&app);
    for tls in &certificates {
        app.metrics.watch_certificate(tls);
        tracing::info!(listener = tls.listener(), ends_at = %Rfc3339(tls.ends_at()), "TLS is on");
    }
    buyers.hand_over(Public::counted_by(Arc::clone(&app), Arc::clone(buyers.traffic())));
    operators.hand_over(Operations::counted_by(Arc::clone(&app), Arc::clone(operators.traffic())));
    if config.demo {
        let generated_tokens = config.operations.tokens.is_empty();
        if let Err(error) = print_demo_banner(&app, &addresses, generated_tokens) {
            tracing::warn!(%error, "the addresses of the demo could not be printed");
        }
    }
    tracing::info!(public = %public.address(), operations = %operations.address(), "serving");

    let mut failed = pin!(app.failed(config.monitor.exit_after()));
    let failure = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::End(signal) => {
                    tracing::info!(signal, "stopping; send a second signal after 2 s to end the process at once");
                    break None;
                }
                Signal::Reload => reload(&certificates, &app.clock).await,
            },
            reason = &mut failed => {
                tracing::error!(reason, "ending; a supervisor should start the process again");
                break Some(reason);
            }
        }
    };
    let first = Instant::now();
    tokio::spawn(async move {
        loop {
            let Signal::End(signal) = signals.next().await else { continue };
            if first.elapsed() >= DUPLICATE_SIGNALS {
                tracing::warn!(signal, "second signal: ending at once");
                process::exit(1);
            }
        }
    });
    let limit = http.drain_timeout();
    let (cut_public, cut_operations) = tokio::join!(public.drain(limit), operations.drain(limit));
    let unfinished = background.spawner().drain(limit).await;
    let connections_cut = cut_public + cut_operations;
    let Some(reason) = failure else {
        let closed = app.close(jobs).await;
        tracing::info!(connections_cut, unfinished, "stopped");
        return closed.map_err(|error| error as Box<dyn Error>);
    };
    // What has failed may never close; everything that was answered is on disk.
    if timeout(limit, app.close(jobs)).await.is_err() {
        tracing::error!(reason, connections_cut, unfinished, "ended without closing the stores");
        process::exit(1);
    }
    Err(format!("this process could not work any more: {reason}").into())
}

/// The start of the application, on a thread of its own: opening the stores blocks.
struct Opening {
    done: oneshot::Receiver<Result<(Arc<App>, Jobs), Failure>>,
    give_up: watch::Sender<bool>,
}

type Failure = Box<dyn Error + Send + Sync>;

impl Opening {
    fn start(config: &Config, background: &Background, progress: &Arc<Progress>) -> io::Result<Self> {
        let (sender, done) = oneshot::channel();
        let (give_up, mut given_up) = watch::channel(false);
        let (config, progress) = (config.clone(), Arc::clone(progress));
        let source = Arc::new(OperatingSystem::new());
        let spawner = background.spawner().clone();
        thread::Builder::new().name("start".into()).spawn(move || {
            let runtime = spawner.runtime().clone();
            runtime.block_on(async {
                let opening = async {
                    let (app, jobs) = App::open_steered(&config, source, spawner, &progress).await?;
                    if config.demo {
                        import_demo(&app).await?;
                    }
                    Ok((app, jobs))
                };
                tokio::select! {
                    opened = opening => drop(sender.send(opened)),
                    _ = given_up.wait_for(|given_up| *given_up) => {}
                }
            });
        })?;
        Ok(Self { done, give_up })
    }

    /// Stops the start, and waits a little until it has: it may be reading from the disk. What it
    /// leaves is as after a crash, so nothing is lost.
    async fn give_up(self) {
        self.give_up.send_replace(true);
        if let Ok(Ok(Ok((app, jobs)))) = timeout(STARTING_LIMIT, self.done).await
            && let Err(error) = app.close(jobs).await
        {
            tracing::warn!(%error, "the stores were not closed in order; the next start takes longer");
        }
    }
}

fn listening<T>(key: &str, address: SocketAddr, listen: impl FnOnce() -> io::Result<T>) -> Result<T, String> {
    listen().map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => " (another process is using it)",
            _ => "",
        };
        format!(
            "cannot listen on {address}: {error}{hint}; set another address with {key} in the configuration"
        )
    })
}

/// Returns the URL of a listener on this machine.
fn address(listener: &Listener, tls: &Option<Tls>) -> String {
    let scheme = if tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", listener.address())
}

/// Reloads the certificates. A listener whose files are invalid keeps its current certificate.
async fn reload(certificates: &[Tls], clock: &Arc<dyn Clock>) {
    if certificates.is_empty() {
        tracing::info!(
            "SIGHUP ignored: it reloads certificates and none are configured; other changes need a restart"
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
            "cannot reload the certificate, so the old one stays; fix its files and send SIGHUP again"
        );
    }
}

/// Warns about features that the configuration leaves off, and about the demo identity.
fn warn(app: &App) {
    match &app.sessions {
        None if app.jwt.is_some() => {}
        None => tracing::warn!(
            "no identity: nobody can sign in; set a key in [identity.jwt], or identity.demo for a trial"
        ),
        Some(_) => tracing::warn!("identity.demo is on: anybody can sign in as any user"),
    }
    if app.provider.is_none() {
        tracing::warn!("no payment provider: orders cannot be paid; set payment.sandbox for a trial");
    }
    if app.tokens.is_empty() {
        tracing::warn!("no operations token: nobody can import, adjust or audit; add [[operations.tokens]]");
    }
}

/// Imports the built-in demo data.
async fn import_demo(app: &Arc<App>) -> Result<(), Failure> {
    let by = by("demo", "serve --demo");
    let input = import::parse(&import::demo(), app.clock.now())?;
    let report = app.storefront.import(&input, &by).await?;
    if report.changed_anything() {
        tracing::info!(%report, "demo data imported");
    }
    app.publish(&by).await?;
    Ok(())
}

/// Prints the demo's addresses, generated tokens and activities.
fn print_demo_banner(
    app: &App,
    [public, operations]: &[String; 2],
    generated_tokens: bool,
) -> io::Result<()> {
    say("\nflashsale demo: no passwords, no real payments. Do not expose it to the internet.\n")?;
    say(format_args!("  shop        {public}/"))?;
    say(format_args!("  operations  {operations}/readyz"))?;
    let directory =
        app.directory.as_deref().map_or_else(|| "in memory only".into(), |path| path.display().to_string());
    say(format_args!("  data        {directory}\n"))?;
    // Print only generated tokens; those of the configuration are secret.
    for token in app.tokens.iter().filter(|_| generated_tokens) {
        let roles: Vec<_> = token.roles.iter().map(|role| role.as_str()).collect();
        let (roles, token) = (roles.join(","), String::from_utf8_lossy(token.token.expose()));
        say(format_args!("  {roles:<10}  {token}"))?;
    }
    say("")?;
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
        let (id, name) = (listed.activity.id, &listed.activity.name);
        say(format_args!("  {phase:<9} {public}/activities/{id}  {name}"))?;
    }
    let is_live = |window: flashsale_core::domain::Window| now < window.ends_at();
    if !published.activities.values().any(|listed| is_live(listed.activity.window)) {
        say(format_args!(
            "\n  All activities have ended. To start over, stop the server and delete {directory}."
        ))?;
    }
    say("")?;
    Ok(())
}
