//! Strict parsing of paths and query strings.

use std::borrow::Cow;

use super::Problem;

/// The maximum number of path segments, more than any path of the contract has.
const MAX_SEGMENTS: usize = 8;

/// Splits a path into its raw segments; `None` if it has more than eight, which no route has.
///
/// `/` has one empty segment. A trailing or doubled slash adds one, so it matches no route.
///
/// ```
/// # use reference_server::http::segments;
/// let mut buffer = [""; 8];
/// assert_eq!(segments("/v1/orders/17", &mut buffer), Some(&["v1", "orders", "17"][..]));
/// ```
pub fn segments<'p, 'r>(path: &'p str, buffer: &'r mut [&'p str; MAX_SEGMENTS]) -> Option<&'r [&'p str]> {
    let mut count = 0;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        *buffer.get_mut(count)? = segment;
        count += 1;
    }
    Some(&buffer[..count])
}

/// Percent-decodes one path segment.
///
/// # Errors
/// 400 if an escape is malformed, or the text is not UTF-8 or contains a control character.
pub fn decode_segment(raw: &str) -> Result<Cow<'_, str>, Problem> {
    decode(raw, false).map_err(|reason| Problem::invalid(format!("The path {reason}.")))
}

/// The parameters of a query string, each known and present at most once.
#[derive(Debug)]
pub struct Query<'a>(Vec<(&'static str, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Parses a query string with the allowed parameters `known`. `+` is a space, as in forms.
    ///
    /// # Errors
    /// 400 with the parameter that is unknown, repeated, or malformed.
    pub fn parse(query: Option<&'a str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(&'static str, Cow<'a, str>)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(raw_name, true)
                .map_err(|reason| Problem::invalid(format!("The name of a query parameter {reason}.")))?;
            let Some(&name) = known.iter().find(|known| **known == name) else {
                let allowed = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let detail = format!("Unknown query parameter; allowed: {allowed}.");
                return Err(Problem::invalid_field(&name, detail));
            };
            if pairs.iter().any(|(seen, _)| *seen == name) {
                return Err(Problem::invalid_field(name, "Give this query parameter only once."));
            }
            let value = decode(raw_value, true)
                .map_err(|reason| Problem::invalid_field(name, format!("The query parameter {reason}.")))?;
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// Returns the decoded value of a parameter.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_ref())
    }

    /// Parses the value of a parameter.
    ///
    /// # Errors
    /// 400 with the parameter and `expected`, such as "a number from 1 to 100".
    pub fn parsed<T: std::str::FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Problem> {
        self.value(name)
            .map(|value| value.parse().map_err(|_| Problem::invalid_field(name, format!("Give {expected}."))))
            .transpose()
    }
}

fn decode(raw: &str, plus_is_space: bool) -> Result<Cow<'_, str>, &'static str> {
    if raw.bytes().all(|byte| byte != b'%' && (byte != b'+' || !plus_is_space) && !byte.is_ascii_control()) {
        return Ok(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let high = bytes.next().and_then(hex).ok_or("contains % without two hexadecimal digits")?;
                let low = bytes.next().and_then(hex).ok_or("contains % without two hexadecimal digits")?;
                high << 4 | low
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    let text = String::from_utf8(decoded).map_err(|_| "is not UTF-8 after decoding")?;
    if text.chars().any(char::is_control) {
        Err("contains a control character")
    } else {
        Ok(Cow::Owned(text))
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_strictly() {
        let mut room = [""; 8];
        assert_eq!(segments("/", &mut room), Some(&[""][..]));
        assert_eq!(segments("/v1/time/", &mut room), Some(&["v1", "time", ""][..]));
        assert_eq!(segments("/1/2/3/4/5/6/7/8", &mut room).map(<[_]>::len), Some(8));
        assert_eq!(segments("/1/2/3/4/5/6/7/8/9", &mut room), None);
    }

    #[test]
    fn segments_are_decoded_strictly() {
        assert_eq!(decode_segment("a%20b+c").unwrap(), "a b+c");
        assert_eq!(decode_segment("%E6%8A%A2").unwrap(), "抢");
        for bad in ["%", "%2", "%zz", "%ff", "%00", "a%0ab"] {
            assert!(decode_segment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn queries_are_known_parameters_given_once() {
        let query = Query::parse(Some("limit=5&after=a%2Bb+c"), &["limit", "after"]).unwrap();
        assert_eq!(query.value("after"), Some("a+b c"));
        assert_eq!(query.parsed::<u32>("limit", "a number").unwrap(), Some(5));
        assert!(query.parsed::<u32>("after", "a number").is_err());
        assert!(Query::parse(None, &[]).unwrap().value("limit").is_none());
        for bad in ["limit=1&limit=2", "other=1", "limit=%", "=1"] {
            assert!(Query::parse(Some(bad), &["limit"]).is_err(), "{bad}");
        }
    }
}
