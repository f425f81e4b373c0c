//! Statements with a part that repeats.

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

/// The most repetitions in one statement: a server accepts 65,535 parameters, and an order has 17.
pub(crate) const MAX_REPEATED: usize = 1 << 9;

/// Repeats the part between `/*` and `*/`, separated by commas.
///
/// # Panics
/// If a statement of this crate has no such part.
pub(crate) fn repeated(statement: &'static str, times: usize) -> SqlStr {
    let (before, rest) = statement.split_once("/*").expect("the statement has a part that repeats");
    let (part, after) = rest.split_once("*/").expect("a comment ends");
    let mut text = String::with_capacity(statement.len() + part.len() * times);
    text.push_str(before);
    for index in 0..times {
        if index > 0 {
            text.push(',');
        }
        text.push_str(part.trim());
    }
    text.push_str(after);
    AssertSqlSafe(text).into_sql_str()
}

/// The sizes in which a list is sent: powers of two, so that few statements have to be prepared.
pub(crate) fn parts<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = 1 << items.len().min(MAX_REPEATED).checked_ilog2()?;
        let (part, rest) = items.split_at(size);
        items = rest;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_in_the_comment_is_repeated() {
        assert_eq!(repeated("a IN (/* ? */) b", 3).as_str(), "a IN (?,?,?) b");
    }

    #[test]
    fn lists_are_sent_in_powers_of_two() {
        let sizes = |length| parts(&vec![(); length]).map(<[()]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(0), Vec::<usize>::new());
        assert_eq!(sizes(500), [256, 128, 64, 32, 16, 4]);
        assert_eq!(sizes(1_100), [512, 512, 64, 8, 4]);
    }
}
