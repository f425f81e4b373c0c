//! Range checks.

use std::{fmt, ops::RangeInclusive};

/// Adds a problem if `value` is outside `allowed`.
pub(super) fn within<T: PartialOrd + fmt::Display>(
    problems: &mut Vec<String>,
    key: &str,
    value: T,
    allowed: RangeInclusive<T>,
) {
    if !allowed.contains(&value) {
        problems.push(format!("{key}: {value} is not within {} to {}", allowed.start(), allowed.end()));
    }
}
