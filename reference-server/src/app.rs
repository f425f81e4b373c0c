//! The application: ledger, catalogue and services of one data directory, put together and taken down in order.

use std::{
    collections::HashMap,
    fs, io,
    net::IpAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use flashsale_core::{
    admission::{AccountRisk, GuardOptions, Guards, TicketKeys, TicketTerms},
    catalogue::CatalogueError,
    domain::{Attribution, Clock, Invalid, Provider, SubjectId, Timestamp},
    embedded::{EmbeddedCatalogue, EmbeddedError, EmbeddedLedger, EmbeddedOptions, EmbeddedQueue, LeaseFile},
    ledger::{Consumer, Ledger, LedgerError, LedgerRole},
    queue::{InMemoryQueue, Queue, QueueError, Worker},
    service::{
        BatcherOptions, Maintenance, Notifier, OperationError, Operations, OrderService, PaymentProvider,
        Payments, Sales,
    },
    snowflake::{self, Generator, InMemoryLease, LeaseError, Settings, StartError, WorkerLease},
};
use futures_util::future::OptionFuture;
use ipnet::IpNet;
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};

use crate::{
    auth::{
        jwt::Jwt,
        keyring::{Keyring, KeyringError, Ring},
        receipts::Receipts,
        sessions::Sessions,
    },
    challenge::Challenges,
    config::{Config, OperationsToken, Secret},
    integrations::sandbox::Sandbox,
    integrations::webhook::Webhook,
    monitoring::{invariants::Monitor, metrics::Metrics},
    runtime::background::Spawner,
    storefront::{
        pages::Site,
        products::ProductDocuments,
        publish::PublishError,
        published::{PublishedCatalogue, Range},
    },
};

/// Worker ids of the id generators that share a data directory.
const WORKERS: std::ops::RangeInclusive<u16> = 0..=1023;

/// Everything that answers requests share.
#[derive(Debug)]
pub struct App {
    /// The clock of this process.
    pub clock: Arc<dyn Clock>,
    /// Starts work that a client's disconnect must not stop.
    pub spawner: Spawner,
    /// Products and activities.
    pub catalogue: Arc<EmbeddedCatalogue>,
    /// The engine under the ledger.
    pub engine: Arc<EmbeddedLedger>,
    /// The jobs that have to survive this process; `None` in memory.
    pub kept_jobs: Option<EmbeddedQueue>,
    /// The jobs of this process: refunds.
    pub queue: Arc<dyn Queue>,
    /// What nobody asks for.
    pub upkeep: Arc<Maintenance>,
    /// Tells somebody what happens to orders; `None` if nobody is configured.
    pub notifier: Option<Arc<Notifier>>,
    /// The sales of this process.
    pub sales: Arc<Sales>,
    /// Takes orders.
    pub ordering: OrderService,
    /// Takes payments.
    pub payments: Payments,
    /// What operators do.
    pub operations: Operations,
    /// Who takes the money of new payments; `None` if nobody is configured.
    pub provider: Option<Provider>,
    /// The sandbox, if it takes the money.
    pub sandbox: Option<Arc<Sandbox>>,
    /// Makes ids.
    pub ids: Arc<Generator>,
    /// Signs and verifies tickets.
    pub tickets: TicketKeys,
    /// When tickets are issued.
    pub ticket_terms: TicketTerms,
    /// Makes and verifies demo sessions; `None` without the demo identity.
    pub sessions: Option<Sessions>,
    /// Verifies tokens of the shop's identity provider; `None` without one.
    pub jwt: Option<Arc<Jwt>>,
    /// Makes and verifies receipts of orders.
    pub receipts: Receipts,
    /// The secrets of each payment provider's callbacks.
    pub callbacks: HashMap<Provider, Ring>,
    /// Who may use the operations listener.
    pub tokens: Vec<OperationsToken>,
    /// What stands between visitors and tickets, buyers and the ledger.
    pub guards: Guards,
    /// What suspicious visitors have to solve.
    pub challenges: Challenges,
    /// When challenges are issued.
    pub challenge_terms: TicketTerms,
    /// Proxies whose word about addresses is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What is kept of products and SKUs, written out.
    pub product_documents: ProductDocuments,
    /// What is published.
    pub published: ArcSwap<PublishedCatalogue>,
    /// Under which address buyers reach this server, without a slash at the end; `None` if nobody has said.
    pub public_url: Option<String>,
    /// Origins whose pages may call.
    pub origins: Vec<String>,
    /// Where the data is; `None` in memory.
    pub directory: Option<PathBuf>,
    /// What is shown to monitors.
    pub metrics: Metrics,
    /// Watches the invariants.
    pub monitor: Arc<Monitor>,
    pub(crate) publishing: Mutex<()>,
}

