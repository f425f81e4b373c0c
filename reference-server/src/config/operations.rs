//! `[operations]`: who may use the operations listener.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Secret;

/// Who may use the operations listener; table `[operations]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperationsConfig {
    /// `[[operations.tokens]]`: bearer tokens. Default none; `--demo` makes one for each role.
    pub tokens: Vec<OperationsToken>,
}

/// One bearer token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationsToken {
    /// Who uses it, as the audit trail shows it.
    pub name: String,
    /// What it may do.
    pub roles: Vec<OperatorRole>,
    /// The token itself, at least 16 bytes.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub token: Secret,
    /// Instead of `token`: the file that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Makes products and activities.
    Creator,
    /// Approves what another one made.
    Reviewer,
    /// Runs a sale: publish, pause, adjust, refund.
    Operator,
    /// Reads everything.
    Auditor,
}

impl OperatorRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Creator, Self::Reviewer, Self::Operator, Self::Auditor];

    /// Its word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creator => "creator",
            Self::Reviewer => "reviewer",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }
}

impl OperationsToken {
    /// The same with the token in it, read from its file if it has one.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or holds fewer than 16 bytes.
    pub fn resolved(&self) -> io::Result<Self> {
        let mut resolved = self.clone();
        if let Some(file) = resolved.token_file.take() {
            resolved.token = Secret::read(&file)?;
        }
        Ok(resolved)
    }
}

impl OperationsConfig {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        for (index, token) in self.tokens.iter().enumerate() {
            let key = format!("operations.tokens[{index}]");
            if token.name.is_empty() || self.tokens[..index].iter().any(|other| other.name == token.name) {
                problems.push(format!("{key}.name: give every token a name of its own"));
            }
            if token.roles.is_empty() {
                problems
                    .push(format!("{key}.roles: give at least one of creator, reviewer, operator, auditor"));
            }
            match (&token.token_file, token.token.expose().len()) {
                (None, 16..) | (Some(_), 0) => {}
                (None, 0) => problems.push(format!("{key}: give token_file, or token")),
                (None, _) => problems.push(format!("{key}.token: give at least 16 bytes")),
                (Some(_), _) => problems.push(format!("{key}: give token_file or token, not both")),
            }
        }
    }
}
