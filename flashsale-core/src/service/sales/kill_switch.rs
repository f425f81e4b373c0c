//! The flag that stops every sale of a process at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Whether the operator has stopped all sales. Cheap to read for every request.
#[derive(Debug, Default)]
pub(crate) struct KillSwitchFlag {
    /// The decision's version, shifted left by one, and in the lowest bit whether sales are
    /// stopped. A later decision is therefore a larger number.
    state: AtomicU64,
}

impl KillSwitchFlag {
    /// Records a decision. Stale versions are ignored.
    pub(crate) fn note(&self, version: u64, on: bool) {
        self.state.fetch_max(version << 1 | u64::from(on), Ordering::SeqCst);
    }

    /// Whether sales are stopped.
    pub(crate) fn is_on(&self) -> bool {
        self.state.load(Ordering::SeqCst) & 1 == 1
    }

    /// The version of the latest decision.
    pub(crate) fn version(&self) -> u64 {
        self.state.load(Ordering::SeqCst) >> 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_decision_wins_in_any_order_of_arrival() {
        let kill_switch = KillSwitchFlag::default();
        assert!(!kill_switch.is_on());
        kill_switch.note(2, false);
        kill_switch.note(1, true);
        assert_eq!((kill_switch.is_on(), kill_switch.version()), (false, 2));
        kill_switch.note(3, true);
        assert_eq!((kill_switch.is_on(), kill_switch.version()), (true, 3));
    }
}
