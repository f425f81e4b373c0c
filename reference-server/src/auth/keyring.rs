//! The server's secrets: from the configuration, or generated and stored in the data directory.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use flashsale_core::{
    admission::{ChallengeKeys, TicketKey, TicketKeys},
    domain::Provider,
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Files, OperationsToken, OperatorRole, Secret},
    integrations::sandbox::Sandbox,
};

/// Key-derivation contexts: they yield different keys from the same secret.
const TICKET_CONTEXT: &str = "flashsale server v1: ticket key of a secret";
const CHALLENGE_CONTEXT: &str = "flashsale server v1: challenge key of a secret";
const SESSION_CONTEXT: &str = "flashsale server v1: session key of a secret";

/// The keys that a server signs and verifies with, and its operations tokens.
#[derive(Debug)]
pub struct Keyring {
    /// Signs and verifies tickets.
    pub tickets: TicketKeys,
    /// Signs and verifies challenges. Derived from the ticket keys, so they rotate with them.
    pub challenges: ChallengeKeys,
    /// The keys of demo sessions and receipts.
    pub session: Ring,
    /// The callback secrets of each payment provider.
    pub callbacks: HashMap<Provider, Ring>,
    /// The tokens that the operations listener accepts.
    pub tokens: Vec<OperationsToken>,
    /// Signs notifications; `None` if none are sent.
    pub notifications: Option<Secret>,
}

/// The secrets for one purpose. The first signs and all are accepted, so that they can be rotated.
#[derive(Clone, Debug)]
pub struct Ring(Vec<Secret>);

impl Ring {
    /// Creates a ring that signs with `signing` and also accepts `retired`.
    pub fn new(signing: Secret, retired: impl IntoIterator<Item = Secret>) -> Self {
        Self([signing].into_iter().chain(retired).collect())
    }

    /// Returns the secret that signs.
    pub fn signing(&self) -> &Secret {
        &self.0[0]
    }

    /// Iterates over the accepted secrets, starting with the one that signs.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }

    fn read(files: &[PathBuf]) -> Result<Option<Self>, KeyringError> {
        let read = |file: &PathBuf| Secret::read(file).map_err(|error| failed(file, error));
        let secrets: Vec<_> = files.iter().map(read).collect::<Result<_, _>>()?;
        Ok((!secrets.is_empty()).then_some(Self(secrets)))
    }
}

/// Lists all problems with the secret files, each with its configuration key.
pub fn problems(config: &Config) -> Vec<String> {
    let secrets = &config.secrets;
    let sessions = secrets.session_key_files.iter().enumerate();
    let sessions = sessions.map(|(index, file)| (format!("secrets.session_key_files[{index}]"), file));
    let tickets = secrets.ticket_keys.iter().enumerate();
    let tickets = tickets.map(|(index, key)| (format!("secrets.ticket_keys[{index}].file"), &key.file));
    let callbacks = secrets.callback_files.iter().flat_map(|(provider, Files(files))| {
        files.iter().map(move |file| (format!("secrets.callback_files.{provider}"), file))
    });
    let tokens = config.operations.tokens.iter().enumerate();
    let tokens = tokens.filter_map(|(index, token)| {
        Some((format!("operations.tokens[{index}].token_file"), token.token_file.as_ref()?))
    });
    let signed = config.notifications.secret_file.iter();
    let signed = signed.map(|file| ("notifications.secret_file".to_owned(), file));
    let unread =
        sessions.chain(tickets).chain(callbacks).chain(tokens).chain(signed).filter_map(|(key, file)| {
            let error = Secret::read(file).err()?;
            Some(format!("{key}: {error}"))
        });
    let providers = secrets.callback_files.keys().filter_map(|name| {
        let error = name.parse::<Provider>().err()?;
        Some(format!("secrets.callback_files.{name}: {error}"))
    });
    unread.chain(providers).collect()
}

/// Why the secrets could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct KeyringError {
    file: String,
    reason: String,
}

impl Keyring {
    /// The name of the secrets file in a data directory. Only its owner can read it.
    pub const FILE: &'static str = "secrets.json";

