//! Everything that the server can be told.

use serde::{Deserialize, Serialize};

use super::{
    CacheConfig, ChallengeConfig, GuardConfig, HttpConfig, IdentityConfig, IdsConfig, LogConfig,
    MonitorConfig, NotificationsConfig, OperationsConfig, OrderConfig, PaymentConfig, QueueConfig,
    RateConfig, SecretsConfig, StorageConfig, TicketConfig, TlsConfig,
};

/// Everything that the server can be told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `demo`: demo identity, sandbox provider, generated secrets and tokens. Default false; flag `--demo`.
    pub demo: bool,
    /// `[http]`: listeners, runtimes and limits of the transport.
    pub http: HttpConfig,
    /// `[tls]`: certificates of the listeners.
    pub tls: TlsConfig,
    /// `[storage]`: where the embedded engine keeps its data.
    pub storage: StorageConfig,
    /// `[order]`: queues in front of the ledger.
    pub order: OrderConfig,
    /// `[ticket]`: when tickets are issued and how long they hold.
    pub ticket: TicketConfig,
    /// `[identity]`: who buyers are.
    pub identity: IdentityConfig,
    /// `[ids]`: how ids are made.
    pub ids: IdsConfig,
    /// `[payment]`: who takes the money, and how long that may take.
    pub payment: PaymentConfig,
    /// `[queue]`: how jobs are tried again.
    pub queue: QueueConfig,
    /// `[notifications]`: who is told what happens to orders.
    pub notifications: NotificationsConfig,
    /// `[rate]`: how often one buyer, and one address, may ask.
    pub rate: RateConfig,
    /// `[guard]`: which rules stand in front of a sale.
    pub guard: GuardConfig,
    /// `[challenge]`: what suspicious visitors have to solve.
    pub challenge: ChallengeConfig,
    /// `[operations]`: who may use the operations listener.
    pub operations: OperationsConfig,
    /// `[secrets]`: files that hold keys.
    pub secrets: SecretsConfig,
    /// `[cache]`: what is kept of products and SKUs, written out.
    pub cache: CacheConfig,
    /// `[monitor]`: how closely the invariants are watched.
    pub monitor: MonitorConfig,
    /// `[log]`: what is written about the server's work.
    pub log: LogConfig,
}

impl Config {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        self.http.check(&mut problems);
        self.tls.check(&mut problems);
        self.storage.check(&mut problems);
        self.order.check(&mut problems);
        self.ticket.check(&mut problems);
        self.identity.check(&mut problems);
        self.ids.check(&mut problems);
        self.payment.check(&mut problems);
        self.queue.check(&mut problems);
        self.notifications.check(&mut problems);
        self.rate.check(&mut problems);
        self.guard.check(&mut problems);
        self.challenge.check(&mut problems);
        self.operations.check(&mut problems);
        self.secrets.check(&mut problems);
        self.cache.check(&mut problems);
        self.monitor.check(&mut problems);
        self.log.check(&mut problems);
        problems
    }
}
