//! Faults in files, for the person who wrote them.

use std::fmt;

use crate::bidi;

/// A fault in a file.
///
/// Displayed as `offers.csv:12: units: …` or `sale.json:12:5: activities[0].offers[2]: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: String,
    /// The location in the file.
    pub place: SourceLocation,
    /// What is wrong, and what is expected.
    pub reason: String,
}

/// A location in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceLocation {
    /// The file as a whole.
    File,
    /// A line of a CSV file, from 1. For a record with line breaks, its first line.
    Line(u64),
    /// A cell of a CSV file.
    Cell {
        /// The first line of its record, from 1.
        line: u64,
        /// The name of its column.
        column: String,
    },
    /// A part of a JSON file.
    Json {
        /// The line, from 1.
        line: u64,
        /// The column in characters, from 1.
        column: u64,
        /// The path, as in `activities[0].offers[2]`; empty for the whole document.
        path: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names of files and columns are texts of people too.
        let (file, reason) = (&bidi::escape(&self.file), &bidi::escape(&self.reason));
        match &self.place {
            SourceLocation::File if file.is_empty() => write!(f, "{reason}"),
            SourceLocation::File => write!(f, "{file}: {reason}"),
            SourceLocation::Line(line) => write!(f, "{file}:{line}: {reason}"),
            SourceLocation::Cell { line, column } => {
                write!(f, "{file}:{line}: {}: {reason}", bidi::escape(column))
            }
            SourceLocation::Json { line, column, path } if path.is_empty() => {
                write!(f, "{file}:{line}:{column}: {reason}")
            }
            SourceLocation::Json { line, column, path } => {
                write!(f, "{file}:{line}:{column}: {path}: {reason}")
            }
        }
    }
}

/// All faults that were found. Nothing was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportErrors {
    problems: Vec<Problem>,
    total: usize,
}

impl ImportErrors {
    /// The most faults that are kept with their details: 100. Others are only counted.
    pub const MAX_REPORTED: usize = 100;

    /// Returns the first faults, at most [`MAX_REPORTED`](Self::MAX_REPORTED).
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns the number of all faults.
    pub fn total(&self) -> usize {
        self.total
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.total += 1;
        if self.problems.len() < Self::MAX_REPORTED {
            self.problems.push(problem);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }
}

impl std::error::Error for ImportErrors {}

impl fmt::Display for ImportErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.total - self.problems.len() {
            0 => {}
            more => writeln!(f, "… and {more} more")?,
        }
        match self.total {
            1 => write!(f, "1 fault; nothing was imported"),
            total => write!(f, "{total} faults; nothing was imported"),
        }
    }
}

/// The origin of a value.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) file: String,
    pub(super) spot: Spot,
}

#[derive(Clone, Debug)]
pub(super) enum Spot {
    Record { line: u64 },
    Element { line: u64, column: u64, path: String },
}

impl Origin {
    /// Creates a problem with one field of the value, named as in the HTTP contract.
    pub(super) fn problem(&self, field: &str, reason: String) -> Problem {
        let place = match &self.spot {
            Spot::Record { line } => {
                SourceLocation::Cell { line: *line, column: column_of(field).to_owned() }
            }
            Spot::Element { line, column, path } => {
                SourceLocation::Json { line: *line, column: *column, path: format!("{path}.{field}") }
            }
        };
        Problem { file: self.file.clone(), place, reason }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spot {
            Spot::Record { line } => write!(f, "{}:{line}", self.file),
            Spot::Element { line, column, .. } => write!(f, "{}:{line}:{column}", self.file),
        }
    }
}

/// Returns the CSV column of a field of the HTTP contract.
pub(super) fn column_of(field: &str) -> &str {
    match field {
        "price" | "amount" => "price_minor",
        "max" => "limits",
        field => field,
    }
}