    /// Loads the configured secrets. Others come from the file in `directory`, which is created if
    /// necessary; without a directory they are random for each process.
    ///
    /// # Errors
    /// If a file cannot be read, written, or parsed.
    pub fn load(config: &Config, directory: Option<&Path>) -> Result<Self, KeyringError> {
        let stored = match directory {
            Some(directory) => StoredSecrets::load_or_generate(directory)?,
            None => StoredSecrets::random()
                .map_err(|error| failed(Path::new("system random generator"), error))?,
        };
        let secrets = &config.secrets;
        let read = |file: &Path| Secret::read(file).map_err(|error| failed(file, error));

        let session = Ring::read(&secrets.session_key_files)?;
        let session = session.unwrap_or_else(|| Ring::new(stored.session_key.secret(), []));
        let session = Ring(session.iter().map(|secret| derived(SESSION_CONTEXT, secret)).collect());
        let mut ring = Vec::new();
        let mut challenge_ring = Vec::new();
        for key in &secrets.ticket_keys {
            let secret = read(&key.file)?;
            ring.push(ticket_key(key.id.into(), &secret).map_err(|error| failed(&key.file, error))?);
            challenge_ring.push(challenge_key(key.id.into(), &secret));
        }
        if ring.is_empty() {
            let secret = stored.ticket_key.secret();
            ring.push(ticket_key(1, &secret).map_err(|error| failed(Path::new(Self::FILE), error))?);
            challenge_ring.push(challenge_key(1, &secret));
        }
        let challenges = ChallengeKeys::new(challenge_ring)
            .map_err(|error| failed(Path::new("secrets.ticket_keys"), error))?;
        let signing = ring.remove(0);
        let tickets = TicketKeys::new(signing, ring)
            .map_err(|error| failed(Path::new("secrets.ticket_keys"), error))?;

        let mut callbacks = HashMap::new();
        if config.payment.sandbox {
            callbacks.insert(Sandbox::provider(), Ring::new(stored.sandbox_secret.secret(), []));
        }
        for (name, Files(files)) in &secrets.callback_files {
            let provider: Provider =
                name.parse().map_err(|error| failed(Path::new("secrets.callback_files"), error))?;
            callbacks.extend(Ring::read(files)?.map(|ring| (provider, ring)));
        }

        let resolved = |token: &OperationsToken| {
            token.resolved().map_err(|error| failed(Path::new("operations.tokens"), error))
        };
        let mut tokens: Vec<_> = config.operations.tokens.iter().map(resolved).collect::<Result<_, _>>()?;
        if config.demo && tokens.is_empty() {
            tokens = OperatorRole::ALL.map(|role| stored.token(role)).into();
        }
        let notifications = config.notifications.secret_file.as_deref().map(read).transpose()?;
        Ok(Self { tickets, challenges, session, callbacks, tokens, notifications })
    }
}

fn ticket_key(id: u32, secret: &Secret) -> Result<TicketKey, flashsale_core::domain::Invalid> {
    TicketKey::new(id, blake3::derive_key(TICKET_CONTEXT, secret.expose()))
}

fn challenge_key(id: u32, secret: &Secret) -> (u32, [u8; 32]) {
    (id, blake3::derive_key(CHALLENGE_CONTEXT, secret.expose()))
}

fn derived(context: &str, secret: &Secret) -> Secret {
    Secret::new(blake3::derive_key(context, secret.expose()))
}

fn failed(file: &Path, error: impl ToString) -> KeyringError {
    KeyringError { file: file.display().to_string(), reason: error.to_string() }
}

/// The content of the secrets file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSecrets {
    version: u32,
    ticket_key: Hex,
    session_key: Hex,
    sandbox_secret: Hex,
    creator_token: Hex,
    reviewer_token: Hex,
    operator_token: Hex,
    auditor_token: Hex,
}

/// 32 random bytes as 64 hexadecimal digits. The digits themselves are the secret.
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

impl StoredSecrets {
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

