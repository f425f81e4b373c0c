//! The tests that every [`Catalogue`] must pass.

mod activities;
mod desk;
mod imports;
mod trail;
mod versions;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::{
    Options, Report,
    small_suite::{self, BEGIN},
};
use crate::{catalogue::Catalogue, domain::Timestamp};

/// Makes catalogues of one backend for the suite. Each case gets its own.
#[async_trait]
pub trait CatalogueFactory: Send + Sync {
    /// The backend's name in reports.
    fn name(&self) -> String;

    /// Makes an empty catalogue that shares nothing with any other. Its clock shows `now`.
    ///
    /// A panic fails the case.
    async fn fresh(&self, now: Timestamp) -> CatalogueUnderTest;
}

/// A catalogue under test.
#[derive(Clone)]
pub struct CatalogueUnderTest {
    /// The catalogue.
    pub catalogue: Arc<dyn Catalogue>,
    /// Test-only access to the catalogue.
    pub probe: Arc<dyn CatalogueTestControl>,
}

impl fmt::Debug for CatalogueUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.catalogue.fmt(f)
    }
}

/// Test-only access to a catalogue.
#[async_trait]
pub trait CatalogueTestControl: Send + Sync {
    /// Sets the catalogue's clock to `now`, a moment in the year 2100, also back. A backend with a
    /// real clock can add an offset.
    async fn set_time(&self, now: Timestamp);

    /// Simulates a crash at this moment: opens a new catalogue from what is durable. The old one is
    /// not used again. Returns `None` if the catalogue is not durable.
    async fn restart(&self) -> Option<CatalogueUnderTest>;
}

/// Runs every case on a backend's catalogues and prints a line for each.
///
/// # Panics
/// After the last case if one failed; inside a tokio runtime, since the suite starts its own.
pub fn run_catalogue(factory: &Arc<dyn CatalogueFactory>, options: &Options) {
    let report = examine_catalogue(factory, options);
    println!("{report}");
    assert!(report.failures().next().is_none(), "{} does not conform, see above", report.backend);
}

/// Runs every case on a backend's catalogues, prints a line for each, and returns the results.
///
/// # Panics
/// If called inside a tokio runtime, since the suite starts its own.
pub fn examine_catalogue(factory: &Arc<dyn CatalogueFactory>, options: &Options) -> Report {
    let fresh = || -> small_suite::Playing<'static, _> {
        let factory = Arc::clone(factory);
        Box::pin(async move { factory.fresh(BEGIN).await })
    };
    let cases = [versions::CASES, activities::CASES, imports::CASES, trail::CASES];
    small_suite::examine("catalogue", factory.name(), &cases, fresh, options)
}
