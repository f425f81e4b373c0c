//! Ranges of values.

use std::{fmt, ops::RangeInclusive};

/// Notes a problem if `value` is outside `allowed`.
pub(super) fn within<T: PartialOrd + fmt::Display>(
    problems: &mut Vec<String>,
    key: &str,
    value: T,
    allowed: RangeInclusive<T>,
) {
    if !allowed.contains(&value) {
        problems.push(format!("{key}: {value} is outside {} to {}", allowed.start(), allowed.end()));
    }
}
