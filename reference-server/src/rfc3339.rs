//! Timestamps in JSON.

use std::fmt;

use flashsale_core::domain::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A timestamp in RFC 3339 format.
///
/// It is written in UTC with milliseconds, `2026-11-11T12:00:00.000Z`; times after the year 9999 as
/// its last millisecond. Parsing is strict: with `Z` or an offset, at most three fractional digits,
/// 1970 or later, and otherwise as [`instant`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rfc3339(pub Timestamp);

/// 9999-12-31T23:59:59.999Z, the last time that RFC 3339 can represent. It stands for "no end".
pub const NO_END: Timestamp = Timestamp::from_millis(LAST_MILLIS);

/// A time as people and programs write it, for messages.
pub const EXAMPLE: &str = "2026-11-11T20:00:00+08:00";

const LAST_MILLIS: u64 = 253_402_300_799_999;
/// The day that stands for "no end", in any offset.
const LAST_DAY: &str = "9999-12-31";
const LENGTH: usize = "2026-11-11T12:00:00.000Z".len();

/// Parses a time with an offset: RFC 3339, and what else has only one meaning.
///
/// A time zone in brackets must be one that has this offset at that time. The day 9999-12-31, alone
/// or with a time, is [`NO_END`].
///
/// # Errors
/// What is wrong with the text, to be completed by an example: `"8 pm" is not a time such as`.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    let malformed = || format!("{text:?} is not a time such as");
    if let Some(rest) = text.strip_prefix(LAST_DAY) {
        // The last day of an earlier year shows whether the rest is well-formed: jiff ends a day early.
        let is_good = rest.is_empty() || instant(&format!("9998-12-31{rest}")).is_ok();
        return is_good.then_some(NO_END).ok_or_else(malformed);
    }
    let moment: jiff::Timestamp = text.parse().map_err(|_| malformed())?;
    if text.contains('[') && text.parse::<jiff::Zoned>().is_err() {
        return Err(format!(
            "{text:?} has a time zone that is unknown or has another offset then; write a time such as"
        ));
    }
    let millis = u64::try_from(moment.as_millisecond()).map_err(|_| malformed())?;
    Ok(Timestamp::from_millis(millis))
}

impl Rfc3339 {
    /// Parses a timestamp.
    ///
    /// # Errors
    /// A message with the expected format.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !is_strict(text) {
            return Err(format!("{text:?} is not a time such as {EXAMPLE}"));
        }
        instant(text).map(Self).map_err(|reason| format!("{reason} {EXAMPLE}"))
    }

    /// Formats the timestamp as 24 ASCII bytes without allocating.
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let millis = self.0.as_millis().min(LAST_MILLIS);
        let (days, in_day) = (millis / 86_400_000, millis % 86_400_000);
        let (year, month, day) = civil(days);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], in_day / 3_600_000);
        digits(&mut text[14..16], in_day / 60_000 % 60);
        digits(&mut text[17..19], in_day / 1000 % 60);
        digits(&mut text[20..23], in_day % 1000);
        text
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_bytes()).expect("digits are ASCII"))
    }
}

impl From<Timestamp> for Rfc3339 {
    fn from(moment: Timestamp) -> Self {
        Self(moment)
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.to_bytes()).expect("digits are ASCII"))
    }
}

impl<'de> Deserialize<'de> for Rfc3339 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// Returns whether the time has the form of RFC 3339, with at most milliseconds. A time zone may
/// follow.
fn is_strict(text: &str) -> bool {
    let time = text.split_once('[').map_or(text, |(time, _)| time);
    let Some((time, fraction)) = time.is_ascii().then(|| time.split_at_checked(19)).flatten() else {
        return text == LAST_DAY;
    };
    let offset = match fraction.strip_prefix('.') {
        Some(rest) => rest.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => fraction,
    };
    // The library also takes offsets of more than a day.
    let has_offset =
        offset == "Z" || (offset.len() == 6 && offset.as_bytes()[3] == b':' && offset[1..3] <= *"23");
    time.as_bytes()[10] == b'T' && has_offset && fraction.len() - offset.len() <= ".123".len()
}

