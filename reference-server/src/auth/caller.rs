//! Authenticated callers.

use flashsale_core::{
    admission::Account,
    domain::{Name, UserId},
};

/// An authenticated caller, whatever the kind of token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's id.
    pub user: UserId,
    /// The user's name.
    pub name: Name,
    /// What the identity provider says about the account; empty for a demo session.
    pub account: Account,
}
