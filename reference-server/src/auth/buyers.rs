//! Buyers: the texts by which people know them, and the numbers by which the ledger does.

use std::{fmt, sync::Arc};

use flashsale_core::{
    domain::{Identity, Issuer, UserId},
    identities::{Identities, IdentitiesError, Remembered},
};
use quick_cache::sync::Cache;

use super::caller::Caller;

/// How many identities are known without asking the directory, about 150 bytes each.
const CACHED: usize = 65_536;

/// The buyers of this shop.
pub struct Buyers {
    directory: Arc<dyn Identities>,
    issuer: Issuer,
    /// Identities that the directory has.
    known: Cache<UserId, Identity>,
}

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub enum BuyerError {
    /// The digest of their identity is another user's number.
    #[error("two identities have the number {0}: the later one is refused")]
    Taken(UserId),
    /// The directory cannot be used.
    #[error(transparent)]
    Store(#[from] IdentitiesError),
}

impl Buyers {
    /// Creates the buyers of the identity provider `issuer`, as its tokens call it.
    pub fn new(directory: Arc<dyn Identities>, issuer: &str) -> Self {
        let issuer = Issuer::new(directory.key(), issuer);
        Self { directory, issuer, known: Cache::new(CACHED) }
    }

    /// Returns what numbers the users.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Checks that the caller's number is no other user's.
    ///
    /// # Errors
    /// [`BuyerError`].
    pub async fn check(&self, caller: &Caller) -> Result<(), BuyerError> {
        if !caller.user.is_digest() {
            return Ok(());
        }
        let known = match self.known.get(&caller.user) {
            Some(known) => known,
            None => match self.directory.recall(caller.user).await? {
                Some(known) => {
                    self.known.insert(caller.user, known.clone());
                    known
                }
                None => return Ok(()),
            },
        };
        if known == caller.identity { Ok(()) } else { Err(BuyerError::Taken(caller.user)) }
    }

    /// Stores the caller's identity, so that their orders can be shown with it. Durable when the
    /// call returns.
    ///
    /// # Errors
    /// [`BuyerError`].
    pub async fn remember(&self, caller: &Caller) -> Result<(), BuyerError> {
        let Caller { user, identity, .. } = caller;
        if !user.is_digest() || self.known.get(user).is_some_and(|known| known == *identity) {
            return Ok(());
        }
        match self.directory.remember(*user, identity).await? {
            Remembered::Same => {
                self.known.insert(*user, identity.clone());
                Ok(())
            }
            Remembered::Taken => Err(BuyerError::Taken(*user)),
        }
    }

    /// Returns the identity of a user; `None` if it was erased.
    ///
    /// # Errors
    /// If the directory cannot be used.
    pub async fn identity(&self, user: UserId) -> Result<Option<Identity>, IdentitiesError> {
        match Identity::of_number(user) {
            Some(identity) => Ok(Some(identity)),
            None => self.directory.recall(user).await,
        }
    }

    /// Deletes the identity of a user.
    ///
    /// # Errors
    /// If the directory cannot be used; repeat the call.
    pub async fn forget(&self, user: UserId) -> Result<(), IdentitiesError> {
        self.directory.forget(user).await?;
        self.known.remove(&user);
        Ok(())
    }
}

impl fmt::Debug for Buyers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buyers").field("directory", &self.directory).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use flashsale_core::{admission::Account, domain::Name, embedded::EmbeddedIdentities};

    use super::*;

    fn caller(user: UserId, identity: &str) -> Caller {
        let identity = Identity::new(identity).unwrap();
        Caller { user, identity, name: Name::new("x").unwrap(), account: Account::default() }
    }

    #[tokio::test]
    async fn an_identity_whose_digest_meets_another_is_refused_everywhere() {
        let directory = EmbeddedIdentities::in_memory().unwrap();
        let user = UserId::new(u64::MAX).unwrap();
        let (ann, bob) = (caller(user, "ann"), caller(user, "bob"));
        let buyers = || Buyers::new(Arc::new(directory.clone()), "the tests");
        let fresh = buyers();
        fresh.check(&bob).await.unwrap();
        fresh.remember(&ann).await.unwrap();
        for buyers in [fresh, buyers()] {
            for _again_from_the_cache in 0..2 {
                assert!(matches!(buyers.check(&bob).await, Err(BuyerError::Taken(_))));
                assert!(matches!(buyers.remember(&bob).await, Err(BuyerError::Taken(_))));
                buyers.check(&ann).await.unwrap();
            }
            assert_eq!(buyers.identity(user).await.unwrap(), Some(ann.identity.clone()));
        }
        let buyers = buyers();
        buyers.forget(user).await.unwrap();
        assert_eq!(buyers.identity(user).await.unwrap(), None);
        buyers.remember(&bob).await.unwrap();
    }
}
