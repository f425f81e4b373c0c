//! The complete configuration.

use serde::{Deserialize, Serialize};

use super::{
    CacheConfig, ChallengeConfig, ClockConfig, GuardConfig, HttpConfig, IdentityConfig, IdsConfig, LogConfig,
    MonitorConfig, NotificationsConfig, OperationsConfig, OrderConfig, PaymentConfig, QueueConfig,
    RateConfig, SecretsConfig, StorageConfig, TicketConfig, TlsConfig,
};

/// The complete configuration of the server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `demo`: demo identity, sandbox provider, generated tokens. Default false; flag `--demo`.
    pub demo: bool,
    /// `[http]`: listeners, runtimes and limits of the transport.
    pub http: HttpConfig,
    /// `[tls]`: certificates of the listeners.
    pub tls: TlsConfig,
    /// `[storage]`: where the embedded engine keeps its data.
    pub storage: StorageConfig,
    /// `[order]`: order queues in front of the ledger.
    pub order: OrderConfig,
    /// `[ticket]`: when tickets are issued and how long they are valid.
    pub ticket: TicketConfig,
    /// `[identity]`: how buyers are authenticated.
    pub identity: IdentityConfig,
    /// `[clock]`: when a jump of the machine's clock is believed.
    pub clock: ClockConfig,
    /// `[ids]`: id generation.
    pub ids: IdsConfig,
    /// `[payment]`: the payment provider and payment deadlines.
    pub payment: PaymentConfig,
    /// `[queue]`: retries of jobs.
    pub queue: QueueConfig,
    /// `[notifications]`: the webhook for order events.
    pub notifications: NotificationsConfig,
    /// `[rate]`: rate limits per user and per address.
    pub rate: RateConfig,
    /// `[guard]`: which protection rules are active.
    pub guard: GuardConfig,
    /// `[challenge]`: challenges for suspicious visitors.
    pub challenge: ChallengeConfig,
    /// `[operations]`: access to the operations listener.
    pub operations: OperationsConfig,
    /// `[secrets]`: key files.
    pub secrets: SecretsConfig,
    /// `[cache]`: caches of rendered products and SKUs.
    pub cache: CacheConfig,
    /// `[monitor]`: the invariant monitor.
    pub monitor: MonitorConfig,
    /// `[log]`: logging.
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
        self.clock.check(&mut problems);
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
