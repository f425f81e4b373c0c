//! Typed ids.
//!
//! Every id is a number in `1..=i64::MAX`, so that it fits a signed SQL `BIGINT`; on the wire it is a decimal string,
//! because a browser's numbers are exact only up to 2⁵³.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Invalid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Makes an id of a number.
            ///
            /// # Errors
            /// Outside `1..=i64::MAX`.
            pub const fn new(value: u64) -> Option<Self> {
                if value == 0 || value > i64::MAX as u64 { None } else { Some(Self(value)) }
            }

            /// The number.
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
                Self::new(value).ok_or_else(|| Invalid::new($field, "an id is a number from 1 to 2^63-1"))
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            /// Reads canonical decimal: digits only, no sign, no leading zero.
            fn from_str(text: &str) -> Result<Self, Invalid> {
                parse(text)
                    .and_then(Self::new)
                    .ok_or_else(|| Invalid::new($field, "an id is a decimal number from 1 to 2^63-1"))
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
    /// A sale event.
    ActivityId, "activity_id"
);
id!(
    /// What a detail page shows (SPU).
    ProductId, "product_id"
);
id!(
    /// The thing that has stock and a price.
    SkuId, "sku_id"
);
id!(
    /// An order; also the id of its reservation.
    OrderId, "order_id"
);
id!(
    /// A payment of an order; the provider's idempotency key.
    PaymentId, "payment_id"
);
id!(
    /// A buyer, as the shop's identity provider numbers them.
    UserId, "user_id"
);

/// A device or an address that a limit counts, as a 64-bit digest that the application makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubjectId(pub u64);

impl SubjectId {
    /// The digest of what the application knows the subject by: a device header, a network address.
    pub fn digest(bytes: &[u8]) -> Self {
        Self(super::text::digest64(bytes))
    }
}

fn parse(text: &str) -> Option<u64> {
    let canonical =
        !text.starts_with('0') && text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit());
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
    }

    #[test]
    fn ids_are_strings_in_json() {
        let id = UserId::new(7).unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"7\"");
        assert_eq!(serde_json::from_str::<UserId>("\"7\"").unwrap(), id);
        assert!(serde_json::from_str::<UserId>("7").is_err());
    }
}
