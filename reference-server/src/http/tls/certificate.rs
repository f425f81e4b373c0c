//! Reads and validates a certificate and its private key.

use std::{fmt, fs, path::Path, sync::Arc};

use flashsale_core::domain::Timestamp;
use rustls::{
    Error, InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::{CertifiedKey, SigningKey},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::cryptography::cryptography;
use crate::{config::CertificateFiles, rfc3339::Rfc3339};

/// A validated certificate chain with its private key.
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) ends_at: Timestamp,
}

/// Omits the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("ends_at", &self.ends_at).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads the files of a listener; `None` if none are configured.
    ///
    /// # Errors
    /// All problems with the files, each with its configuration key: unreadable files, a key that
    /// does not match, an expired certificate. Messages contain no file contents.
    pub(super) fn read(
        listener: &str,
        files: &CertificateFiles,
        now: Timestamp,
    ) -> Result<Option<Self>, Vec<String>> {
        let (Some(certificate_file), Some(key_file)) = (&files.certificate_file, &files.key_file) else {
            return Ok(None);
        };
        let in_certificate = |problem: String| {
            format!("tls.{listener}.certificate_file: {}: {problem}", certificate_file.display())
        };
        let in_key = |problem: String| format!("tls.{listener}.key_file: {}: {problem}", key_file.display());

        let chain = content(certificate_file).and_then(|pem| certificates(&pem));
        let ends_at = chain.and_then(|chain| {
            let ends_at = ends_at(&chain[0])?;
            if now >= ends_at {
                return Err(format!("the certificate expired at {}; replace it", Rfc3339(ends_at)));
            }
            Ok((chain, ends_at))
        });
        let key = content(key_file).and_then(|pem| signing_key(&pem));
        let ((chain, ends_at), key) = match (ends_at.map_err(in_certificate), key.map_err(in_key)) {
            (Ok(certificate), Ok(key)) => (certificate, key),
            (certificate, key) => return Err(certificate.err().into_iter().chain(key.err()).collect()),
        };
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                let certificate = certificate_file.display();
                return Err(vec![in_key(format!("does not match the certificate in {certificate}"))]);
            }
            Err(error) => return Err(vec![in_certificate(format!("is not usable: {error}"))]),
        }
        Ok(Some(Self { key: Arc::new(key), ends_at }))
    }
}

fn content(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| error.to_string())
}

/// Parses the certificates of a PEM text, at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err("contains no complete PEM certificate (BEGIN CERTIFICATE)".to_owned()),
    }
}

fn signing_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        "contains no complete PEM private key (BEGIN PRIVATE KEY); an encrypted key must be decrypted"
            .to_owned()
    })?;
    let key = cryptography().key_provider.load_private_key(key);
    key.map_err(|_| "is not a supported key; use ECDSA, Ed25519 or RSA with at least 2048 bits".to_owned())
}

/// Returns when a certificate expires.
fn ends_at(certificate: &CertificateDer<'_>) -> Result<Timestamp, String> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| "is not an X.509 certificate".to_owned())?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    Ok(Timestamp::from_millis(seconds.saturating_mul(1000)))
}
