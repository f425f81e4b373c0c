//! The server's own secrets: from the configuration, else kept in a file of the data directory.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use flashsale_core::{
    domain::Provider,
    ticket::{TicketKey, TicketKeys},
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, OperationsToken, Role, Secret},
    sandbox::Sandbox,
};

/// Contexts keep keys that come from the same bytes apart.
const TICKET_CONTEXT: &str = "flashsale server v1: ticket key of a secret";
const SESSION_CONTEXT: &str = "flashsale server v1: session key of a secret";

/// What a server signs and verifies with.
#[derive(Debug)]
pub struct Keyring {
    /// Signs and verifies tickets.
    pub tickets: TicketKeys,
    /// The key of demo sessions and of receipts.
    pub session: Secret,
    /// The secret of each payment provider's callbacks.
    pub callbacks: HashMap<Provider, Secret>,
    /// Who may use the operations listener.
    pub tokens: Vec<OperationsToken>,
}

/// Why there are no secrets.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct KeyringError {
    file: String,
    reason: String,
}

impl Keyring {
    /// The file in a data directory; only its owner can read it.
    pub const FILE: &'static str = "secrets.json";

    /// Collects what the configuration names, and completes it from the file in `directory`, which is made if it is not
    /// there. Without a directory the rest is random and ends with the process.
    ///
    /// # Errors
    /// If a file cannot be read, written, or understood.
    pub fn load(config: &Config, directory: Option<&Path>) -> Result<Self, KeyringError> {
        let kept = match directory {
            Some(directory) => Kept::load_or_make(directory)?,
            None => Kept::random().map_err(|error| failed(Path::new("the system's randomness"), error))?,
        };
        let secrets = &config.secrets;
        let read = |file: &Path| Secret::read(file).map_err(|error| failed(file, error));

        let session = match &secrets.session_key_file {
            Some(file) => read(file)?,
            None => kept.session_key.secret(),
        };
        let mut ring = Vec::new();
        for key in &secrets.ticket_keys {
            ring.push(
                ticket_key(key.id.into(), &read(&key.file)?).map_err(|error| failed(&key.file, error))?,
            );
        }
        if ring.is_empty() {
            let key = ticket_key(1, &kept.ticket_key.secret());
            ring.push(key.map_err(|error| failed(Path::new(Self::FILE), error))?);
        }
        let signing = ring.remove(0);
        let tickets = TicketKeys::new(signing, ring)
            .map_err(|error| failed(Path::new("secrets.ticket_keys"), error))?;

        let mut callbacks = HashMap::new();
        if config.payment.sandbox {
            callbacks.insert(Sandbox::provider(), kept.sandbox_secret.secret());
        }
        for (name, file) in &secrets.callback_files {
            let provider: Provider =
                name.parse().map_err(|error| failed(Path::new("secrets.callback_files"), error))?;
            callbacks.insert(provider, read(file)?);
        }

        let mut tokens = config.operations.tokens.clone();
        if config.demo && tokens.is_empty() {
            tokens = Role::ALL.map(|role| kept.token(role)).into();
        }
        Ok(Self { tickets, session: derived(SESSION_CONTEXT, &session), callbacks, tokens })
    }
}

fn ticket_key(id: u32, secret: &Secret) -> Result<TicketKey, flashsale_core::domain::Invalid> {
    TicketKey::new(id, blake3::derive_key(TICKET_CONTEXT, secret.expose()))
}

fn derived(context: &str, secret: &Secret) -> Secret {
    Secret::new(blake3::derive_key(context, secret.expose()))
}

fn failed(file: &Path, error: impl ToString) -> KeyringError {
    KeyringError { file: file.display().to_string(), reason: error.to_string() }
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    ticket_key: Hex,
    session_key: Hex,
    sandbox_secret: Hex,
    creator_token: Hex,
    reviewer_token: Hex,
    operator_token: Hex,
    auditor_token: Hex,
}

/// 32 random bytes as 64 hexadecimal digits; the digits are the secret.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Hex(String);

impl Hex {
    fn random() -> io::Result<Self> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(blake3::Hash::from_bytes(bytes).to_hex().to_string()))
    }

    fn secret(&self) -> Secret {
        Secret::new(self.0.clone().into_bytes())
    }
}

impl Kept {
    const VERSION: u32 = 1;

    fn random() -> io::Result<Self> {
        Ok(Self {
            version: Self::VERSION,
            ticket_key: Hex::random()?,
            session_key: Hex::random()?,
            sandbox_secret: Hex::random()?,
            creator_token: Hex::random()?,
            reviewer_token: Hex::random()?,
            operator_token: Hex::random()?,
            auditor_token: Hex::random()?,
        })
    }

    fn load_or_make(directory: &Path) -> Result<Self, KeyringError> {
        let path = directory.join(Keyring::FILE);
        match fs::read(&path) {
            Ok(content) => {
                let kept: Self = serde_json::from_slice(&content).map_err(|error| failed(&path, error))?;
                if kept.version != Self::VERSION {
                    let reason = format!(
                        "has version {}, this server reads {}: use the server that wrote it",
                        kept.version,
                        Self::VERSION
                    );
                    return Err(failed(&path, reason));
                }
                Ok(kept)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let kept = Self::random().map_err(|error| failed(&path, error))?;
                kept.write(directory, &path).map_err(|error| failed(&path, error))?;
                Ok(kept)
            }
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// The file is there whole or not at all, whenever the power fails.
    fn write(&self, directory: &Path, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(directory)?.sync_all()
    }

    fn token(&self, role: Role) -> OperationsToken {
        let token = match role {
            Role::Creator => &self.creator_token,
            Role::Reviewer => &self.reviewer_token,
            Role::Operator => &self.operator_token,
            Role::Auditor => &self.auditor_token,
        };
        OperationsToken { name: format!("demo {}", role.as_str()), roles: vec![role], token: token.secret() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_only_for_their_owner() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { demo: true, ..Config::default() };
        let first = Keyring::load(&config, Some(directory.path())).unwrap();
        let path = directory.path().join(Keyring::FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let content = fs::read(&path).unwrap();
        let second = Keyring::load(&config, Some(directory.path())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);
        assert!(first.session.matches(second.session.expose()));
        assert!(first.tokens[0].token.matches(second.tokens[0].token.expose()));
        assert_eq!(first.tokens.len(), 4);
        assert!(!format!("{first:?}").contains(str::from_utf8(first.tokens[0].token.expose()).unwrap()));
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(Keyring::FILE);
        fs::write(&path, "{}").unwrap();
        let error = Keyring::load(&Config::default(), Some(directory.path())).unwrap_err().to_string();
        assert!(error.contains("secrets.json"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"{}");
    }

    #[test]
    fn files_of_the_configuration_win() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("callback");
        fs::write(&file, "a secret of the tests\n").unwrap();
        let mut config = Config::default();
        config.payment.sandbox = true;
        config.secrets.callback_files.insert("sandbox".to_owned(), file);
        let keyring = Keyring::load(&config, None).unwrap();
        assert!(keyring.callbacks[&Sandbox::provider()].matches(b"a secret of the tests"));
        assert!(keyring.tokens.is_empty());
    }
}
