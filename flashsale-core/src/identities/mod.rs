//! Which identity each numbered user has.
//!
//! Ledgers know buyers by number. Where the provider's identities are no numbers, the number is a
//! digest ([`Issuer`](crate::domain::Issuer)), and this directory holds the text that people read,
//! and the key of the digests. A text is remembered before its user gets a ticket, so whoever has
//! an order has a text. Should two texts ever have one digest, the second is refused: it never gets
//! at the first one's orders.

mod error;
mod identities;

pub use error::IdentitiesError;
pub use identities::{Identities, Remembered};
