//! Errors of catalogues.

use std::error::Error;

use super::Item;

/// A part of a write that was refused, explained to its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{item}: {field}: {reason}")]
pub struct Refusal {
    /// The refused item.
    pub item: Item,
    /// The refused field, as named in the HTTP contract: `product_id`, `price`, `units`.
    pub field: &'static str,
    /// The rule, and the value seen.
    pub reason: String,
}

impl Refusal {
    /// The maximum number of refusals in one error.
    pub const MAX_REPORTED: usize = 100;
}

/// An error of a catalogue.
///
/// After every error but [`CatalogueError::Unknown`], it is certain that nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// The value has another version than the writer expected; read it again.
    #[error("{item} has version {found}, but the change expects {}", .expected.map_or("a new item".into(), |version| version.to_string()))]
    Conflict {
        /// The item written.
        item: Item,
        /// The version that the writer expected; `None` to create the item.
        expected: Option<u64>,
        /// The current version.
        found: u64,
    },
    /// The item to replace does not exist.
    #[error("{0} does not exist")]
    NotFound(Item),
    /// The content breaks rules.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
    /// The store cannot be used; nothing was changed.
    #[error("the catalogue is unavailable: {reason}")]
    Unavailable {
        /// The problem and its remedy.
        reason: String,
        /// Whether a retry may succeed.
        retry: bool,
        /// The error of the store.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The commit failed; the change may or may not be stored.
    #[error("the catalogue may or may not have stored the change: reopen it to find out")]
    Unknown(#[source] Box<dyn Error + Send + Sync>),
    /// A newer version of this software wrote the store, which was left unchanged.
    #[error(
        "the catalogue has format {found}, this version reads {supported}: use the version that wrote it"
    )]
    Newer {
        /// The format of the store.
        found: u64,
        /// The newest format that this version supports.
        supported: u64,
    },
    /// The store is corrupt and was left unchanged.
    #[error("the catalogue is damaged: {0}: restore a backup")]
    Damaged(String),
}

impl CatalogueError {
    /// Returns whether it is certain that nothing was changed.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// Returns whether a retry may succeed.
    pub fn retry_may_help(&self) -> bool {
        matches!(self, Self::Unavailable { retry: true, .. })
    }
}
