//! Parsers for a CSV cell or a JSON string. They return the value, or what is wrong with it.

use std::{str::FromStr, time::Duration};

use flashsale_core::domain::{ActivityStatus, Invalid, LimitRule, Per, Subject, Timestamp};
use serde::de::{DeserializeOwned, IntoDeserializer, value::Error as ValueError};

use crate::rfc3339::{EXAMPLE, instant};

/// Parses a domain type with `FromStr`: ids, names, texts, currencies.
pub(super) fn of_domain<T: FromStr<Err = Invalid>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|Invalid { reason, .. }| {
        let quoted = format!("{text:?}");
        shorten(if reason.contains(&quoted) { reason } else { format!("{reason}: {quoted}") })
    })
}

/// Parses a whole number in decimal digits, without sign, separators or leading zeros.
pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = if canonical { text.parse().ok() } else { None };
    number.ok_or_else(|| shorten(format!("{text:?} is not a whole number in plain digits, or is too large")))
}

/// Parses a value of an enumeration, spelt as in the HTTP contract.
pub(super) fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    T::deserialize(IntoDeserializer::<ValueError>::into_deserializer(text))
        .map_err(|error| shorten(error.to_string().replace("unknown variant", "unknown value")))
}

/// Parses a status: `draft` or `published`.
pub(super) fn status(text: &str) -> Result<ActivityStatus, String> {
    match text {
        "draft" => Ok(ActivityStatus::Draft),
        "published" => Ok(ActivityStatus::Published),
        _ => Err(shorten(format!("{text:?} is neither draft nor published"))),
    }
}

/// Parses a time and whether it is relative: RFC 3339 with an offset, `now`, `now-10m`, `now+2h`.
pub(super) fn moment(text: &str, now: Timestamp) -> Result<(Timestamp, bool), String> {
    let Some(rest) = text.strip_prefix("now") else {
        let moment = instant(text).map_err(|reason| shorten(format!("{reason} {EXAMPLE} or now+2h")))?;
        return Ok((moment, false));
    };
    let wrong =
        || shorten(format!("{text:?} is not a time such as now-10m or now+2h; units are s, m, h and d"));
    let moved = match rest.split_at_checked(1) {
        None if rest.is_empty() => now,
        Some(("+", span)) => now.after(self::span(span).ok_or_else(wrong)?),
        Some(("-", span)) => now.before(self::span(span).ok_or_else(wrong)?),
        _ => return Err(wrong()),
    };
    Ok((moved, true))
}

/// Parses limits such as `user/offer<=2;device/activity<=1`, in the order of their checks.
pub(super) fn limits(text: &str) -> Result<Vec<LimitRule>, String> {
    text.split(';').map(str::trim).filter(|rule| !rule.is_empty()).map(limit).collect()
}

fn limit(text: &str) -> Result<LimitRule, String> {
    let wrong = || shorten(format!("{text:?} is not a limit such as user/offer<=2"));
    let (who, max) = text.split_once("<=").ok_or_else(wrong)?;
    let (subject, per) = who.split_once('/').ok_or_else(wrong)?;
    let subject: Subject = word(subject.trim()).map_err(|reason| format!("{text:?}: {reason}"))?;
    let per: Per = word(per.trim()).map_err(|reason| format!("{text:?}: {reason}"))?;
    let max = number(max.trim()).map_err(|reason| format!("{text:?}: {reason}"))?;
    LimitRule::new(subject, per, max).map_err(|invalid| format!("{text:?}: {}", invalid.reason))
}

fn span(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u32 = number(text.strip_suffix(unit)?).ok()?;
    Some(Duration::from_secs(u64::from(count) * seconds))
}

/// Truncates a message, which may quote a long text.
fn shorten(message: String) -> String {
    const MAX: usize = 200;
    match message.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}
