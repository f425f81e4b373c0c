//! Seeded faults, to test the conformance suite itself. Only with the feature `mutants`; without it nothing of this is
//! compiled into the ledger.

use std::sync::RwLock;

static ACTIVE: RwLock<Option<String>> = RwLock::new(None);

/// Activates one fault in the whole process, or none.
///
/// # Panics
/// If a thread panicked while it held the switch.
pub fn activate(name: Option<&str>) {
    *ACTIVE.write().expect("nothing panics while it holds the switch") = name.map(str::to_owned);
}

/// Whether this fault is the active one.
pub fn is_active(name: &str) -> bool {
    ACTIVE.read().is_ok_and(|active| active.as_deref() == Some(name))
}
