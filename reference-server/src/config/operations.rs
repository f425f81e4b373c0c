//! `[operations]`: who may use the operations listener.

use serde::Deserialize;

use super::Secret;

/// Who may use the operations listener; table `[operations]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperationsConfig {
    /// `[[operations.tokens]]`: bearer tokens. Default none; `--demo` makes one for each role.
    pub tokens: Vec<OperationsToken>,
}

/// One bearer token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationsToken {
    /// Who uses it, as the audit trail shows it.
    pub name: String,
    /// What it may do.
    pub roles: Vec<Role>,
    /// The token itself, at least 16 bytes.
    pub token: Secret,
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Makes products and activities.
    Creator,
    /// Approves what another one made.
    Reviewer,
    /// Runs a sale: publish, pause, adjust, refund.
    Operator,
    /// Reads everything.
    Auditor,
}

impl Role {
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
            if token.token.expose().len() < 16 {
                problems.push(format!("{key}.token: give at least 16 bytes"));
            }
        }
    }
}
