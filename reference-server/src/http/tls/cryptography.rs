//! The cryptography of all TLS here.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The cryptography of both sides: named here, so that no choice of the whole process is needed.
pub(super) fn cryptography() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
