//! Why a catalogue did not do what it was asked.

use std::error::Error;

use super::Item;

/// A part of a write that cannot be taken, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{item}: {field}: {reason}")]
pub struct Refusal {
    /// What cannot be taken.
    pub item: Item,
    /// Which part of it, in the words of the HTTP contract: `product_id`, `price`, `units`.
    pub field: &'static str,
    /// The rule, and what was seen instead.
    pub reason: String,
}

impl Refusal {
    /// The most refusals that one error lists.
    pub const MAX_REPORTED: usize = 100;
}

/// Why a catalogue did not do what it was asked.
///
/// After every error but [`CatalogueError::Unknown`] it is certain that nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// The value has another version than the writer expected; read it again.
    #[error("{item} has version {found}, the change was made for {}", .expected.map_or("a new one".into(), |version| version.to_string()))]
    Conflict {
        /// What was written.
        item: Item,
        /// The version that the writer had read; `None` if it meant to create.
        expected: Option<u64>,
        /// The version that it has.
        found: u64,
    },
    /// What should be replaced is not there.
    #[error("{0} does not exist")]
    NotFound(Item),
    /// The content breaks a rule.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
    /// The store cannot be used; nothing was changed.
    #[error("the catalogue cannot be used: {reason}")]
    Unavailable {
        /// What is wrong and what helps.
        reason: String,
        /// Whether the same call may succeed a little later.
        retry: bool,
        /// What the store said.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The commit failed, and only a reader can tell whether the change is there.
    #[error("the catalogue may or may not have taken the change: open it again and look")]
    Unknown(#[source] Box<dyn Error + Send + Sync>),
    /// The store was written by a newer version of this software. It was left as it is.
    #[error(
        "the catalogue has format {found}, this version reads {supported}: use the version that wrote it"
    )]
    Newer {
        /// The format of the store.
        found: u64,
        /// The format of this version.
        supported: u64,
    },
    /// The store holds what it cannot hold. It was left as it is.
    #[error("the catalogue is damaged: {0}: restore a backup")]
    Damaged(String),
}

impl CatalogueError {
    /// Whether it is certain that nothing was changed.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// Whether the same call may succeed a little later.
    pub fn retry_may_help(&self) -> bool {
        matches!(self, Self::Unavailable { retry: true, .. })
    }
}
