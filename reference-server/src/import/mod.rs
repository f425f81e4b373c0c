//! Products, SKUs, activities and offers from files. The formats are described in `docs/IMPORT.md`.
//!
//! [`read`] takes files, [`parse`] takes what somebody else read. Either finds every fault of all files before
//! anything is imported; [`Input::import`] then gives the whole set to a catalogue, and names file and line of what
//! the catalogue refuses.
//!
//! ```no_run
//! # async fn example(catalogue: &dyn flashsale_core::catalogue::Catalogue) -> Result<(), Box<dyn std::error::Error>> {
//! use flashsale_core::domain::{Attribution, Clock, SystemClock};
//! use reference_server::import;
//!
//! let input = import::read(&["examples/data".into()], SystemClock.now())?;
//! let by = Attribution { actor: "chen".parse()?, reason: "the autumn sale".parse()? };
//! println!("{}", input.import(catalogue, &by).await?);
//! # Ok(())
//! # }
//! ```

mod assemble;
mod cell;
mod csv;
mod input;
mod json;
mod problem;
mod source;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use flashsale_core::domain::Timestamp;
pub use input::{ImportFailure, Input};
pub use problem::{ImportErrors, Problem, SourceLocation};
pub use source::{Source, demo};

use self::{assemble::Parts, source::Kind};

/// Reads files. A directory stands for those of `products.csv`, `skus.csv`, `activities.csv` and `offers.csv` that it
/// has. Relative times count from `now`.
///
/// # Errors
/// Every fault of every file, up to [`ImportErrors::MAX_REPORTED`].
pub fn read(paths: &[PathBuf], now: Timestamp) -> Result<Input, ImportErrors> {
    let mut errors = ImportErrors::default();
    let sources = source::load(paths, &mut errors);
    parse_after(errors, &sources, now)
}

/// Loads files without reading what is in them, to send them elsewhere.
///
/// # Errors
/// Every file that cannot be loaded.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Source>, ImportErrors> {
    let mut errors = ImportErrors::default();
    let sources = source::load(paths, &mut errors);
    if errors.is_empty() { Ok(sources) } else { Err(errors) }
}

/// Reads what was loaded from files already. Relative times count from `now`.
///
/// # Errors
/// Every fault of every source, up to [`ImportErrors::MAX_REPORTED`].
pub fn parse(sources: &[Source], now: Timestamp) -> Result<Input, ImportErrors> {
    parse_after(ImportErrors::default(), sources, now)
}

fn parse_after(mut errors: ImportErrors, sources: &[Source], now: Timestamp) -> Result<Input, ImportErrors> {
    let mut parts = Parts::default();
    for source in sources {
        let Some((kind, text)) = source.text(&mut errors) else {
            parts.is_complete = false;
            continue;
        };
        match kind {
            Kind::Json => json::read(&source.name, text, now, &mut parts, &mut errors),
            Kind::Csv(table) => csv::read(table, &source.name, text, now, &mut parts, &mut errors),
        }
    }
    let input = assemble::assemble(parts, &mut errors);
    if errors.is_empty() { Ok(input) } else { Err(errors) }
}
