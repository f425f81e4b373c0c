//! Imports products, SKUs, activities and offers from files; see `docs/IMPORT.md`.
//!
//! [`read`] parses files, [`parse`] data that is already in memory. Both report every fault of all
//! files before anything is imported. [`Input::import`] then imports the whole set into a
//! catalogue; it reports file and line of what the catalogue refuses.
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
mod records;
mod shopify;
mod source;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use flashsale_core::domain::{Currency, Timestamp};
pub use input::{ImportFailure, Input};
pub use problem::{ImportErrors, Problem, SourceLocation};
pub use shopify::LeftOut;
pub use source::{Source, demo};

use self::{assemble::Parts, source::Kind};

/// Reads and parses files. A directory stands for the `products.csv`, `skus.csv`, `activities.csv`
/// and `offers.csv` in it. Relative times count from `now`.
///
/// # Errors
/// Every fault of every file, up to [`ImportErrors::MAX_REPORTED`].
pub fn read(paths: &[PathBuf], now: Timestamp) -> Result<Input, ImportErrors> {
    let mut errors = ImportErrors::default();
    let sources = source::load(paths, &mut errors);
    parse_after(errors, &sources, now)
}

/// Reads and parses product exports of a shop at Shopify, CSV files with prices in `currency`. Returns
/// also what such a file has and an import does not.
///
/// # Errors
/// Every fault of every file, up to [`ImportErrors::MAX_REPORTED`].
pub fn read_shopify(paths: &[PathBuf], currency: Currency) -> Result<(Input, LeftOut), ImportErrors> {
    let mut errors = ImportErrors::default();
    let (mut parts, mut left_out) = (Parts::default(), LeftOut::default());
    for source in source::load(paths, &mut errors) {
        if let Some(text) = source.utf8(&mut errors) {
            shopify::read(&source.name, text, currency, &mut parts, &mut left_out, &mut errors);
        }
    }
    let input = assemble::assemble(parts, &mut errors);
    if errors.is_empty() { Ok((input, left_out)) } else { Err(errors) }
}

/// Loads files without parsing them, to send them to a server.
///
/// # Errors
/// Every file that cannot be loaded.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Source>, ImportErrors> {
    let mut errors = ImportErrors::default();
    let sources = source::load(paths, &mut errors);
    if errors.is_empty() { Ok(sources) } else { Err(errors) }
}

/// Parses files that are already loaded. Relative times count from `now`.
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
