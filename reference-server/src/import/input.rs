//! What files brought, as one set for a catalogue.

use std::collections::HashMap;

use flashsale_core::{
    catalogue::{Catalogue, CatalogueError, ImportReport, ImportSet, Item, Refusal},
    domain::Attribution,
};

use super::problem::{ImportErrors, Origin, Problem, SourceLocation};

/// A set that was read without a fault, and where each part of it came from.
#[derive(Clone, Debug)]
pub struct Input {
    /// What was read.
    pub set: ImportSet,
    pub(super) origins: HashMap<Item, Origin>,
}

impl Input {
    /// Gives the set to a catalogue, whole or not at all.
    ///
    /// # Errors
    /// What the catalogue refuses, with file and line; or its own failure.
    pub async fn import(
        &self,
        catalogue: &dyn Catalogue,
        by: &Attribution,
    ) -> Result<ImportReport, ImportFailure> {
        match catalogue.import(&self.set, by).await {
            Ok(report) => Ok(report),
            Err(CatalogueError::Refused(refusals)) => {
                let mut errors = ImportErrors::default();
                for refusal in refusals {
                    errors.push(self.locate(refusal));
                }
                Err(errors.into())
            }
            Err(error) => Err(ImportFailure::Catalogue(error)),
        }
    }

    /// A refusal in terms of the files. An offer that is missing from a file has the place of its activity.
    fn locate(&self, refusal: Refusal) -> Problem {
        let (item, origin) = match (self.origins.get(&refusal.item), refusal.item) {
            (Some(origin), _) => (None, Some(origin)),
            (None, Item::Offer(activity, _)) => {
                (Some(refusal.item), self.origins.get(&Item::Activity(activity)))
            }
            (None, item) => (Some(item), None),
        };
        let reason = match item {
            Some(item) => format!("{item}: {}", refusal.reason),
            None => refusal.reason,
        };
        match origin {
            Some(origin) => origin.problem(refusal.field, reason),
            None => Problem { file: String::new(), place: SourceLocation::File, reason },
        }
    }
}
/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportFailure {
    /// The catalogue refuses parts of the set.
    #[error(transparent)]
    Input(#[from] ImportErrors),
    /// The catalogue cannot be used.
    #[error(transparent)]
    Catalogue(CatalogueError),
}
