//! CSV files: RFC 4180 with a header, in UTF-8.

use std::{collections::HashMap, time::Duration};

use flashsale_core::domain::{
    Activity, ActivityId, Buckets, Currency, Invalid, LateCapture, Money, OfferTerms, OverbookPercent,
    Product, Selling, Sku, Strategy, Timestamp, Window,
};

use super::{
    ImportErrors, Problem, SourceLocation,
    assemble::{Head, Parts},
    cell,
    problem::{Origin, Spot, column_of},
    records::{Record, Records},
    source::Table,
};

/// Reads one table.
pub(super) fn read(
    table: Table,
    file: &str,
    text: &str,
    now: Timestamp,
    parts: &mut Parts,
    errors: &mut ImportErrors,
) {
    let mut fault = |line, reason: &str| {
        let (file, place) = (file.to_owned(), SourceLocation::Line(line));
        errors.push(Problem { file, place, reason: reason.to_owned() });
        parts.is_complete = false;
    };
    let mut records = Records::new(text);
    let mut header = records.next();
    if let Some(note) = header.take_if(|first| is_separator_note(first)) {
        fault(note.line, SEPARATOR_NOTE);
        header = records.next();
    }
    let Some(header) = header else {
        return fault(1, "the file has no header");
    };
    let Some(columns) = columns(table, file, &header, errors) else {
        parts.is_complete = false;
        return;
    };
    for record in records {
        let mut row = Row { file, header: &header, record: &record, columns: &columns, errors };
        let taken = row.is_well_formed() && take(table, &mut row, now, parts);
        parts.is_complete &= taken;
    }
}

const SEPARATOR_NOTE: &str =
    "sep= is a note to spreadsheet programs and not part of the table; remove this line";

/// Returns whether a first record is a line such as `sep=;`.
fn is_separator_note(first: &Record) -> bool {
    first.used() == 1 && first.cells[0].trim().to_ascii_lowercase().starts_with("sep=")
}

fn take(table: Table, row: &mut Row<'_>, now: Timestamp, parts: &mut Parts) -> bool {
    let origin = Origin { file: row.file.to_owned(), spot: Spot::Record { line: row.record.line } };
    match table {
        Table::Products => product(row).map(|product| parts.products.push((product, origin))),
        Table::Skus => sku(row).map(|sku| parts.skus.push((sku, origin))),
        Table::Activities => head(row, now).map(|head| parts.heads.push((head, origin))),
        Table::Offers => offer(row).map(|(activity, offer)| parts.offers.push((activity, offer, origin))),
    }
    .is_some()
}

fn product(row: &mut Row<'_>) -> Option<Product> {
    let id = row.required("id", cell::of_domain);
    let name = row.required("name", cell::of_domain);
    let description = row.optional("description", cell::of_domain);
    let image = row.optional("image", cell::of_domain);
    Some(Product { id: id?, name: name?, description: description?, image: image? })
}

fn sku(row: &mut Row<'_>) -> Option<Sku> {
    let id = row.required("id", cell::of_domain);
    let product_id = row.required("product_id", cell::of_domain);
    let name = row.required("name", cell::of_domain);
    let list_price = price(row);
    Some(Sku { id: id?, product_id: product_id?, name: name?, list_price: list_price? })
}

fn head(row: &mut Row<'_>, now: Timestamp) -> Option<Head> {
    let id = row.required("id", cell::of_domain);
    let name = row.required("name", cell::of_domain);
    let description = row.optional("description", cell::of_domain);
    let starts_at = row.required("starts_at", |text| cell::moment(text, now));
    let ends_at = row.required("ends_at", |text| cell::moment(text, now));
    let creator = row.required("creator", cell::of_domain);
    let reviewer = row.optional("reviewer", cell::of_domain);
    let status = row.required("status", cell::status);
    let buckets = row.optional("buckets", |text| {
        Buckets::try_from(cell::number::<u16>(text)?).map_err(|invalid| invalid.reason)
    });
    let ((starts_at, relative_start), (ends_at, relative_end)) = (starts_at?, ends_at?);
    if relative_start != relative_end {
        row.fault("ends_at", "starts_at and ends_at must both be relative or both absolute".to_owned());
        return None;
    }
    let window = row.valid(Window::new(starts_at, ends_at));
    let activity = Activity {
        id: id?,
        name: name?,
        description: description?,
        window: window?,
        creator: creator?,
        reviewer: reviewer?,
        status: status?,
        buckets: buckets?.unwrap_or_default(),
        selling: Selling::On,
        offers: Vec::new(),
    };
    Some(Head { activity, relative_window: relative_start })
}

