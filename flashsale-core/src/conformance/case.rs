//! Cases, and the macro that lists those of a file.

use std::{future::Future, pin::Pin};

use super::scene::{Check, Scene};

/// What a case requires of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// It decides, either alone or as a truth.
    Deciding,
    /// It decides alone, over several buckets.
    Buckets,
    /// It is a gate.
    Gate,
    /// It is a truth.
    Truth,
}

/// A named test of one behaviour. Its comment may name a mistake, seen elsewhere, that it catches.
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

/// Lists the cases of a file. The compiler reports a case that is not listed as dead code.
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
