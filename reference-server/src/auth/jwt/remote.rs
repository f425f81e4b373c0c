//! The key set at an address of the identity provider.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header::ACCEPT};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::keys::{MAX_BYTES, check_public_key_set};
use crate::{config::JwtConfig, http::Client};

/// Time limit of one fetch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A key set at an address, with the last good answer. That is also kept in the data directory, so
/// that a restart during an outage of the provider locks nobody out.
#[derive(Debug)]
pub(super) struct RemoteKeySet {
    url: String,
    client: Client,
    /// The file with the last good answer; `None` if the stores are in memory.
    file: Option<PathBuf>,
    last: ArcSwapOption<Bytes>,
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Where the set is from: a set of another provider is not used.
    url: String,
    set: serde_json::Value,
}

impl RemoteKeySet {
    /// The name of the file in the data directory.
    const FILE: &'static str = "identity-keys.json";

    /// Prepares the configured address, and reads what `directory` keeps of it. `None` if no
    /// address is configured.
    ///
    /// # Errors
    /// What is wrong with the address or its certificates, with the configuration key.
    pub(super) fn configured(config: &JwtConfig, directory: Option<&Path>) -> Result<Option<Self>, String> {
        let Some(url) = config.jwks_url.clone() else { return Ok(None) };
        let failed = |problem: String| format!("identity.jwt.jwks_url: {problem}");
        let client = Client::new(&url, config.jwks_ca_file.as_deref(), "identity.jwt.jwks_ca_file");
        let client = client.map_err(failed)?;
        if !client.is_secure() {
            return Err(failed(
                "must begin with https://; otherwise anybody could answer with keys".to_owned(),
            ));
        }
        let file = directory.map(|directory| directory.join(Self::FILE));
        let last = file.as_deref().and_then(|file| kept(file, &url)).map(Arc::new);
        Ok(Some(Self { url, client, file, last: ArcSwapOption::new(last) }))
    }

    /// Returns the last good answer.
    pub(super) fn last(&self) -> Option<Bytes> {
        self.last.load().as_deref().cloned()
    }

    /// Returns the address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Fetches the set. A good answer replaces the last one.
    ///
    /// # Errors
    /// Why there is no good answer; the last one stays.
    pub(super) async fn fetch(&self) -> Result<(), String> {
        let request =
            Request::get(self.client.path()).header(ACCEPT, "application/json, application/jwk-set+json");
        let request = request.body(Full::default()).map_err(|error| error.to_string())?;
        let answer = timeout(TIMEOUT, self.client.send(request, Some(MAX_BYTES))).await;
        let answer = answer.map_err(|_| format!("did not answer within {} s", TIMEOUT.as_secs()))?;
        let (status, set) = answer.map_err(|error| error.to_string())?;
        if status != StatusCode::OK {
            return Err(format!("answered {}, 200 is needed; redirects are not followed", status.as_u16()));
        }
        check_public_key_set(&set)?;
        self.last.store(Some(Arc::new(set)));
        Ok(())
    }

    /// Writes the last good answer into the data directory. Blocks on the disk.
    pub(super) fn keep(&self) -> io::Result<()> {
        let (Some(file), Some(set)) = (&self.file, self.last()) else { return Ok(()) };
        let kept = Kept { url: self.url.clone(), set: serde_json::from_slice(&set)? };
        let new = file.with_extension("new");
        let mut written =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        written.write_all(&serde_json::to_vec(&kept)?)?;
        written.sync_all()?;
        fs::rename(&new, file)
    }
}

/// Reads a kept set. An unusable file is as good as none: the set is fetched anyway.
fn kept(file: &Path, url: &str) -> Option<Bytes> {
    let kept: Kept = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let set = serde_json::to_vec(&kept.set).ok()?;
    (kept.url == url && check_public_key_set(&set).is_ok()).then(|| set.into())
}
