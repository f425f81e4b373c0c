//! Cases, and the table of each file.

use std::{future::Future, pin::Pin};

use super::scene::{Check, Scene};

/// What a case needs of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// That it decides: alone or as a truth.
    Deciding,
    /// That it decides alone, over several buckets.
    Buckets,
    /// That it is a gate.
    Gate,
    /// That it is a truth.
    Truth,
}

/// One case: a story with its expectations.
pub(super) struct Case {
    file: &'static str,
    name: &'static str,
    pub(super) needs: Needs,
    pub(super) play: for<'a> fn(&'a mut Scene) -> Pin<Box<dyn Future<Output = Check> + Send + 'a>>,
}

impl Case {
    pub(super) const fn new(
        file: &'static str,
        name: &'static str,
        needs: Needs,
        play: for<'a> fn(&'a mut Scene) -> Pin<Box<dyn Future<Output = Check> + Send + 'a>>,
    ) -> Self {
        Self { file, name, needs, play }
    }

    /// `file::name`.
    pub(super) fn name(&self) -> String {
        format!("{}::{}", self.file.rsplit("::").next().unwrap_or(self.file), self.name)
    }
}

/// The table of a file's cases. A case that stands in no table is dead code, which the compiler reports.
macro_rules! cases {
    ($($needs:ident: $($case:ident),+ $(,)?;)+) => {
        /// The cases of this file.
        pub(super) const CASES: &[$crate::conformance::case::Case] = &[$($(
            $crate::conformance::case::Case::new(
                module_path!(),
                stringify!($case),
                $crate::conformance::case::Needs::$needs,
                |scene| Box::pin($case(scene)),
            ),
        )+)+];
    };
}
pub(super) use cases;