/// What works for an [`App`] until it is closed.
#[derive(Debug)]
pub struct Jobs {
    stop_upkeep: watch::Sender<bool>,
    stop_monitor: watch::Sender<bool>,
    stop_ids: watch::Sender<bool>,
    /// `None` once it has been stopped.
    upkeep: Option<JoinHandle<()>>,
    /// A task of its own: it has to say what comes of upkeep that ends early.
    monitor: JoinHandle<()>,
    recorder: JoinHandle<()>,
    lease: JoinHandle<Result<(), LeaseError>>,
}

/// Why an application could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be used: {source}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The catalogue cannot be opened.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Engine(#[from] EmbeddedError),
    /// The ledger does not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The queue of jobs cannot be opened.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// There is no worker id.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The id generator cannot be started.
    #[error(transparent)]
    Ids(#[from] StartError),
    /// The secrets cannot be read.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// What operators decided cannot be taken up again.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// Notifications cannot be posted.
    #[error("{0}")]
    Webhook(String),
    /// The keys of the identity provider cannot be used.
    #[error("{0}")]
    Jwt(String),
    /// The catalogue's activities cannot be sold.
    #[error("what is in the catalogue cannot be published: {0}")]
    Publish(#[from] PublishError),
    /// A value of the configuration breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl App {
    /// Opens the data directory, publishes what its catalogue says, and starts the jobs. This blocks on the disk.
    ///
    /// # Errors
    /// [`AppError`]; what was there is left as it was.
    pub async fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        spawner: Spawner,
    ) -> Result<(Arc<Self>, Jobs), AppError> {
        let directory = (!config.storage.in_memory).then(|| config.storage.directory.clone());
        let store = Store::open(directory.as_deref(), config, Arc::clone(&clock))?;
        let keyring = Keyring::load(config, directory.as_deref())?;
        let settings = Settings { term: config.ids.lease(), ..Settings::default() };
        let ids = Arc::new(Generator::acquire(&*store.leases, &settings, Arc::clone(&clock)).await?);

        let engine = Arc::new(store.engine);
        let ledger: Arc<dyn Ledger> = Arc::clone(&engine) as _;
        let background = spawner.runtime().clone();
        let options = BatcherOptions {
            reserve_room: config.order.reserve_queue,
            advance_room: config.order.advance_queue,
        };
        let sales = Arc::new(Sales::new(ledger, Arc::clone(&clock), background, options));
        let sandbox = config.payment.sandbox.then(|| Arc::new(Sandbox::new()));
        let providers = sandbox.iter().map(|sandbox| Arc::clone(sandbox) as Arc<dyn PaymentProvider>);
        let catalogue = Arc::new(store.catalogue);
        let kept_jobs = store.queue;
        let queue: Arc<dyn Queue> = match &kept_jobs {
            Some(queue) => Arc::new(queue.clone()),
            None => Arc::new(InMemoryQueue::new(Arc::clone(&clock))),
        };
        let breaker = config.payment.breaker.options()?;
        let payments = Payments::with_breakers(Arc::clone(&sales), Arc::clone(&ids), providers, breaker);
        let operations = Operations::new(
            Arc::clone(&catalogue) as _,
            Arc::clone(&sales),
            payments.clone(),
            Arc::clone(&ids),
            Arc::clone(&queue),
            config.payment.timing(),
        );
        let retries = config.queue.retries();
        let upkeep = Maintenance::new(Arc::clone(&sales), payments.clone(), Arc::clone(&queue), retries);
        let notifier = notifier(config, keyring.notifications, &sales, &queue, &clock)?.map(Arc::new);
        let app = Arc::new(Self {
            ordering: OrderService::new(Arc::clone(&sales), Arc::clone(&ids)),
            payments,
            operations,
            provider: config.payment.sandbox.then(Sandbox::provider),
            sandbox,
            tickets: keyring.tickets,
            ticket_terms: TicketTerms { lead: config.ticket.lead(), life: config.ticket.lifetime() },
            sessions: config
                .identity
                .demo
                .then(|| Sessions::new(&keyring.session, config.identity.session())),
            jwt: jwt(config)?,
            receipts: Receipts::new(&keyring.session),
            callbacks: keyring.callbacks,
            tokens: keyring.tokens,
            guards: guards(config, clock.now())?,
            challenges: Challenges::new(
                keyring.challenges,
                &config.challenge.options(),
                spawner.runtime().clone(),
            ),
            challenge_terms: TicketTerms { lead: config.challenge.lead(), life: config.challenge.lifetime() },
            trusted_proxies: config.http.trusted_proxies.clone(),
            product_documents: ProductDocuments::new(
                &config.cache,
                &clock,
                getrandom::u64().unwrap_or_default(),
            ),
            published: ArcSwap::from_pointee(empty_shelf(config)?),
            public_url: config.http.public_url.clone(),
            origins: config.http.cors_origins.clone(),
            catalogue,
            kept_jobs,
            queue,
            upkeep: Arc::new(upkeep),
            notifier,
            directory,
            metrics: Metrics::default(),
            monitor: Arc::new(Monitor::new(config.monitor.limits())),
            publishing: Mutex::default(),
            clock,
            spawner,
            engine,
            sales,
            ids,
        });
        app.operations.resume().await?;
        match &app.notifier {
            Some(notifier) => notifier.register().await?,
            // What was not read is kept for whoever was told before; nobody will read it.
            None => app.sales.ledger().retire(&Consumer::new(Notifier::CONSUMER)).await?,
        }
        app.sales.resume().await?;
        app.fill_shelf(&by("server", "published at start")).await?;
        let jobs = Jobs::start(&app, store.leases, config.monitor.period());
        Ok((app, jobs))
    }

    /// Stops the jobs, finishes what waits in queues, and closes the engine.
    ///
    /// # Errors
    /// If the engine could not write its snapshot; no order is lost then, the next start takes longer.
    pub async fn close(&self, mut jobs: Jobs) -> Result<(), EmbeddedError> {
        jobs.stop_upkeep().await;
        jobs.stop_monitor.send_replace(true);
        if let Err(error) = jobs.monitor.await {
            tracing::error!(%error, "the monitor of the invariants ended early");
        }
        if let Err(error) = jobs.recorder.await {
            tracing::error!(%error, "the recorder of the audit trail ended early");
        }
        self.sales.drain().await;
        if let Err(error) = self.operations.recorder().record_all().await {
            tracing::warn!(%error, "an operator's change gets its audit row at the next start");
        }
        let closed = self.engine.close().await;
        jobs.stop_ids.send_replace(true);
        match jobs.lease.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the worker id was not given back"),
            Err(error) => tracing::error!(%error, "the worker id was not given back"),
        }
        closed
    }

    /// Those who do the jobs of this process.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.upkeep.workers().into_iter().chain(self.notifier.iter().map(|notifier| notifier.worker()))
    }

    /// Why this process cannot sell now; empty if it can.
    pub fn obstacles(&self) -> Vec<String> {
        let now = self.clock.now();
        let mut obstacles = Vec::new();
        if let Err(error) = self.engine.health() {
            obstacles.push(format!("ledger: {error}"));
        }
        // Looked at, not tried: a monitor must not use up ids.
        if now >= self.ids.lease().until {
            obstacles.push("ids: the lease of the worker id has ended".to_owned());
        }
        if !self.product_documents.are_warm() {
            obstacles.push("pages: products on sale are still being written".to_owned());
        }
        for id in self.published.load().activities.keys() {
            if !self.sales.sale(*id).is_some_and(|sale| sale.is_warm(now)) {
                obstacles.push(format!("activity {id}: its views are not fresh"));
            }
        }
        obstacles
    }
}

