//! Configuration: one struct per table, a default for every key, all problems reported at once.
//!
//! Flags override the environment, which overrides the file (`--config`), which overrides the
//! defaults. Unknown keys are errors. `check-config` prints the effective values and their sources.

mod breaker;
mod cache;
mod checked;
mod clock;
mod config;
mod guard;
mod http;
mod identity;
mod ids;
mod jwt;
mod layers;
mod listen_address;
mod log;
mod monitor;
mod notifications;
mod operations;
mod origin;
mod payment;
mod queue;
mod range;
mod rate;
mod report;
mod sale;
mod secret;
mod tls;

pub use breaker::BreakerConfig;
pub use cache::CacheConfig;
pub use checked::{Checked, ConfigErrors};
pub use clock::ClockConfig;
pub use config::Config;
pub use guard::{ChallengeConfig, GuardConfig};
pub use http::HttpConfig;
#[cfg(test)]
pub(crate) use http::TAKEN;
pub use identity::IdentityConfig;
pub use ids::IdsConfig;
pub use jwt::JwtConfig;
pub use layers::Source;
pub use listen_address::{ListenAddress, NotAListenAddress};
pub use log::{LogConfig, LogFormat};
pub use monitor::MonitorConfig;
pub use notifications::NotificationsConfig;
pub use operations::{OperationsConfig, OperationsToken, OperatorRole};
pub use payment::PaymentConfig;
pub use queue::QueueConfig;
pub use rate::{Quotas, RateConfig};
pub use sale::{OrderConfig, StorageConfig, TicketConfig};
pub use secret::{Files, Secret, SecretsConfig, TicketKey};
pub use tls::{CertificateFiles, TlsConfig};
