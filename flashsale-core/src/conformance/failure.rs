//! Failures of cases.

use std::fmt;

/// Why a case failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The number of the step, from 1; 0 if the failure belongs to no step.
    pub step: usize,
    /// The step.
    pub did: String,
    /// What was expected.
    pub expected: String,
    /// What was observed.
    pub observed: String,
    /// The steps before it, oldest first: the last 13, or the whole random sequence.
    pub before: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    step      {}: {}", self.step, self.did)?;
        let [expected, observed] = where_they_differ([&self.expected, &self.observed]);
        writeln!(f, "    expected  {expected}")?;
        write!(f, "    observed  {observed}")?;
        for step in &self.before {
            write!(f, "\n    before    {step}")?;
        }
        Ok(())
    }
}

/// How much of two long texts is shown before and after what differs, and how much of that.
const AROUND: usize = 200;
const DIFFERING: usize = 600;

/// Cuts two texts to where they differ, if they are long: what a ledger stores may fill pages.
fn where_they_differ(texts: [&str; 2]) -> [String; 2] {
    let texts = texts.map(|text| text.chars().collect::<Vec<_>>());
    let [one, other] = &texts;
    if one.len().min(other.len()) <= DIFFERING {
        return texts.map(|text| text.into_iter().collect());
    }
    let start = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let rest = [&one[start..], &other[start..]];
    let same = rest[0].iter().rev().zip(rest[1].iter().rev()).take_while(|(one, other)| one == other).count();
    let from = start.saturating_sub(AROUND);
    texts.map(|text| {
        let differing = (text.len() - same).min(start + DIFFERING);
        let to = (differing + AROUND).min(text.len());
        let mark = |is_cut: bool| if is_cut { "…" } else { "" };
        let shown: String = text[from..to].iter().collect();
        format!("{}{shown}{}", mark(from > 0), mark(to < text.len()))
    })
}

/// A failure outside of any step, such as a panic or a timeout.
pub(super) fn case_failure(expected: &str, observed: String) -> Failure {
    Failure { step: 0, did: String::new(), expected: expected.to_owned(), observed, before: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_long_texts_the_difference_is_shown() {
        let text = |middle: &str| format!("{}{middle}{}", "a".repeat(5_000), "z".repeat(5_000));
        let shown = where_they_differ([&text("available: 1"), &text("available: 22")]);
        for (shown, middle) in shown.iter().zip(["available: 1z", "available: 22z"]) {
            assert!(shown.contains(middle) && shown.len() < 500, "{shown}");
        }
        assert_eq!(where_they_differ(["short", "shorter"]), ["short", "shorter"]);
    }
}
