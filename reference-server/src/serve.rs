//! `serve`: puts the parts together, runs them, and takes them down in order.

use std::{error::Error, num::NonZeroUsize, process, sync::Arc, thread};

use flashsale_core::domain::SystemClock;

use crate::{
    background::Background,
    cli::ServeArgs,
    config::Config,
    http::{Listener, Runtimes, Server},
    routes::{Operations, Public},
    signals::Signals,
};

/// Serves until SIGTERM or SIGINT; a second signal ends the process at once.
///
/// # Errors
///
/// If the configuration is wrong, an address cannot be bound, or the system refuses threads.
pub fn run(args: &ServeArgs) -> Result<(), Box<dyn Error>> {
    let config = Config::load(args)?;
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
    let public = Listener::bind(http.public, workers, http.backlog)?;
    let operations = Listener::bind(http.operations, NonZeroUsize::MIN, http.backlog)?;

    let public =
        Server::start(public, &Arc::new(Public::new(Arc::new(SystemClock))), &public_runtimes, http)?;
    let operations = Server::start(operations, &Arc::new(Operations::new()), &shared, http)?;
    tracing::info!(public = %public.address(), operations = %operations.address(), "serving");

    let signal = signals.next().await;
    tracing::info!(signal, "stopping; a second signal ends the process at once");
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::warn!(signal, "ending at once");
        process::exit(1);
    });
    let limit = http.drain_timeout();
    let (cut_public, cut_operations) = tokio::join!(public.drain(limit), operations.drain(limit));
    let unfinished = background.spawner().drain(limit).await;
    tracing::info!(connections_cut = cut_public + cut_operations, unfinished, "stopped");
    Ok(())
}
