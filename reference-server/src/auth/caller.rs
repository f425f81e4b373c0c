//! Authenticated callers.

use flashsale_core::{
    admission::Account,
    domain::{Identity, Name, UserId},
};

/// An authenticated caller, whatever the kind of token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The number by which the ledger knows the user.
    pub user: UserId,
    /// The text by which people know the user.
    pub identity: Identity,
    /// The user's name.
    pub name: Name,
    /// What the identity provider says about the account; empty for a demo session.
    pub account: Account,
}
