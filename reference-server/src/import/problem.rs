//! Faults of files, for the person who wrote them.

use std::fmt;

/// A fault of a file.
///
/// It is shown as `offers.csv:12: units: …`, `sale.json:12:5: activities[0].offers[2]: …` or `offers.csv: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: String,
    /// Where in the file.
    pub place: SourceLocation,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceLocation {
    /// The file as a whole.
    File,
    /// A line of a CSV file, counted from 1; of a record with line breaks, the first.
    Line(u64),
    /// A cell of a CSV file.
    Cell {
        /// The first line of its record, counted from 1.
        line: u64,
        /// The name of its column.
        column: String,
    },
    /// A part of a JSON file.
    Json {
        /// Counted from 1.
        line: u64,
        /// Characters, counted from 1.
        column: u64,
        /// `activities[0].offers[2]`; empty for the document.
        path: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place, reason } = self;
        match place {
            SourceLocation::File if file.is_empty() => write!(f, "{reason}"),
            SourceLocation::File => write!(f, "{file}: {reason}"),
            SourceLocation::Line(line) => write!(f, "{file}:{line}: {reason}"),
            SourceLocation::Cell { line, column } => write!(f, "{file}:{line}: {column}: {reason}"),
            SourceLocation::Json { line, column, path } if path.is_empty() => {
                write!(f, "{file}:{line}:{column}: {reason}")
            }
            SourceLocation::Json { line, column, path } => {
                write!(f, "{file}:{line}:{column}: {path}: {reason}")
            }
        }
    }
}

/// Every fault that was found; nothing was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportErrors {
    problems: Vec<Problem>,
    total: usize,
}

impl ImportErrors {
    /// The most faults that are kept with their place: 100. The others are counted.
    pub const MAX_REPORTED: usize = 100;

    /// The first faults.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many there are, with those that are only counted.
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
            1 => write!(f, "1 fault, nothing was imported"),
            total => write!(f, "{total} faults, nothing was imported"),
        }
    }
}

/// Where a value came from.
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
    /// A problem with one field of the value; `field` is a word of the HTTP contract.
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

/// The column in which CSV files have a field of the HTTP contract.
pub(super) fn column_of(field: &str) -> &str {
    match field {
        "price" | "amount" => "price_minor",
        "max" => "limits",
        field => field,
    }
}
