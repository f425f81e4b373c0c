//! `[tls]`: certificates of the listeners.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Certificates of the listeners; table `[tls]`. A listener without one speaks plain HTTP, for a proxy in front that ends
/// TLS.
///
/// The files are read at the start, and again at each SIGHUP.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// `[tls.public]`: of the public listener. Default none.
    pub public: CertificateFiles,
    /// `[tls.operations]`: of the operations listener. Default none.
    pub operations: CertificateFiles,
}

/// The files of one certificate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateFiles {
    /// `certificate_file`: the certificate in PEM, behind it those that vouch for it, each for the one before. Default none.
    pub certificate_file: Option<PathBuf>,
    /// `key_file`: its private key in PEM (PKCS #8, PKCS #1 or SEC 1), not encrypted. Default none.
    pub key_file: Option<PathBuf>,
}

impl TlsConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        for (listener, files) in [("public", &self.public), ("operations", &self.operations)] {
            if files.certificate_file.is_some() != files.key_file.is_some() {
                problems
                    .push(format!("tls.{listener}: give certificate_file and key_file, or neither of them"));
            }
        }
    }
}
