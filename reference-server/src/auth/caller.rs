//! Who calls: what an identity says about itself, whoever vouches for it.

use flashsale_core::{
    admission::Account,
    domain::{Name, UserId},
};

/// Somebody who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// Under which name.
    pub name: Name,
    /// What the identity provider says about the account; a demo session says nothing.
    pub account: Account,
}
