//! Seeded faults for testing the conformance suite itself. Compiled only with the feature
//! `mutants`.

use std::sync::RwLock;

static ACTIVE: RwLock<Option<String>> = RwLock::new(None);

/// Activates one fault for the whole process, or none.
///
/// # Panics
/// If a thread panicked while holding the lock.
pub fn activate(name: Option<&str>) {
    *ACTIVE.write().expect("no thread panics while holding the lock") = name.map(str::to_owned);
}

/// Returns whether this fault is active.
pub fn is_active(name: &str) -> bool {
    ACTIVE.read().is_ok_and(|active| active.as_deref() == Some(name))
}
