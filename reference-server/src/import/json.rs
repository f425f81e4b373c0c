//! JSON files: `{"products": […], "skus": […], "activities": [{…, "offers": […]}]}`.

use flashsale_core::domain::{
    Activity, ActivityId, Buckets, Name, OfferTerms, Selling, Text, Timestamp, Window,
};
use serde::{
    Deserialize,
    de::{self, DeserializeOwned},
};
use serde_json::value::RawValue;

use super::{
    ImportErrors, Problem, SourceLocation,
    assemble::{Head, Parts},
    cell,
    problem::{Origin, Spot},
    source::line_of,
};

/// The document. Elements are parsed separately, so that every faulty one is reported.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(default, borrow)]
    products: Vec<&'a RawValue>,
    #[serde(default, borrow)]
    skus: Vec<&'a RawValue>,
    #[serde(default, borrow)]
    activities: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawActivity<'a> {
    id: ActivityId,
    name: Name,
    #[serde(default)]
    description: Option<Text>,
    starts_at: String,
    ends_at: String,
    creator: Name,
    #[serde(default)]
    reviewer: Option<Name>,
    status: String,
    #[serde(default)]
    buckets: Option<Buckets>,
    #[serde(default, borrow)]
    offers: Vec<&'a RawValue>,
}

/// Reads one document.
pub(super) fn read(file: &str, text: &str, now: Timestamp, parts: &mut Parts, errors: &mut ImportErrors) {
    let mut reader = Reader { file, text, errors, last: Place::default() };
    let before = reader.errors.total();
    if let Some(document) = reader.element::<Document<'_>>(text, "") {
        for (index, raw) in document.products.into_iter().enumerate() {
            parts.products.extend(reader.owned(raw, format!("products[{index}]")));
        }
        for (index, raw) in document.skus.into_iter().enumerate() {
            parts.skus.extend(reader.owned(raw, format!("skus[{index}]")));
        }
        for (index, raw) in document.activities.into_iter().enumerate() {
            reader.activity(raw, &format!("activities[{index}]"), now, parts);
        }
    }
    parts.is_complete &= reader.errors.total() == before;
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    errors: &'a mut ImportErrors,
    last: Place,
}

/// Where the last element was found. The next one is searched from here: searching from the start
/// each time would take minutes for thousands of elements.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    line: u64,
    column: u64,
}

impl Default for Place {
    fn default() -> Self {
        Self { offset: 0, line: 1, column: 1 }
    }
}

impl<'a> Reader<'a> {
    fn owned<T: DeserializeOwned>(&mut self, raw: &'a RawValue, path: String) -> Option<(T, Origin)> {
        let value = self.element(raw.get(), &path)?;
        Some((value, self.origin(raw, path)))
    }

    fn activity(&mut self, raw: &'a RawValue, path: &str, now: Timestamp, parts: &mut Parts) {
        let Some(read) = self.element::<RawActivity<'a>>(raw.get(), path) else { return };
        let origin = self.origin(raw, path.to_owned());
        let (id, offers) = (read.id, read.offers.clone());
        parts.heads.extend(self.head(read, &origin, now).map(|head| (head, origin)));
        for (index, raw) in offers.into_iter().enumerate() {
            let offer = self.owned::<OfferTerms>(raw, format!("{path}.offers[{index}]"));
            parts.offers.extend(offer.map(|(offer, origin)| (id, offer, origin)));
        }
    }

    fn head(&mut self, read: RawActivity<'a>, origin: &Origin, now: Timestamp) -> Option<Head> {
        let mut check = |field: &str, reason: String| self.errors.push(origin.problem(field, reason));
        let starts_at = cell::moment(&read.starts_at, now).map_err(|reason| check("starts_at", reason)).ok();
        let ends_at = cell::moment(&read.ends_at, now).map_err(|reason| check("ends_at", reason)).ok();
        let status = cell::status(&read.status).map_err(|reason| check("status", reason)).ok();
        let ((starts_at, relative_start), (ends_at, relative_end)) = (starts_at?, ends_at?);
        if relative_start != relative_end {
            check("ends_at", "starts_at and ends_at must both be relative or both absolute".to_owned());
            return None;
        }
        let window =
            Window::new(starts_at, ends_at).map_err(|invalid| check(invalid.field, invalid.reason)).ok();
        let activity = Activity {
            id: read.id,
            name: read.name,
            description: read.description,
            window: window?,
            creator: read.creator,
            reviewer: read.reviewer,
            status: status?,
            buckets: read.buckets.unwrap_or_default(),
            selling: Selling::On,
            offers: Vec::new(),
        };
        Some(Head { activity, relative_window: relative_start })
    }

    /// Parses a part of the document. A fault is reported with its position in the whole document.
    fn element<T: Deserialize<'a>>(&mut self, part: &'a str, path: &str) -> Option<T> {
        // Serde would also read a struct from an array, but only objects are allowed here.
        let read = if part.trim_start().starts_with('[') {
            Err(de::Error::custom("invalid type: sequence, expected an object"))
        } else {
            serde_json::from_str(part)
        };
        match read {
            Ok(value) => Some(value),
            Err(error) => {
                // Errors of domain types have no position: line and column are 0.
                let start = self.offset(part) + offset_of(part, error.line(), error.column());
                let message = error.to_string();
                let suffix = format!(" at line {} column {}", error.line(), error.column());
                let reason = message.strip_suffix(&suffix).unwrap_or(&message);
                let (line, column) = self.line_and_column(start);
                let place = SourceLocation::Json { line, column, path: path.to_owned() };
                self.errors.push(Problem { file: self.file.to_owned(), place, reason: reason.to_owned() });
                None
            }
        }
    }

    fn origin(&mut self, raw: &RawValue, path: String) -> Origin {
        let offset = self.offset(raw.get());
        let from = if self.last.offset <= offset { self.last } else { Place::default() };
        let between = &self.text[from.offset..offset];
        let line = from.line + line_of(between.as_bytes(), between.len()) - 1;
        let column = match between.rfind(['\r', '\n']) {
            Some(end) => between[end + 1..].chars().count() as u64 + 1,
            None => from.column + between.chars().count() as u64,
        };
        self.last = Place { offset, line, column };
        Origin { file: self.file.to_owned(), spot: Spot::Element { line, column, path } }
    }

    /// Returns the offset of a part that borrows from the text.
    fn offset(&self, part: &str) -> usize {
        part.as_ptr().addr() - self.text.as_ptr().addr()
    }

    fn line_and_column(&self, offset: usize) -> (u64, u64) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line_start = before.rfind(['\r', '\n']).map_or(0, |end| end + 1);
        (line_of(before.as_bytes(), before.len()), before[line_start..].chars().count() as u64 + 1)
    }
}

/// Returns the byte offset of a line and a column of the parser, both from 1; columns are in bytes.
fn offset_of(part: &str, line: usize, column: usize) -> usize {
    let start: usize = part.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(part.len())
}
