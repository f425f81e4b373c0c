//! How far the start of the application is, for `/readyz`.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How far the start is.
#[derive(Debug, Default)]
pub struct Progress(AtomicUsize);

/// A step of the start, after the first, in which the stores are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartStep {
    Activities = 1,
    Pages = 2,
}

impl Progress {
    /// Says what is being done, as a reason why the server is not ready.
    pub fn reason(&self) -> &'static str {
        const REASONS: [&str; 3] = [
            "starting: the stores are being opened",
            "starting: activities are being opened for sale",
            "starting: pages are being rendered",
        ];
        REASONS[self.0.load(Ordering::Relaxed).min(REASONS.len() - 1)]
    }

    pub(super) fn reach(&self, step: StartStep) {
        self.0.fetch_max(step as usize, Ordering::Relaxed);
    }
}
