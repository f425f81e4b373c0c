//! The state that all request handlers share.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use flashsale_core::{
    admission::{Guards, TicketKeys, TicketTerms},
    catalogue::Catalogue,
    clock::Doubt,
    domain::{Attribution, Clock, Provider, SubjectId},
    queue::{Queue, Worker},
    service::{Maintenance, Notifier, Operations, OrderService, Payments, Sales, Timekeeper},
    snowflake::Generator,
};
use hyper::header::HeaderName;
use ipnet::IpNet;

use super::Close;
use crate::{
    auth::{buyers::Buyers, jwt::Jwt, keyring::Ring, receipts::Receipts, sessions::Sessions},
    backup::Backup,
    challenge::Challenges,
    config::OperationsToken,
    integrations::{callbacks::Callbacks, sandbox::Sandbox},
    monitoring::{inspector::Inspector, invariants::Monitor, metrics::Metrics},
    runtime::background::Spawner,
    storefront::Storefront,
};

/// The state that all request handlers share.
#[derive(Debug)]
pub struct App {
    /// The process clock, by which everything is decided and shown.
    pub clock: Arc<dyn Clock>,
    /// Steps that clock; `None` if the clock was given, and is believed whatever it shows.
    pub timekeeper: Option<Arc<Timekeeper>>,
    /// Starts work that must survive a client's disconnect.
    pub spawner: Spawner,
    /// Products, activities and the audit trail.
    pub catalogue: Arc<dyn Catalogue>,
    /// Reads ledger internals for monitoring.
    pub inspector: Arc<dyn Inspector>,
    /// Backs up the stores; `None` if they are in memory.
    pub backup: Option<Arc<dyn Backup>>,
    /// Closes the stores.
    pub close_stores: Close,
    /// The queue of durable jobs, such as refunds.
    pub queue: Arc<dyn Queue>,
    /// Background maintenance: expires orders, closes payments, sends refunds, settles transfers.
    pub maintenance: Arc<Maintenance>,
    /// Sends order notifications; `None` if no receiver is configured.
    pub notifier: Option<Arc<Notifier>>,
    /// The sales that are open in this process.
    pub sales: Arc<Sales>,
    /// Places, looks up and cancels orders.
    pub ordering: OrderService,
    /// Opens and closes payments, and books their results.
    pub payments: Payments,
    /// Operator actions.
    pub operations: Operations,
    /// The provider for new payments; `None` if none is configured.
    pub provider: Option<Provider>,
    /// The sandbox provider, if it is enabled.
    pub sandbox: Option<Arc<Sandbox>>,
    /// Generates ids.
    pub ids: Arc<Generator>,
    /// Signs and verifies tickets.
    pub tickets: TicketKeys,
    /// When tickets are issued and how long they are valid.
    pub ticket_terms: TicketTerms,
    /// Numbers buyers, and knows the texts by which people call them.
    pub buyers: Arc<Buyers>,
    /// Issues and verifies demo sessions; `None` unless the demo identity is on.
    pub sessions: Option<Sessions>,
    /// Verifies tokens of the shop's identity provider; `None` if no key is configured.
    pub jwt: Option<Arc<Jwt>>,
    /// Issues and verifies order receipts.
    pub receipts: Receipts,
    /// The callback secrets of each payment provider.
    pub callback_keys: HashMap<Provider, Ring>,
    /// Books provider callbacks, and keeps those that cannot be booked.
    pub callbacks: Arc<Callbacks>,
    /// The bearer tokens that the operations listener accepts.
    pub tokens: Vec<OperationsToken>,
    /// Rate limits and risk rules for tickets and orders.
    pub guards: Guards,
    /// Issues and verifies challenges for suspicious visitors.
    pub challenges: Challenges,
    /// When challenges are issued and how long they are valid.
    pub challenge_terms: TicketTerms,
    /// Proxies whose `X-Forwarded-For` entries are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Published products and activities, and their pages.
    pub storefront: Arc<Storefront>,
    /// The base URL of the public listener without a trailing slash; `None` if not configured.
    pub public_url: Option<String>,
    /// The path at which the public listener answers health probes; `None` if it does not.
    pub health_path: Option<String>,
    /// Origins that may call the public listener (CORS).
    pub origins: Vec<String>,
    /// Request headers that pages of these origins may send.
    pub cors_headers: Vec<HeaderName>,
    /// The data directory; `None` if the stores are in memory.
    pub directory: Option<PathBuf>,
    /// Registered metric sources.
    pub metrics: Metrics,
    /// Checks the invariants periodically.
    pub monitor: Arc<Monitor>,
    /// What happened to the first background task that failed for good.
    pub(super) failed_task: OnceLock<&'static str>,
}

impl App {
    /// Iterates over the job workers of this process.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        let notifier = self.notifier.iter().map(|notifier| notifier.worker());
        self.maintenance.workers().into_iter().chain([self.callbacks.worker()]).chain(notifier)
    }

    /// The jump of the machine's clock that is not believed yet.
    fn doubt(&self) -> Option<Doubt> {
        self.timekeeper.as_ref()?.state().doubt
    }

    /// Lists the reasons why this process is not ready to sell; empty if it is ready.
    pub fn obstacles(&self) -> Vec<String> {
        let now = self.clock.now();
        let mut obstacles = Vec::from_iter(self.failure());
        obstacles.extend(self.doubt().map(|doubt| {
            let direction = if doubt.offset_ms < 0 { "behind" } else { "ahead of" };
            let off = Duration::from_millis(doubt.offset_ms.unsigned_abs()).as_secs_f64();
            let left = doubt.left.as_secs_f64().ceil();
            format!(
                "clock: the machine's clock is {off:.1} s {direction} the server's time; it is believed in {left} s, \
                 or with POST /v1/clock/step"
            )
        }));
        // Check the lease instead of generating an id: a probe must not consume ids.
        if self.ids.lease_left().is_zero() {
            obstacles.push("ids: the lease of the worker id has expired".to_owned());
        }
        if let Some(url) = self.jwt.as_ref().and_then(|jwt| jwt.awaited()) {
            obstacles.push(format!("identity: the keys at {url} have not been fetched yet"));
        }
        if !self.storefront.products().are_warm() {
            obstacles.push("pages: products on sale are still being rendered".to_owned());
        }
        for id in self.storefront.published().activities.keys() {
            if !self.sales.sale(*id).is_some_and(|sale| sale.is_warm(now)) {
                obstacles.push(format!("activity {id}: its stock view is stale"));
            }
        }
        obstacles
    }
}

/// Builds an attribution for actions of the server itself.
pub(crate) fn by(actor: &'static str, reason: &'static str) -> Attribution {
    Attribution {
        actor: actor.parse().expect("the actor is a valid name"),
        reason: reason.parse().expect("the reason is a valid text"),
    }
}

/// Returns the rate-limit subject of an address; IPv6 counts per /64, a customer's usual share.
pub(crate) fn address_subject(address: IpAddr) -> SubjectId {
    match address.to_canonical() {
        IpAddr::V4(address) => SubjectId::digest(&address.octets()),
        IpAddr::V6(address) => SubjectId::digest(&address.octets()[..8]),
    }
}
