//! The trait of the directory.

use async_trait::async_trait;

use super::IdentitiesError;
use crate::domain::{Identity, IdentityKey, UserId};

/// What [`Identities::remember`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The directory has this user with this identity, now or since earlier.
    Same,
    /// The user's number belongs to another identity: their digests collide. Nothing was changed.
    Taken,
}

/// A directory of the users whose number is a digest, with the text of each.
#[async_trait]
pub trait Identities: Send + Sync + std::fmt::Debug {
    /// Returns the key of the digests. It was made with the directory and never changes.
    fn key(&self) -> &IdentityKey;

    /// Stores the identity of a user; durable when the call returns. Repeatable.
    ///
    /// # Errors
    /// [`IdentitiesError`]; the identity may be stored or not. Repeat the call.
    async fn remember(&self, user: UserId, identity: &Identity) -> Result<Remembered, IdentitiesError>;

    /// Returns the identity of a user; `None` if it was never stored, or was forgotten.
    ///
    /// # Errors
    /// [`IdentitiesError`].
    async fn recall(&self, user: UserId) -> Result<Option<Identity>, IdentitiesError>;

    /// Deletes the identity of a user; durable when the call returns. Repeatable. The user keeps
    /// their number, and their identity is stored again if they come again.
    ///
    /// # Errors
    /// [`IdentitiesError`]; the identity may be deleted or not. Repeat the call.
    async fn forget(&self, user: UserId) -> Result<(), IdentitiesError>;
}
