//! TLS as a client.

use std::{fs, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio_rustls::TlsConnector;

use super::{certificates, cryptography};

/// Creates a connector for `server`, `HOST:PORT`, that trusts the CAs in the PEM file `ca`; returns
/// it with the name to verify.
///
/// # Errors
/// A message that names the unusable file or host.
pub(crate) fn connector(server: &str, ca: &Path) -> Result<(TlsConnector, ServerName<'static>), String> {
    let in_file = |problem: String| format!("{}: {problem}", ca.display());
    let pem = fs::read(ca).map_err(|error| in_file(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pem).map_err(in_file)? {
        roots.add(certificate).map_err(|error| in_file(error.to_string()))?;
    }
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host:?} is not a valid host name or address; give https://HOST:PORT"))?;
    let config = ClientConfig::builder_with_provider(cryptography())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}