fn offer(row: &mut Row<'_>) -> Option<(ActivityId, OfferTerms)> {
    let activity = row.required("activity_id", cell::of_domain);
    let sku = row.required("sku_id", cell::of_domain);
    let price = price(row);
    let units = row.required("units", cell::number::<u32>);
    let strategy = row.required("strategy", cell::word::<Strategy>);
    let hold = row.optional("hold_seconds", cell::number::<u32>);
    let overbook = row.optional("overbook_percent", |text| {
        OverbookPercent::try_from(cell::number::<u32>(text)?).map_err(|invalid| invalid.reason)
    });
    let late_capture = row.optional("late_capture", cell::word::<LateCapture>);
    let limits = row.optional("limits", cell::limits);
    let (strategy, overbook) = (strategy?, overbook?);
    if overbook.is_some() && strategy != Strategy::PayTime {
        row.fault("overbook_percent", "only pay_time has an overbook percentage".to_owned());
        return None;
    }
    let hold = hold?.map(|seconds| Duration::from_secs(seconds.into()));
    let terms = row.valid(OfferTerms::new(sku?, price?, units?, strategy, hold))?;
    let terms = row.valid(terms.with_limits(limits?.unwrap_or_default()))?;
    let terms = terms
        .with_overbook(overbook.unwrap_or_default())
        .with_late_capture(late_capture?.unwrap_or_default());
    Some((activity?, terms))
}

fn price(row: &mut Row<'_>) -> Option<Money> {
    let amount = row.required("price_minor", cell::number::<u64>);
    let currency = row.required("currency", cell::of_domain::<Currency>);
    row.valid(Money::new(amount?, currency?))
}

/// Returns the required and the optional columns of a table.
fn known_columns(table: Table) -> (&'static [&'static str], &'static [&'static str]) {
    match table {
        Table::Products => (&["id", "name"], &["description", "image"]),
        Table::Skus => (&["id", "product_id", "name", "price_minor", "currency"], &[]),
        Table::Activities => (
            &["id", "name", "starts_at", "ends_at", "creator", "status"],
            &["description", "reviewer", "buckets"],
        ),
        Table::Offers => (
            &["activity_id", "sku_id", "price_minor", "currency", "units", "strategy"],
            &["hold_seconds", "overbook_percent", "late_capture", "limits"],
        ),
    }
}

fn columns(
    table: Table,
    file: &str,
    header: &Record,
    errors: &mut ImportErrors,
) -> Option<HashMap<&'static str, usize>> {
    let (required, optional) = known_columns(table);
    if let Some((place, reason)) = header.misquoted(header) {
        errors.push(Problem { file: file.to_owned(), place, reason });
        return None;
    }
    let mut columns = HashMap::new();
    let mut faults = Vec::new();
    for (index, cell) in header.cells.iter().enumerate() {
        let name = cell.trim();
        match required.iter().chain(optional).find(|column| **column == name) {
            Some(column) if columns.insert(*column, index).is_some() => {
                faults.push((Some(name), "duplicate column".to_owned()));
            }
            Some(_) => {}
            // The cells below have to be empty too.
            None if name.is_empty() => {}
            None if header.cells.len() == 1 && name.contains([';', '\t']) => {
                faults.push((None, "columns must be separated by commas".to_owned()));
            }
            None => {
                let all: Vec<_> = required.iter().chain(optional).copied().collect();
                faults.push((Some(name), format!("unknown column; known columns are {}", all.join(", "))));
            }
        }
    }
    for column in required.iter().filter(|column| !columns.contains_key(**column)) {
        faults.push((Some(column), "required column is missing".to_owned()));
    }
    let is_good = faults.is_empty();
    for (column, reason) in faults {
        let line = header.line;
        let place = match column {
            Some(column) => SourceLocation::Cell { line, column: column.to_owned() },
            None => SourceLocation::Line(line),
        };
        errors.push(Problem { file: file.to_owned(), place, reason });
    }
    is_good.then_some(columns)
}

/// A record and the means to read its cells. Faults are added to `errors`.
struct Row<'a> {
    file: &'a str,
    header: &'a Record,
    record: &'a Record,
    columns: &'a HashMap<&'static str, usize>,
    errors: &'a mut ImportErrors,
}

impl Row<'_> {
    fn required<T>(&mut self, column: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match self.optional(column, read)? {
            None => {
                self.fault(column, "must not be empty".to_owned());
                None
            }
            value => value,
        }
    }

    /// Reads a cell: `None` on a fault, `Some(None)` if the cell is empty or the column missing.
    fn optional<T>(&mut self, column: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<Option<T>> {
        let Some(index) = self.columns.get(column) else { return Some(None) };
        let text = self.record.cells[*index].trim();
        if text.is_empty() {
            return Some(None);
        }
        match read(text) {
            Ok(value) => Some(Some(value)),
            Err(reason) => {
                self.fault(column, reason);
                None
            }
        }
    }

    /// Checks a value that is made of several cells.
    fn valid<T>(&mut self, value: Result<T, Invalid>) -> Option<T> {
        value.map_err(|invalid| self.fault(column_of(invalid.field), invalid.reason)).ok()
    }

    fn is_well_formed(&mut self) -> bool {
        let Some((place, reason)) = self.record.malformed(self.header) else { return true };
        self.errors.push(Problem { file: self.file.to_owned(), place, reason });
        false
    }

    fn fault(&mut self, column: &str, reason: String) {
        let place = SourceLocation::Cell { line: self.record.line, column: column.to_owned() };
        self.errors.push(Problem { file: self.file.to_owned(), place, reason });
    }
}
