//! How a case failed.

use std::fmt;

/// Why a case failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The number of the step, from 1.
    pub step: usize,
    /// What the step was.
    pub did: String,
    /// What was expected of it.
    pub expected: String,
    /// What was seen.
    pub observed: String,
    /// The steps before it, the last ones.
    pub before: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    step      {}: {}", self.step, self.did)?;
        writeln!(f, "    expected  {}", self.expected)?;
        write!(f, "    observed  {}", self.observed)?;
        for step in &self.before {
            write!(f, "\n    before    {step}")?;
        }
        Ok(())
    }
}

/// A failure that does not know its step.
pub(super) fn elsewhere(expected: &str, observed: String) -> Failure {
    Failure { step: 0, did: String::new(), expected: expected.to_owned(), observed, before: Vec::new() }
}
