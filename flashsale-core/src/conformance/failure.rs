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
        writeln!(f, "    expected  {}", self.expected)?;
        write!(f, "    observed  {}", self.observed)?;
        for step in &self.before {
            write!(f, "\n    before    {step}")?;
        }
        Ok(())
    }
}

/// A failure outside of any step, such as a panic or a timeout.
pub(super) fn case_failure(expected: &str, observed: String) -> Failure {
    Failure { step: 0, did: String::new(), expected: expected.to_owned(), observed, before: Vec::new() }
}
