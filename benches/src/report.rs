//! The output of `figures`: results on standard output, progress on standard error.

use std::fmt::Display;

/// Prints a measured value with its unit.
pub fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {} {unit}", rounded(value));
}

/// Prints a comparison: ours relative to the reference, scaled so that higher is better.
pub fn ratio(name: &str, value: f64) {
    println!("ratio {name} {}", rounded(value));
}

/// Prints a fact that helps to judge the figures.
pub fn info(name: &str, value: impl Display) {
    println!("info {name} {value}");
}

/// Prints what is being measured.
pub fn progress(text: impl Display) {
    eprintln!("{text}");
}

/// The median; of an even number of values, the upper middle one.
///
/// # Panics
/// If there are no values, or one is NaN.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(|a, b| a.partial_cmp(b).expect("a measured value is a number"));
    values[values.len() / 2]
}

/// Converts a number of events to a float; exact below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "nothing here counts to 2^53")]
pub fn count(events: u64) -> f64 {
    events as f64
}

/// Rounds to three significant digits, or to an integer from 100 up.
fn rounded(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_with_three_digits() {
        let printed: Vec<_> = [0.123_45, 3.0, 31.25, 523_456.7].map(rounded).into();
        assert_eq!(printed, ["0.123", "3.00", "31.2", "523457"]);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