fn notifier(
    config: &Config,
    secret: Option<Secret>,
    sales: &Arc<Sales>,
    queue: &Arc<dyn Queue>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Notifier>, AppError> {
    let webhook = Webhook::configured(&config.notifications, secret.unwrap_or_default(), Arc::clone(clock));
    let Some(webhook) = webhook.map_err(AppError::Webhook)? else { return Ok(None) };
    let retries = config.queue.retries();
    Ok(Some(Notifier::new(Arc::clone(sales), Arc::clone(queue), Arc::new(webhook), retries)))
}

fn empty_shelf(config: &Config) -> Result<PublishedCatalogue, PublishError> {
    Ok(PublishedCatalogue::fill(Range::default(), &Site::own(config.identity.demo), None)?)
}

/// Somebody of the server itself, for the audit trail.
pub(crate) fn by(actor: &'static str, reason: &'static str) -> Attribution {
    Attribution {
        actor: actor.parse().expect("the names of jobs are names"),
        reason: reason.parse().expect("the reasons of jobs are texts"),
    }
}

/// The subject by which limits count an address; addresses of IPv6 count by their /64, which is what one customer has.
pub(crate) fn address_subject(address: IpAddr) -> SubjectId {
    match address.to_canonical() {
        IpAddr::V4(address) => SubjectId::digest(&address.octets()),
        IpAddr::V6(address) => SubjectId::digest(&address.octets()[..8]),
    }
}

fn guards(config: &Config, now: Timestamp) -> Result<Guards, Invalid> {
    let (rate, guard, quotas) = (&config.rate, &config.guard, config.rate.quotas()?);
    let options = GuardOptions {
        user_orders: quotas.user_orders,
        user_orders_mode: guard.user_orders,
        address_orders: quotas.address_orders,
        address_orders_mode: guard.address_orders,
        user_tickets: quotas.user_tickets,
        user_tickets_mode: guard.user_tickets,
        busy_address: quotas.busy_address,
        busy_address_mode: guard.busy_address,
        risk_mode: guard.risk,
        ladder: guard.ladder()?,
        failures: quotas.failures,
        users: rate.users,
        addresses: rate.addresses,
    };
    Ok(Guards::new(&options, Arc::new(AccountRisk), now))
}

impl Jobs {
    /// Stops upkeep and waits for its end; the monitor looks on. For drills: from here on no hold expires and nothing is
    /// refunded.
    pub async fn stop_upkeep(&mut self) {
        self.stop_upkeep.send_replace(true);
        if let Some(upkeep) = self.upkeep.take()
            && let Err(error) = upkeep.await
        {
            tracing::error!(%error, "upkeep ended early");
        }
    }

    fn start(app: &Arc<App>, leases: Arc<dyn WorkerLease>, monitored_every: Duration) -> Self {
        let (stop_upkeep, stopped) = watch::channel(false);
        let (stop_monitor, monitor_stopped) = watch::channel(false);
        let (stop_ids, mut ids_stopped) = watch::channel(false);
        let runtime = app.spawner.runtime();
        let (jwt, keys_stopped) = (app.jwt.clone(), stopped.clone());
        let monitor = Arc::clone(&app.monitor);
        let (engine, sales, clock) =
            (Arc::clone(&app.engine), Arc::clone(&app.sales), Arc::clone(&app.clock));
        let monitor = async move {
            monitor.run(&engine, &sales, || clock.now(), monitored_every, monitor_stopped).await;
        };
        let (warming, mut warming_stopped) = (Arc::clone(app), stopped.clone());
        let warm_up = async move {
            tokio::select! {
                () = warming.warm_up() => {}
                _ = warming_stopped.wait_for(|stopped| *stopped) => {}
            }
        };
        let upkeep = Arc::clone(&app.upkeep);
        let (notifier, notifier_stopped) = (app.notifier.clone(), stopped.clone());
        let notifications = notifier.map(|notifier| {
            // A task of its own: whatever happens to it, orders expire.
            runtime.spawn(async move { notifier.run(notifier_stopped).await })
        });
        let until = async move {
            let _ = ids_stopped.wait_for(|stopped| *stopped).await;
        };
        Self {
            recorder: runtime.spawn(Arc::clone(app.operations.recorder()).run(stopped.clone())),
            upkeep: Some(runtime.spawn(async move {
                let keys = jwt.map(|jwt| jwt.keep(keys_stopped));
                let work = async {
                    tokio::join!(upkeep.run(stopped), OptionFuture::from(keys), warm_up);
                };
                let ((), told) = tokio::join!(work, OptionFuture::from(notifications));
                if let Some(Err(error)) = told {
                    tracing::error!(%error, "notifications ended early");
                }
            })),
            monitor: runtime.spawn(monitor),
            lease: runtime.spawn(snowflake::keep(Arc::clone(&app.ids), leases, until)),
            stop_upkeep,
            stop_monitor,
            stop_ids,
        }
    }
}

fn jwt(config: &Config) -> Result<Option<Arc<Jwt>>, AppError> {
    let config = &config.identity.jwt;
    let jwt = config.is_on().then(|| Jwt::new(config)).transpose();
    Ok(jwt.map_err(|problems| AppError::Jwt(problems.join("; ")))?.map(Arc::new))
}

/// What is kept in a data directory.
struct Store {
    catalogue: EmbeddedCatalogue,
    engine: EmbeddedLedger,
    queue: Option<EmbeddedQueue>,
    leases: Arc<dyn WorkerLease>,
}

impl Store {
    fn open(directory: Option<&Path>, config: &Config, clock: Arc<dyn Clock>) -> Result<Self, AppError> {
        let Some(directory) = directory else {
            return Ok(Self {
                catalogue: EmbeddedCatalogue::in_memory(Arc::clone(&clock))?,
                engine: EmbeddedLedger::in_memory(LedgerRole::Single, clock),
                queue: None,
                leases: Arc::new(InMemoryLease::new(WORKERS)),
            });
        };
        // Only its owner can enter it.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| AppError::Directory { directory: directory.to_owned(), source })?;
        Ok(Self {
            catalogue: EmbeddedCatalogue::open(directory, Arc::clone(&clock))?,
            queue: Some(EmbeddedQueue::open(directory, Arc::clone(&clock))?),
            engine: EmbeddedLedger::open(EmbeddedOptions {
                max_batch: config.order.max_batch,
                snapshot_after_bytes: config.storage.snapshot_after_bytes,
                ..EmbeddedOptions::new(directory, LedgerRole::Single, clock)
            })?,
            leases: Arc::new(LeaseFile::new(directory.join("workers"), WORKERS)?),
        })
    }
}
