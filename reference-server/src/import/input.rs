//! A parsed import, ready for a catalogue.

use std::collections::HashMap;

use flashsale_core::{
    catalogue::{Catalogue, CatalogueError, ImportReport, ImportSet, Item, Refusal},
    domain::Attribution,
};

use super::problem::{ImportErrors, Origin, Problem, SourceLocation};

/// An import set without faults, and the origin of each part of it.
#[derive(Clone, Debug)]
pub struct Input {
    /// The items to import.
    pub set: ImportSet,
    pub(super) origins: HashMap<Item, Origin>,
}

impl Input {
    /// Imports the set into a catalogue, all or nothing.
    ///
    /// # Errors
    /// What the catalogue refuses, with file and line, or a failure of the catalogue.
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

    /// Locates a refusal in the files. An offer in no file has the location of its activity.
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
    /// The catalogue failed.
    #[error(transparent)]
    Catalogue(CatalogueError),
}
