//! `[tls]`: certificates of the listeners.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Certificates of the listeners; table `[tls]`. A listener without one speaks plain HTTP, for use
/// behind a proxy that terminates TLS.
///
/// The files are read at start-up and on SIGHUP.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// `[tls.public]`: certificate of the public listener. Default none.
    pub public: CertificateFiles,
    /// `[tls.operations]`: certificate of the operations listener. Default none.
    pub operations: CertificateFiles,
}

/// The files of one certificate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateFiles {
    /// `certificate_file`: PEM file with the certificate and its chain of issuers. Default none.
    pub certificate_file: Option<PathBuf>,
    /// `key_file`: its private key in PEM (PKCS #8, PKCS #1 or SEC 1), unencrypted. Default none.
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