/// Converts days since 1970-01-01 to year, month and day in the proleptic Gregorian calendar.
///
/// `civil_from_days` of H. Hinnant's "chrono-compatible low-level date algorithms", for days >= 0.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn digits(place: &mut [u8], mut value: u64) {
    for byte in place.iter_mut().rev() {
        *byte = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_jiff_writes_them() {
        // The step covers every hour, month end and leap day without visiting each millisecond.
        let mut millis = 0;
        while millis <= LAST_MILLIS {
            let ours = Rfc3339(Timestamp::from_millis(millis));
            let theirs = jiff::Timestamp::from_millisecond(millis.cast_signed()).unwrap();
            assert_eq!(ours.to_string(), format!("{theirs:.3}"));
            assert_eq!(Rfc3339::parse(&ours.to_string()), Ok(ours));
            millis += 977 * 3_600_000 + 61_003;
        }
        assert_eq!(Rfc3339(Timestamp::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Rfc3339(Timestamp::EPOCH).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn times_are_parsed_strictly() {
        for good in [
            "2026-11-11T12:00:00Z",
            "2026-11-11T12:00:00.5Z",
            "2024-02-29T23:59:59.999Z",
            "2026-11-11T20:00:00+08:00",
            "2026-11-11T20:00:00.250+08:00",
            "2026-11-11T07:00:00-05:00",
            "2026-11-11T20:00:00+08:00[Asia/Shanghai]",
            "2026-11-11T12:00:00Z[Asia/Shanghai]",
            "9999-12-31",
            "9999-12-31T00:00:00+08:00",
        ] {
            assert!(Rfc3339::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "2026-11-11",
            "2026-11-11 12:00:00Z",
            "2026-11-11T12:00:00",
            "2026-11-11T12:00:00+08",
            "2026-11-11T12:00:00+0800",
            "2026-11-11T12:00:00+08:00:00",
            "2026-11-11T12:00:00+25:00",
            "2026-11-11T12:00:00.0001Z",
            "2026-11-11T12:00:00[Asia/Shanghai]",
            "2026-11-11T20:00:00+08:00[America/New_York]",
            "2026-11-11T20:00:00+08:00[Mars/Olympus]",
            "2026-11-11T20:00:00+08:00[]",
            "2026-02-30T00:00:00Z",
            "2026-11-11T25:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-12-31T25:00:00Z",
            "9999-12-31x",
            "抢抢抢抢抢抢抢Z",
        ] {
            let message = Rfc3339::parse(bad).unwrap_err();
            assert!(message.ends_with("such as 2026-11-11T20:00:00+08:00"), "{message}");
        }
        assert!(Rfc3339::parse(EXAMPLE).is_ok());
    }

    #[test]
    fn an_offset_moves_the_time_and_a_zone_only_confirms_it() {
        let at = |text: &str| instant(text).unwrap();
        assert_eq!(at("2026-11-11T20:00:00+08:00"), at("2026-11-11T12:00:00Z"));
        assert_eq!(at("2026-11-11T20:00:00+08:00[Asia/Shanghai]"), at("2026-11-11T12:00:00Z"));
        // The hour that New York has twice: each offset is one of its zone's.
        assert_eq!(at("2026-11-01T01:30:00-04:00[America/New_York]"), at("2026-11-01T05:30:00Z"));
        assert_eq!(at("2026-11-01T01:30:00-05:00[America/New_York]"), at("2026-11-01T06:30:00Z"));
        assert!(instant("2026-11-01T00:30:00-05:00[America/New_York]").is_err());
    }

    #[test]
    fn the_last_day_is_no_end() {
        for text in
            ["9999-12-31", "9999-12-31T00:00:00+08:00", "9999-12-31T23:59:59.999Z", "9999-12-31 23:59:59Z"]
        {
            assert_eq!(instant(text), Ok(NO_END), "{text}");
        }
        assert_eq!(Rfc3339::parse(&Rfc3339(NO_END).to_string()), Ok(Rfc3339(NO_END)));
    }
}
