//! A flag that stops every sale of a process at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Whether orders are taken at all. Cheap to look at for every request.
#[derive(Debug, Default)]
pub(crate) struct KillSwitchFlag {
    /// The version of the decision, and in the lowest bit whether it stops the sales: of two decisions the later one is
    /// the larger number.
    state: AtomicU64,
}

impl KillSwitchFlag {
    /// Takes note of a decision; one that is older than what is known changes nothing.
    pub(crate) fn note(&self, version: u64, on: bool) {
        self.state.fetch_max(version << 1 | u64::from(on), Ordering::SeqCst);
    }

    /// Whether no order is taken.
    pub(crate) fn is_on(&self) -> bool {
        self.state.load(Ordering::SeqCst) & 1 == 1
    }

    /// Grows with every decision.
    pub(crate) fn version(&self) -> u64 {
        self.state.load(Ordering::SeqCst) >> 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_decision_holds_in_whatever_order_they_come() {
        let kill_switch = KillSwitchFlag::default();
        assert!(!kill_switch.is_on());
        kill_switch.note(2, false);
        kill_switch.note(1, true);
        assert_eq!((kill_switch.is_on(), kill_switch.version()), (false, 2));
        kill_switch.note(3, true);
        assert_eq!((kill_switch.is_on(), kill_switch.version()), (true, 3));
    }
}
