//! TLS of a listener, with certificate reload.

mod certificate;
mod connector;
mod cryptography;
#[cfg(test)]
mod tests;

use std::{fmt, io, sync::Arc};

use arc_swap::ArcSwap;
use flashsale_core::domain::Timestamp;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub(crate) use self::connector::connector;
use self::{
    certificate::{Certificate, certificates},
    cryptography::cryptography,
};
use crate::config::{CertificateFiles, TlsConfig};

/// TLS 1.2 and 1.3 of one listener, for HTTP/1.1. Clones share the certificate.
#[derive(Clone)]
pub struct Tls {
    listener: &'static str,
    files: CertificateFiles,
    acceptor: TlsAcceptor,
    current: Arc<Current>,
}

impl Tls {
    /// Sets up TLS from the files of `[tls.<listener>]`; `None` if none are configured.
    ///
    /// # Errors
    /// All problems with the files, each with its configuration key.
    pub fn new(
        listener: &'static str,
        files: &CertificateFiles,
        now: Timestamp,
    ) -> Result<Option<Self>, Vec<String>> {
        let Some(certificate) = Certificate::read(listener, files, now)? else { return Ok(None) };
        let current = Arc::new(Current(ArcSwap::from_pointee(certificate)));
        let config =
            config(Arc::clone(&current)).map_err(|error| vec![format!("tls.{listener}: {error}")])?;
        Ok(Some(Self {
            listener,
            files: files.clone(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            current,
        }))
    }

    /// Reloads the files for new connections. Returns whether the certificate changed.
    ///
    /// # Errors
    /// All problems with the files; the old certificate stays in use.
    pub fn reload(&self, now: Timestamp) -> Result<bool, Vec<String>> {
        let Some(certificate) = Certificate::read(self.listener, &self.files, now)? else { return Ok(false) };
        let changed = certificate.key.cert != self.current.0.load().key.cert;
        self.current.0.store(Arc::new(certificate));
        Ok(changed)
    }

    /// Returns the listener's name, `public` or `operations`.
    pub fn listener(&self) -> &'static str {
        self.listener
    }

    /// Returns when the certificate expires.
    pub fn ends_at(&self) -> Timestamp {
        self.current.0.load().ends_at
    }

    /// Performs the server side of a handshake, without a time limit.
    ///
    /// # Errors
    /// If there is no common TLS version, or the client rejects the certificate or disconnects.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("listener", &self.listener)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

/// Lists all problems with the listeners' certificate files, each with its configuration key.
pub fn problems(config: &TlsConfig, now: Timestamp) -> Vec<String> {
    let listeners = [("public", &config.public), ("operations", &config.operations)];
    let read = listeners.map(|(listener, files)| Certificate::read(listener, files, now));
    read.into_iter().filter_map(Result::err).flatten().collect()
}

/// The certificate of new connections.
#[derive(Debug)]
struct Current(ArcSwap<Certificate>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}

fn config(current: Arc<Current>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(cryptography())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(current);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Session tickets let returning buyers resume: no shared session table, and fewer signatures.
    config.ticketer = Ticketer::new()?;
    Ok(config)
}
