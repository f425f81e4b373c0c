//! Splits CSV text into records, strictly by RFC 4180.
//!
//! Lenient parsers find some text in any input: they read `"Cap"red` as `Capred`, and `"27\" wide"` as
//! `27\ wide"`. Here a misplaced quote is a fault, because a wrong name or price would be sold.

use super::{SourceLocation, source::line_breaks};

/// A record. Its lines may end with LF, CR LF or CR.
pub(super) struct Record {
    /// Its first line, from 1.
    pub(super) line: u64,
    /// The cells before the first fault.
    pub(super) cells: Vec<String>,
    /// The first misplaced quote, in the cell after `cells`.
    pub(super) fault: Option<Misquoted>,
}

/// A misplaced quote.
pub(super) struct Misquoted {
    /// The line of the quote, from 1.
    pub(super) line: u64,
    pub(super) reason: &'static str,
}

const UNCLOSED: &str = "unclosed quote; a quote inside a quoted field must be doubled";
const BACKSLASH: &str = "a backslash does not escape a quote; a quote inside a quoted field must be doubled";
const AFTER_QUOTE: &str = "text after the closing quote; a quote inside a quoted field must be doubled";
const UNQUOTED: &str = "a quote in a field without quotes; put the field in quotes and double the quote";

impl Record {
    /// Returns whether all cells are blank, as in rows that a spreadsheet leaves behind its table.
    fn is_blank(&self) -> bool {
        self.fault.is_none() && self.used() == 0
    }

    /// Returns the number of cells up to the last one with content.
    pub(super) fn used(&self) -> usize {
        self.cells.iter().rposition(|cell| !cell.trim().is_empty()).map_or(0, |last| last + 1)
    }

    /// Returns the misplaced quote, with its place and the reason.
    pub(super) fn misquoted(&self, header: &Self) -> Option<(SourceLocation, String)> {
        let Misquoted { line, reason } = self.fault.as_ref()?;
        Some((header.cell_below(*line, self.cells.len()), (*reason).to_owned()))
    }

    /// Returns what is wrong with the form of a record below `header`, and where. Cells without
    /// content at the end of either do not count.
    pub(super) fn malformed(&self, header: &Self) -> Option<(SourceLocation, String)> {
        if self.fault.is_some() {
            return self.misquoted(header);
        }
        let (width, used) = (header.used(), self.used());
        if self.cells.len() < width || used > header.cells.len() {
            let count = self.cells.len().min(used.max(width));
            let reason = format!("field count is {count}, but the header has {width}");
            return Some((SourceLocation::Line(self.line), reason));
        }
        let nameless = (0..used)
            .find(|index| header.cells[*index].trim().is_empty() && !self.cells[*index].trim().is_empty())?;
        let reason = "has content, but its column has no name in the header".to_owned();
        Some((header.cell_below(self.line, nameless), reason))
    }

    /// Returns the place of a cell below this header.
    fn cell_below(&self, line: u64, index: usize) -> SourceLocation {
        let column = match self.cells.get(index).map(|name| name.trim()) {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => format!("column {}", index + 1),
        };
        SourceLocation::Cell { line, column }
    }
}

/// The records of a text, in order. Blank ones are skipped.
pub(super) struct Records<'a> {
    rest: &'a str,
    line: u64,
}

impl<'a> Records<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    fn record(&mut self) -> Record {
        let mut record = Record { line: self.line, cells: Vec::new(), fault: None };
        loop {
            match self.cell() {
                Ok(cell) => record.cells.push(cell),
                Err(fault) => {
                    record.fault = Some(fault);
                    self.skip(self.rest.find(LINE_ENDS).unwrap_or(self.rest.len()));
                }
            }
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => break,
            }
        }
        self.skip(if self.rest.starts_with("\r\n") { 2 } else { usize::from(!self.rest.is_empty()) });
        record
    }

    fn cell(&mut self) -> Result<String, Misquoted> {
        let Some(mut rest) = self.rest.trim_start_matches(BLANKS).strip_prefix('"') else {
            let end = self.rest.find([',', '\r', '\n']).unwrap_or(self.rest.len());
            let cell = &self.rest[..end];
            if cell.contains('"') {
                return Err(Misquoted { line: self.line, reason: UNQUOTED });
            }
            self.skip(end);
            return Ok(cell.to_owned());
        };
        let mut cell = String::new();
        loop {
            let Some((text, after)) = rest.split_once('"') else {
                let opened = self.line;
                self.skip(self.rest.len());
                return Err(Misquoted { line: opened, reason: UNCLOSED });
            };
            cell.push_str(text);
            rest = after;
            match rest.strip_prefix('"') {
                Some(after) => rest = after,
                None => break,
            }
            cell.push('"');
        }
        rest = rest.trim_start_matches(BLANKS);
        self.skip(self.rest.len() - rest.len());
        if rest.is_empty() || rest.starts_with([',', '\r', '\n']) {
            return Ok(cell);
        }
        let reason = if cell.ends_with('\\') { BACKSLASH } else { AFTER_QUOTE };
        Err(Misquoted { line: self.line, reason })
    }

    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += line_breaks(skipped.as_bytes());
        self.rest = rest;
    }
}

/// White space around quotes.
const BLANKS: [char; 2] = [' ', '\t'];
const LINE_ENDS: [char; 2] = ['\r', '\n'];

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while !self.rest.is_empty() {
            let record = self.record();
            if !record.is_blank() {
                return Some(record);
            }
        }
        None
    }
}
