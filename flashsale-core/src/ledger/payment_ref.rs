//! The public reference of a payment, which leads straight to its lane.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use super::Lane;
use crate::domain::{
    ActivityId, Invalid, PaymentId,
    reference::{Base36, base36},
};

/// A payment as its provider and buyers write it, such as `2t-0-9ix`: its lane and its id in base 36, at
/// most 32 characters. Each has one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct PaymentRef {
    /// The lane of its order.
    pub lane: Lane,
    /// The payment.
    pub payment: PaymentId,
}

impl fmt::Display for PaymentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lane: Lane { activity, bucket }, payment } = self;
        write!(f, "{}-{}-{}", Base36(activity.value()), Base36((*bucket).into()), Base36(payment.value()))
    }
}

impl FromStr for PaymentRef {
    type Err = Invalid;

    /// Parses the one spelling of a reference.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.split('-').map(base36);
        let mut next = || parts.next().flatten();
        let read = next().zip(next()).zip(next()).and_then(|((activity, bucket), payment)| {
            let lane = Lane { activity: ActivityId::new(activity)?, bucket: bucket.try_into().ok()? };
            Some(Self { lane, payment: PaymentId::new(payment)? })
        });
        let read = read.filter(|_| parts.next().is_none());
        read.ok_or_else(|| Invalid::new("payment_id", "is not the reference of a payment, such as 2t-0-9ix"))
    }
}

impl TryFrom<String> for PaymentRef {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl Serialize for PaymentRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reference_is_read_as_it_is_written(
            activity in 1..=i64::MAX as u64,
            bucket: u16,
            payment in 1..=i64::MAX as u64,
        ) {
            let lane = Lane { activity: activity.try_into().unwrap(), bucket };
            let reference = PaymentRef { lane, payment: payment.try_into().unwrap() };
            let text = reference.to_string();
            prop_assert!(text.len() <= 32);
            prop_assert_eq!(text.parse(), Ok(reference));
        }

        #[test]
        fn what_can_be_read_has_one_spelling(text in "[0-9a-zA-Z+-]{1,15}") {
            if let Ok(reference) = text.parse::<PaymentRef>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }

    #[test]
    fn other_texts_are_no_references() {
        assert!("1y2p0ij32e8e7-1ekf-1y2p0ij32e8e7".parse::<PaymentRef>().is_ok());
        for bad in [
            "",
            "--",
            "2t-9ix",
            "2t--9ix",
            "2t-0-",
            "-0-9ix",
            "2t-0-9ix-",
            "2t-0-9ix-1",
            "2t-00-9ix",
            "2t-1ekg-9ix",
            "2T-0-9ix",
            "0-0-9ix",
            "2t-0-0",
            "1234",
            "2t-0-1y2p0ij32e8e8",
        ] {
            assert!(bad.parse::<PaymentRef>().is_err(), "{bad:?}");
        }
    }
}
