//! The mapping from a risk to a step.

use super::Risk;
use crate::domain::Invalid;

/// What a visitor must do before a ticket is issued, in ascending order of effort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Nothing.
    None,
    /// Let the device work for a few seconds.
    ProofOfWork,
    /// Read an image, or let the device work much longer.
    Quiz,
    /// No ticket.
    Deny,
}

impl Step {
    /// Raises the step by one, at most to [`Step::Quiz`]: only facts about the visitor may deny.
    #[must_use]
    pub fn raised(self) -> Self {
        match self {
            Self::None => Self::ProofOfWork,
            Self::ProofOfWork | Self::Quiz => Self::Quiz,
            Self::Deny => Self::Deny,
        }
    }
}

/// The risk thresholds of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    proof_of_work: u8,
    quiz: u8,
    deny: u8,
}

impl Ladder {
    /// A threshold above every risk: 101.
    pub const NEVER: u8 = Risk::MAX + 1;

    /// Creates a ladder from the lowest risk of each step: 0 to 100, or 101 for never.
    ///
    /// # Errors
    /// If a threshold is above 101, or they are not in ascending order.
    pub fn new(proof_of_work: u8, quiz: u8, deny: u8) -> Result<Self, Invalid> {
        if proof_of_work <= quiz && quiz <= deny && deny <= Self::NEVER {
            return Ok(Self { proof_of_work, quiz, deny });
        }
        let reason = format!(
            "proof of work from {proof_of_work}, quiz from {quiz}, deny from {deny}: give ascending numbers up to {}",
            Self::NEVER
        );
        Err(Invalid::new("ladder", reason))
    }

    /// Returns the step for a risk.
    pub fn step(&self, risk: Risk) -> Step {
        match risk.value() {
            risk if risk >= self.deny => Step::Deny,
            risk if risk >= self.quiz => Step::Quiz,
            risk if risk >= self.proof_of_work => Step::ProofOfWork,
            _ => Step::None,
        }
    }
}

impl Default for Ladder {
    /// Proof of work from 30, quiz from 60, deny from 90.
    fn default() -> Self {
        Self { proof_of_work: 30, quiz: 60, deny: 90 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_risk_has_its_step() {
        let ladder = Ladder::default();
        let table = [
            (0, Step::None),
            (29, Step::None),
            (30, Step::ProofOfWork),
            (59, Step::ProofOfWork),
            (60, Step::Quiz),
        ];
        for (risk, step) in table.into_iter().chain([(89, Step::Quiz), (90, Step::Deny), (100, Step::Deny)]) {
            assert_eq!(ladder.step(Risk::new(risk)), step, "{risk}");
        }
        let never = Ladder::new(Ladder::NEVER, Ladder::NEVER, Ladder::NEVER).unwrap();
        assert_eq!(never.step(Risk::new(100)), Step::None);
        let always = Ladder::new(0, 0, 101).unwrap();
        assert_eq!(always.step(Risk::new(0)), Step::Quiz);
        for (proof_of_work, quiz, deny) in [(50, 40, 90), (10, 95, 90), (10, 20, 102)] {
            assert!(Ladder::new(proof_of_work, quiz, deny).is_err());
        }
    }

    #[test]
    fn raising_never_denies() {
        let steps = [Step::None, Step::ProofOfWork, Step::Quiz, Step::Deny].map(Step::raised);
        assert_eq!(steps, [Step::ProofOfWork, Step::Quiz, Step::Quiz, Step::Deny]);
    }
}
