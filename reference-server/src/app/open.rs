//! Starts and stops the application.

use std::{
    error::Error,
    path::Path,
    sync::{Arc, OnceLock},
};

use flashsale_core::{
    admission::{AccountRisk, GuardOptions, Guards, TicketTerms},
    clock::{SteeredClock, TimeSource},
    domain::{Clock, Invalid, Issuer, SteadyTime, Timestamp},
    ledger::{Consumer, LedgerCalls as _},
    queue::Queue,
    service::{
        BatcherOptions, Maintenance, Notifier, Operations, OrderService, PaymentProvider, Payments, Sales,
        Timekeeper,
    },
    snowflake::{Generator, Settings},
};

use super::{App, AppError, Deployment, Jobs, Progress, PublishError, by, progress::StartStep};
use crate::{
    auth::{buyers::Buyers, jwt::Jwt, keyring::Keyring, receipts::Receipts, sessions::Sessions},
    challenge::Challenges,
    config::{Config, Secret},
    integrations::{callbacks::Callbacks, sandbox::Sandbox, webhook::Webhook},
    monitoring::{invariants::Monitor, metrics::Metrics},
    runtime::background::Spawner,
    storefront::{Storefront, pages::Site},
};

impl App {
    /// Opens and publishes the data directory and starts the background tasks. Blocks on disk I/O.
    ///
    /// # Errors
    /// [`AppError`]; existing data is not damaged.
    pub async fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        spawner: Spawner,
    ) -> Result<(Arc<Self>, Jobs), AppError> {
        let deployment = Deployment::embedded(config, &clock)?;
        Self::on(deployment, config, clock, spawner).await
    }

    /// Like [`App::open`], on a clock that is steered by these two clocks. It starts at the
    /// ledger's last decision if the wall is behind that. Notes in `progress` how far it is.
    ///
    /// # Errors
    /// [`AppError`]; existing data is not damaged.
    pub async fn open_steered(
        config: &Config,
        source: Arc<dyn TimeSource>,
        spawner: Spawner,
        progress: &Progress,
    ) -> Result<(Arc<Self>, Jobs), AppError> {
        let clock = Arc::new(SteeredClock::new(source, config.clock.options()));
        let decides: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let deployment = Deployment::embedded(config, &decides)?;
        clock.start_at(deployment.decided_until);
        Self::start(deployment, config, decides, Some(clock), spawner, progress).await
    }

    /// Like [`App::open`], on stores that are already open. Every time of `clock` is believed.
    ///
    /// # Errors
    /// [`AppError`]; existing data is not damaged.
    pub async fn on(
        deployment: Deployment,
        config: &Config,
        clock: Arc<dyn Clock>,
        spawner: Spawner,
    ) -> Result<(Arc<Self>, Jobs), AppError> {
        Self::start(deployment, config, clock, None, spawner, &Progress::default()).await
    }

    async fn start(
        deployment: Deployment,
        config: &Config,
        clock: Arc<dyn Clock>,
        steered: Option<Arc<SteeredClock>>,
        spawner: Spawner,
        progress: &Progress,
    ) -> Result<(Arc<Self>, Jobs), AppError> {
        let leases = Arc::clone(&deployment.leases);
        let settings = Settings { term: config.ids.lease(), ..Settings::default() };
        // A step back of the clock must not stop the ids.
        let steady = Arc::new(SteadyTime(Arc::clone(&clock)));
        let ids = Arc::new(Generator::acquire(&*leases, &settings, steady).await?);
        let app = Arc::new(Self::assemble(deployment, config, ids, (clock, steered), spawner)?);
        app.resume(progress).await?;
        let jobs = Jobs::start(&app, leases, config.monitor.period());
        Ok((app, jobs))
    }

    /// Stops the background tasks, drains the order queues, and closes the stores.
    ///
    /// # Errors
    /// If the ledger could not write its snapshot. No order is lost; the next start takes longer.
    pub async fn close(&self, mut jobs: Jobs) -> Result<(), Box<dyn Error + Send + Sync>> {
        jobs.stop_upkeep().await;
        jobs.stop_monitor.send_replace(true);
        if let Err(error) = jobs.monitor.await {
            tracing::error!(%error, "the invariant monitor failed");
        }
        if let Err(error) = jobs.recorder.await {
            tracing::error!(%error, "the audit recorder failed");
        }
        self.sales.drain().await;
        if let Err(error) = self.operations.recorder().record_all().await {
            tracing::warn!(%error, "some audit rows were not written; they are written at the next start");
        }
        let closed = self.close_stores.call().await;
        jobs.stop_ids.send_replace(true);
        match jobs.lease.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the worker id was not released"),
            Err(error) => tracing::error!(%error, "the lease task failed; the worker id was not released"),
        }
        closed
    }

    /// Builds the services on top of the stores. Starts nothing.
    fn assemble(
        deployment: Deployment,
        config: &Config,
        ids: Arc<Generator>,
        (clock, steered): (Arc<dyn Clock>, Option<Arc<SteeredClock>>),
        spawner: Spawner,
    ) -> Result<Self, AppError> {
        let Deployment { ledger, catalogue, queue, identities, inspector, backup, close, .. } = deployment;
        let directory = (!config.storage.in_memory).then(|| config.storage.directory.clone());
        let keyring = Keyring::load(config, directory.as_deref())?;
        let issuer = config.identity.jwt.issuer.as_deref().unwrap_or_default();
        let buyers = Arc::new(Buyers::new(identities, issuer));
        let background = spawner.runtime().clone();
        let options = BatcherOptions {
            reserve_room: config.order.reserve_queue,
            advance_room: config.order.advance_queue,
        };
        let sales = Arc::new(Sales::new(ledger, Arc::clone(&clock), background, options));
        let sandbox =
            config.payment.sandbox.then(|| Arc::new(Sandbox::new(config.payment.captures_in_parts)));
        let providers = sandbox.iter().map(|sandbox| Arc::clone(sandbox) as Arc<dyn PaymentProvider>);
        let breaker = config.payment.breaker.options()?;
        let payments = Payments::with_breakers(Arc::clone(&sales), Arc::clone(&ids), providers, breaker);
        let operations = Operations::new(
            Arc::clone(&catalogue),
            Arc::clone(&sales),
            payments.clone(),
            Arc::clone(&ids),
            Arc::clone(&queue),
            config.payment.timing(),
        );
        let timekeeper = steered.map(|steered| {
            let recorder = Arc::clone(operations.recorder());
            Arc::new(Timekeeper::new(steered, Arc::clone(&sales), recorder))
        });
        let retries = config.queue.retries();
        let maintenance = Maintenance::new(Arc::clone(&sales), payments.clone(), Arc::clone(&queue), retries);
        let callbacks = Callbacks::new(payments.clone(), Arc::clone(&queue), retries);
        let notifier =
            notifier(config, keyring.notifications, &buyers, &sales, &queue, &clock)?.map(Arc::new);
        let site = Site::own(config.identity.demo);
        let storefront = Storefront::new(
            Arc::clone(&catalogue),
            Arc::clone(&sales),
            spawner.clone(),
            site,
            (&config.cache, &clock),
        );
        let storefront = Arc::new(storefront.map_err(PublishError::from)?);
        Ok(Self {
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
                .then(|| Sessions::new(&keyring.session, config.identity.session(), buyers.issuer().clone())),
            jwt: jwt(config, buyers.issuer(), directory.as_deref())?,
            buyers,
            receipts: Receipts::new(&keyring.session),
            callback_keys: keyring.callbacks,
            callbacks: Arc::new(callbacks),
            tokens: keyring.tokens,
            guards: guards(config, clock.now())?,
            challenges: Challenges::new(
                keyring.challenges,
                &config.challenge.options(),
                spawner.runtime().clone(),
            ),
            challenge_terms: TicketTerms { lead: config.challenge.lead(), life: config.challenge.lifetime() },
            trusted_proxies: config.http.trusted_proxies.clone(),
            storefront,
            public_url: config.http.public_url.clone(),
            health_path: config.http.health_path.clone(),
            origins: config.http.cors_origins.clone(),
            cors_headers: config.http.cors_headers.clone(),
            catalogue,
            inspector,
            backup,
            close_stores: close,
            queue,
            maintenance: Arc::new(maintenance),
            notifier,
            directory,
            metrics: Metrics::default(),
            monitor: Arc::new(Monitor::new(config.monitor.limits())),
            failed_task: OnceLock::new(),
            clock,
            timekeeper,
            spawner,
            sales,
            ids,
        })
    }

    /// Brings the ledger up to date with the catalogue, resumes sales, and fills the storefront.
    async fn resume(&self, progress: &Progress) -> Result<(), AppError> {
        progress.reach(StartStep::Activities);
        self.operations.resume().await?;
        match &self.notifier {
            Some(notifier) => notifier.register().await?,
            // The journal keeps unread events for an earlier receiver. Nobody will read them now.
            None => self.sales.ledger().retire(&Consumer::new(Notifier::CONSUMER)).await?,
        }
        self.sales.resume().await?;
        self.operations.apply_all(&by("server", "published at start")).await.map_err(PublishError::from)?;
        progress.reach(StartStep::Pages);
        self.storefront.refresh().await.map_err(PublishError::from)?;
        Ok(())
    }
}

fn notifier(
    config: &Config,
    secret: Option<Secret>,
    buyers: &Arc<Buyers>,
    sales: &Arc<Sales>,
    queue: &Arc<dyn Queue>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Notifier>, AppError> {
    let (secret, buyers, clock) = (secret.unwrap_or_default(), Arc::clone(buyers), Arc::clone(clock));
    let webhook = Webhook::configured(&config.notifications, secret, buyers, clock);
    let Some(webhook) = webhook.map_err(AppError::Webhook)? else { return Ok(None) };
    let retries = config.queue.retries();
    Ok(Some(Notifier::new(Arc::clone(sales), Arc::clone(queue), Arc::new(webhook), retries)))
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

fn jwt(config: &Config, issuer: &Issuer, directory: Option<&Path>) -> Result<Option<Arc<Jwt>>, AppError> {
    let config = &config.identity.jwt;
    let jwt = config.is_on().then(|| Jwt::new(config, issuer.clone(), directory)).transpose();
    Ok(jwt.map_err(|problems| AppError::Jwt(problems.join("; ")))?.map(Arc::new))
}
