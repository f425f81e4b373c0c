//! Configuration: one struct per concern, every key with a default.

mod http;

pub use http::HttpConfig;

/// Everything that the server can be told.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Transport.
    pub http: HttpConfig,
}
