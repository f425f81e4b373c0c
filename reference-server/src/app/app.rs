//! Everything that answers requests share.

use std::{collections::HashMap, net::IpAddr, path::PathBuf, sync::Arc};

use flashsale_core::{
    admission::{Guards, TicketKeys, TicketTerms},
    catalogue::Catalogue,
    domain::{Attribution, Clock, Provider, SubjectId},
    queue::{Queue, Worker},
    service::{Maintenance, Notifier, Operations, OrderService, Payments, Sales},
    snowflake::Generator,
};
use ipnet::IpNet;

use super::Close;
use crate::{
    auth::{jwt::Jwt, keyring::Ring, receipts::Receipts, sessions::Sessions},
    backup::Backup,
    challenge::Challenges,
    config::OperationsToken,
    integrations::sandbox::Sandbox,
    monitoring::{inspector::Inspector, invariants::Monitor, metrics::Metrics},
    runtime::background::Spawner,
    storefront::Storefront,
};

/// Everything that answers requests share.
#[derive(Debug)]
pub struct App {
    /// The clock of this process.
    pub clock: Arc<dyn Clock>,
    /// Starts work that a client's disconnect must not stop.
    pub spawner: Spawner,
    /// Products and activities.
    pub catalogue: Arc<dyn Catalogue>,
    /// Looks inside the ledger.
    pub inspector: Arc<dyn Inspector>,
    /// Copies what is kept; `None` in memory.
    pub backup: Option<Arc<dyn Backup>>,
    /// Closes ledger, catalogue and queue.
    pub close_stores: Close,
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
    /// What buyers are shown.
    pub storefront: Arc<Storefront>,
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
}

impl App {
    /// Those who do the jobs of this process.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.upkeep.workers().into_iter().chain(self.notifier.iter().map(|notifier| notifier.worker()))
    }

    /// Why this process cannot sell now; empty if it can.
    pub fn obstacles(&self) -> Vec<String> {
        let now = self.clock.now();
        let mut obstacles = Vec::new();
        if let Err(error) = self.inspector.health() {
            obstacles.push(format!("ledger: {error}"));
        }
        // Looked at, not tried: a monitor must not use up ids.
        if now >= self.ids.lease().until {
            obstacles.push("ids: the lease of the worker id has ended".to_owned());
        }
        if !self.storefront.products().are_warm() {
            obstacles.push("pages: products on sale are still being written".to_owned());
        }
        for id in self.storefront.published().activities.keys() {
            if !self.sales.sale(*id).is_some_and(|sale| sale.is_warm(now)) {
                obstacles.push(format!("activity {id}: its views are not fresh"));
            }
        }
        obstacles
    }
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
