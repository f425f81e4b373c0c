//! `[operations]`: access to the operations listener.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Secret;

/// Access to the operations listener; table `[operations]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperationsConfig {
    /// `[[operations.tokens]]`: bearer tokens. Default none; `--demo` generates one per role.
    pub tokens: Vec<OperationsToken>,
}

/// A bearer token of an operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationsToken {
    /// The operator's name in the audit trail; unique.
    pub name: String,
    /// The roles that it grants, at least one.
    pub roles: Vec<OperatorRole>,
    /// The token, at least 16 bytes.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub token: Secret,
    /// A file with the token, instead of `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// A set of permissions of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Creates products and activities.
    Creator,
    /// Approves activities that somebody else created.
    Reviewer,
    /// Runs a sale: publish, pause, adjust, refund.
    Operator,
    /// Reads everything.
    Auditor,
}

impl OperatorRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Creator, Self::Reviewer, Self::Operator, Self::Auditor];

    /// Returns its name in the configuration.
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
    /// Returns a copy with the token read from `token_file`, if that is set.
    ///
    /// # Errors
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
                problems.push(format!("{key}.name: is empty or taken; give each token a unique name"));
            }
            if token.roles.is_empty() {
                problems
                    .push(format!("{key}.roles: give one or more of creator, reviewer, operator, auditor"));
            }
            match (&token.token_file, token.token.expose().len()) {
                (None, 16..) | (Some(_), 0) => {}
                (None, 0) => problems.push(format!("{key}: has no token; set token_file or token")),
                (None, _) => problems.push(format!("{key}.token: is too short; give at least 16 bytes")),
                (Some(_), _) => problems.push(format!("{key}: has both token_file and token; set only one")),
            }
        }
    }
}
