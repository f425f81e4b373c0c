//! Typed ids.
//!
//! Every id is a number in `1..=i64::MAX`, so that it fits a signed SQL `BIGINT`; only a [`UserId`]
//! may be any number from 1. In JSON an id is a decimal string, because JavaScript numbers are exact
//! only up to 2⁵³.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Invalid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $last:expr, $range:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            #[doc = concat!("Creates an id from a number; `None` if it is not ", $range, ".")]
            pub const fn new(value: u64) -> Option<Self> {
                if value == 0 || value > $last { None } else { Some(Self(value)) }
            }

            /// Returns the number.
            pub const fn value(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl TryFrom<u64> for $name {
            type Error = Invalid;

            fn try_from(value: u64) -> Result<Self, Invalid> {
                Self::new(value).ok_or_else(|| Invalid::new($field, concat!("an id is a number ", $range)))
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            /// Parses canonical decimal: digits only, no sign, no leading zero.
            fn from_str(text: &str) -> Result<Self, Invalid> {
                parse(text)
                    .and_then(Self::new)
                    .ok_or_else(|| Invalid::new($field, concat!("an id is a decimal number ", $range)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    text.parse().map_err(de::Error::custom)
                } else {
                    Self::try_from(u64::deserialize(deserializer)?).map_err(de::Error::custom)
                }
            }
        }
    };
}

id!(
    /// The id of an activity, which is a sale event.
    ActivityId, "activity_id", i64::MAX as u64, "from 1 to 2^63-1"
);
id!(
    /// The id of a product (SPU), which has one detail page.
    ProductId, "product_id", i64::MAX as u64, "from 1 to 2^63-1"
);
id!(
    /// The id of an SKU, which has stock and a price.
    SkuId, "sku_id", i64::MAX as u64, "from 1 to 2^63-1"
);
id!(
    /// The id of an order and of its reservation.
    OrderId, "order_id", i64::MAX as u64, "from 1 to 2^63-1"
);
id!(
    /// The id of a payment. Its [reference](crate::ledger::PaymentRef) is what providers and buyers know.
    PaymentId, "payment_id", i64::MAX as u64, "from 1 to 2^63-1"
);
id!(
    /// The number by which ledger and audit trail know a buyer.
    ///
    /// Up to `i64::MAX` it is the identity provider's own number, above it a digest of the text that
    /// the provider uses: see [`Issuer`](super::Issuer). In SQL it needs a `BIGINT UNSIGNED`.
    UserId, "user_id", u64::MAX, "from 1 to 2^64-1"
);

/// The 64-bit digest of a device or an address that a limit counts, supplied by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubjectId(pub u64);

impl SubjectId {
    /// Digests what identifies the subject, such as a device header or a network address.
    pub fn digest(bytes: &[u8]) -> Self {
        Self(super::text::digest64(bytes))
    }
}

fn parse(text: &str) -> Option<u64> {
    let canonical =
        !text.starts_with('0') && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_canonical_decimal() {
        assert_eq!("42".parse::<OrderId>().unwrap().value(), 42);
        assert_eq!("9223372036854775807".parse::<OrderId>().unwrap().value(), i64::MAX as u64);
        for bad in ["", "0", "-1", "+1", "042", " 42", "9223372036854775808", "1e3", "４２"] {
            assert!(bad.parse::<OrderId>().is_err(), "{bad:?}");
        }
        assert_eq!("18446744073709551615".parse::<UserId>().unwrap().value(), u64::MAX);
        assert!("18446744073709551616".parse::<UserId>().is_err());
    }

    #[test]
    fn ids_are_strings_in_json() {
        let id = UserId::new(7).unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"7\"");
        assert_eq!(serde_json::from_str::<UserId>("\"7\"").unwrap(), id);
        assert!(serde_json::from_str::<UserId>("7").is_err());
    }
}