    fn load_or_generate(directory: &Path) -> Result<Self, KeyringError> {
        let path = directory.join(Keyring::FILE);
        match fs::read(&path) {
            Ok(content) => {
                let stored: Self = serde_json::from_slice(&content).map_err(|error| failed(&path, error))?;
                if stored.version != Self::VERSION {
                    let reason = format!(
                        "has version {}, but this server supports version {}; run the server that wrote it",
                        stored.version,
                        Self::VERSION
                    );
                    return Err(failed(&path, reason));
                }
                Ok(stored)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let stored = Self::random().map_err(|error| failed(&path, error))?;
                stored.write(directory, &path).map_err(|error| failed(&path, error))?;
                Ok(stored)
            }
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// Writes the file atomically: after a power failure it is complete or absent.
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

    fn token(&self, role: OperatorRole) -> OperationsToken {
        let token = match role {
            OperatorRole::Creator => &self.creator_token,
            OperatorRole::Reviewer => &self.reviewer_token,
            OperatorRole::Operator => &self.operator_token,
            OperatorRole::Auditor => &self.auditor_token,
        };
        let name = format!("demo {}", role.as_str());
        OperationsToken { name, roles: vec![role], token: token.secret(), token_file: None }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use flashsale_core::{
        admission::Claims,
        domain::{ActivityId, Identity, IdentityKey, Issuer, Name, SkuId, Timestamp, UserId},
    };

    use super::*;
    use crate::auth::{sessions::Sessions, signature};

    #[test]
    fn secrets_are_generated_once_and_readable_only_by_their_owner() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { demo: true, ..Config::default() };
        let first = Keyring::load(&config, Some(directory.path())).unwrap();
        let path = directory.path().join(Keyring::FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let content = fs::read(&path).unwrap();
        let second = Keyring::load(&config, Some(directory.path())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);
        assert!(first.session.signing().matches(second.session.signing().expose()));
        assert!(first.tokens[0].token.matches(second.tokens[0].token.expose()));
        assert_eq!(first.tokens.len(), 4);
        assert!(!format!("{first:?}").contains(str::from_utf8(first.tokens[0].token.expose()).unwrap()));
    }

    #[test]
    fn an_unreadable_secrets_file_is_not_overwritten() {
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
        config.secrets.callback_files.insert("sandbox".to_owned(), Files(vec![file]));
        let keyring = Keyring::load(&config, None).unwrap();
        assert!(keyring.callbacks[&Sandbox::provider()].signing().matches(b"a secret of the tests"));
        assert!(keyring.tokens.is_empty());
    }

    #[test]
    fn signatures_of_an_old_key_are_accepted_while_it_is_configured() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let file = directory.path().join(name);
            fs::write(&file, format!("the {name} key of the tests\n")).unwrap();
            file
        };
        let (old, new) = (file("old"), file("new"));
        let keyring = |files: &[&PathBuf]| {
            let mut config = Config::default();
            config.payment.sandbox = true;
            config.secrets.session_key_files = files.iter().map(|file| (*file).clone()).collect();
            config.secrets.ticket_keys = files
                .iter()
                .map(|file| crate::config::TicketKey {
                    id: if **file == old { 1 } else { 2 },
                    file: (*file).clone(),
                })
                .collect();
            config.secrets.callback_files =
                [("sandbox".to_owned(), Files(config.secrets.session_key_files.clone()))].into();
            config.operations.tokens = vec![OperationsToken {
                name: "ann".to_owned(),
                roles: vec![OperatorRole::Auditor],
                token: Secret::default(),
                token_file: Some(files[0].clone()),
            }];
            assert_eq!(problems(&config), [""; 0]);
            Keyring::load(&config, None).unwrap()
        };
        let (before, between, after) = (keyring(&[&old]), keyring(&[&new, &old]), keyring(&[&new]));
        assert!(between.tokens[0].token.matches(b"the new key of the tests"));
        let now = Timestamp::from_millis(1_000_000);
        let accepts = |signer: &Keyring, verifier: &Keyring| {
            let life = Duration::from_secs(60);
            let (identity, name) = (Identity::new("7").unwrap(), Name::new("Ann").unwrap());
            let sessions =
                |ring: &Ring| Sessions::new(ring, life, Issuer::new(&IdentityKey::new([7; 32]), "the tests"));
            let (token, _) = sessions(&signer.session).issue(&identity, &name, now);
            let session = sessions(&verifier.session).verify(&token, now).is_some();
            let claims = Claims {
                activity: ActivityId::new(1).unwrap(),
                sku: SkuId::new(2).unwrap(),
                user: UserId::new(7).unwrap(),
                user_name: name,
                device: None,
            };
            let ticket = signer.tickets.issue(claims, now, now.after(life)).unwrap().text;
            let ticket = verifier.tickets.verify(&ticket, now, None).is_ok();
            let signature = signature::sign(signer.callbacks[&Sandbox::provider()].signing(), now, b"body");
            let ring = &verifier.callbacks[&Sandbox::provider()];
            let callback = signature::verify(ring, &signature, b"body", now).is_ok();
            assert!(session == ticket && ticket == callback);
            session
        };
        assert!(accepts(&before, &between) && accepts(&between, &after));
        assert!(!accepts(&before, &after) && !accepts(&between, &before));
    }
}
