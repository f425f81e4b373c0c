//! The public reference of an order, which leads straight to its activity.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use super::{ActivityId, Invalid, OrderId, OrderKey, UserId};

/// An order as buyers and operators write it, such as `2t-9ix`: the ids of activity and order in base 36,
/// at most 27 characters. Each has one spelling.
///
/// It does not say whose order it is. Together with the buyer it is the order's [key](OrderRef::key).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct OrderRef {
    /// The activity.
    pub activity: ActivityId,
    /// The order.
    pub order: OrderId,
}

impl OrderRef {
    /// Returns the key of the order, if it belongs to this buyer.
    pub const fn key(self, user: UserId) -> OrderKey {
        OrderKey { activity: self.activity, user, id: self.order }
    }
}

impl OrderKey {
    /// Returns the public reference of the order.
    pub const fn reference(self) -> OrderRef {
        OrderRef { activity: self.activity, order: self.id }
    }
}

impl fmt::Display for OrderRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", Base36(self.activity.value()), Base36(self.order.value()))
    }
}

impl FromStr for OrderRef {
    type Err = Invalid;

    /// Parses the one spelling of a reference.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts = text.split_once('-').and_then(|(activity, order)| {
            let (activity, order) = (base36(activity)?, base36(order)?);
            Some(Self { activity: ActivityId::new(activity)?, order: OrderId::new(order)? })
        });
        parts.ok_or_else(|| Invalid::new("order_id", "is not the reference of an order, such as 2t-9ix"))
    }
}

impl TryFrom<String> for OrderRef {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl Serialize for OrderRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Shows a number in base 36, with lowercase letters.
pub(crate) struct Base36(pub(crate) u64);

impl fmt::Display for Base36 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        // 2^64-1 has 13 digits.
        let (mut text, mut first, mut rest) = ([b'0'; 13], 12, self.0);
        while rest >= 36 {
            text[first] = DIGITS[usize::try_from(rest % 36).unwrap_or(0)];
            (first, rest) = (first - 1, rest / 36);
        }
        text[first] = DIGITS[usize::try_from(rest).unwrap_or(0)];
        f.write_str(str::from_utf8(&text[first..]).unwrap_or_default())
    }
}

/// Reads a number as [`Base36`] shows it: without leading zeros, signs and uppercase letters.
pub(crate) fn base36(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let is_canonical = text == "0" || !text.starts_with('0');
    let number = u64::from_str_radix(text, 36).ok()?;
    (is_canonical && text.bytes().all(is_digit)).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reference_is_read_as_it_is_written(activity in 1..=i64::MAX as u64, order in 1..=i64::MAX as u64) {
            let reference =
                OrderRef { activity: activity.try_into().unwrap(), order: order.try_into().unwrap() };
            let text = reference.to_string();
            prop_assert!(text.len() <= 27);
            prop_assert_eq!(text.parse(), Ok(reference));
        }

        #[test]
        fn what_can_be_read_has_one_spelling(text in "[0-9a-zA-Z+-]{1,15}") {
            if let Ok(reference) = text.parse::<OrderRef>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }

    #[test]
    fn other_texts_are_no_references() {
        let longest = format!("{0}-{0}", Base36(i64::MAX as u64));
        assert_eq!(longest, "1y2p0ij32e8e7-1y2p0ij32e8e7");
        assert!(longest.parse::<OrderRef>().is_ok());
        for bad in [
            "",
            "-",
            "2t",
            "2t-",
            "-9ix",
            "2t-9ix-",
            "2t-9ix-1",
            "2T-9ix",
            "02t-9ix",
            "2t-09ix",
            "0-9ix",
            "2t-0",
            "+2t-9ix",
            " 2t-9ix",
            "2t-9ix ",
            "2t_9ix",
            "２t-9ix",
            "1y2p0ij32e8e8-1",
            "1-1y2p0ij32e8e8",
            "1-3w5e11264sgsg",
            "1-zzzzzzzzzzzzzzzzzzzz",
        ] {
            assert!(bad.parse::<OrderRef>().is_err(), "{bad:?}");
        }
    }
}
