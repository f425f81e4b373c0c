//! Products of a shop at Shopify, from the CSV file that it exports.
//!
//! The first row of a handle is a product; each of its rows with a price is a variant, and each with a
//! picture another picture. The file has no numbers for ids. They are digests of handle and options,
//! so that a later export changes the same products.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use flashsale_core::domain::{Currency, Money, Name, Product, ProductId, Sku, SkuId, Text};

use super::{
    ImportErrors, Problem, SourceLocation,
    assemble::Parts,
    cell,
    problem::{Origin, Spot},
    records::{Record, Records},
};

/// What an import from Shopify left out, for the person who runs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Pictures after the first one of their product.
    pub pictures: usize,
    /// Descriptions that were cut to 4,000 characters.
    pub descriptions: usize,
    /// The handles of products whose status is not `active`, which buyers must not see.
    pub inactive: Vec<String>,
    /// The columns with content that no product has a place for, and how many rows have it.
    pub columns: BTreeMap<String, usize>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        if *self == Self::default() {
            return f.write_str("left out: nothing");
        }
        f.write_str("left out:")?;
        if !self.inactive.is_empty() {
            let shown = self.inactive.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if self.inactive.len() > SHOWN { ", …" } else { "" };
            write!(f, "\n  products that are not active: {} ({shown}{more})", self.inactive.len())?;
        }
        if self.pictures > 0 {
            write!(f, "\n  further pictures of a product: {}", self.pictures)?;
        }
        if self.descriptions > 0 {
            write!(f, "\n  ends of descriptions over 4,000 characters: {}", self.descriptions)?;
        }
        for (column, rows) in &self.columns {
            write!(f, "\n  column {column:?}, rows with content: {rows}")?;
        }
        Ok(())
    }
}

/// The columns that are read, with the names in older and newer exports.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Column {
    Handle,
    Title,
    Body,
    Option1,
    Option2,
    Option3,
    Price,
    Picture,
    Status,
}

const COLUMNS: [(Column, [&str; 2]); 9] = [
    (Column::Handle, ["Handle", "URL handle"]),
    (Column::Title, ["Title", "Title"]),
    (Column::Body, ["Body (HTML)", "Description"]),
    (Column::Option1, ["Option1 Value", "Option1 value"]),
    (Column::Option2, ["Option2 Value", "Option2 value"]),
    (Column::Option3, ["Option3 Value", "Option3 value"]),
    (Column::Price, ["Variant Price", "Price"]),
    (Column::Picture, ["Image Src", "Product image URL"]),
    (Column::Status, ["Status", "Status"]),
];
const REQUIRED: [Column; 3] = [Column::Handle, Column::Title, Column::Price];
/// What Shopify calls the only variant of a product without options.
const ONLY_VARIANT: &str = "Default Title";

/// Reads one export. Its prices are in `currency`, which the file does not name.
pub(super) fn read(
    file: &str,
    text: &str,
    currency: Currency,
    parts: &mut Parts,
    left_out: &mut LeftOut,
    errors: &mut ImportErrors,
) {
    let mut records = Records::new(text);
    let Some(header) = records.next() else {
        let place = SourceLocation::Line(1);
        errors.push(Problem { file: file.to_owned(), place, reason: "the file has no header".to_owned() });
        return;
    };
    let Some(columns) = columns(file, &header, errors) else { return };
    let mut reader =
        Reader { file, header: &header, columns, currency, seen: HashMap::new(), parts, left_out, errors };
    for record in records {
        match record.malformed(&header) {
            Some((place, reason)) => {
                reader.errors.push(Problem { file: file.to_owned(), place, reason });
            }
            None => reader.row(&record),
        }
    }
}

fn columns(file: &str, header: &Record, errors: &mut ImportErrors) -> Option<HashMap<Column, usize>> {
    if let Some((place, reason)) = header.misquoted(header) {
        errors.push(Problem { file: file.to_owned(), place, reason });
        return None;
    }
    let columns: HashMap<_, _> = header
        .cells
        .iter()
        .enumerate()
        .filter_map(|(index, cell)| {
            let (column, _) = COLUMNS.iter().find(|(_, names)| names.contains(&cell.trim()))?;
            Some((*column, index))
        })
        .collect();
    let mut is_complete = true;
    for (column, names) in COLUMNS {
        if REQUIRED.contains(&column) && !columns.contains_key(&column) {
            is_complete = false;
            let place = SourceLocation::Cell { line: header.line, column: names[0].to_owned() };
            let reason = "required column is missing; is this a product export of Shopify?".to_owned();
            errors.push(Problem { file: file.to_owned(), place, reason });
        }
    }
    is_complete.then_some(columns)
}

/// A product of which a row was read.
struct Seen {
    title: String,
    line: u64,
    /// Its place in [`Parts::products`]; `None` if it is left out or has a fault.
    at: Option<usize>,
}

struct Reader<'a> {
    file: &'a str,
    header: &'a Record,
    columns: HashMap<Column, usize>,
    currency: Currency,
    seen: HashMap<String, Seen>,
    parts: &'a mut Parts,
    left_out: &'a mut LeftOut,
    errors: &'a mut ImportErrors,
}

impl Reader<'_> {
    fn row(&mut self, record: &Record) {
        let handle = self.text(record, Column::Handle);
        if handle.is_empty() {
            return self.fault(record, Column::Handle, "must not be empty".to_owned());
        }
        if !self.seen.contains_key(handle) {
            self.product(record, handle);
        }
        let Some(Seen { title, line, at }) = self.seen.get(handle) else { return };
        let (repeated, title, at) = (self.text(record, Column::Title), title.clone(), *at);
        if !repeated.is_empty() && repeated != title {
            let reason = format!("the handle {handle:?} has another title at line {line}");
            return self.fault(record, Column::Title, reason);
        }
        let Some(at) = at else { return };
        self.variant(record, handle, &title);
        self.picture(record, at);
        let used: Vec<usize> = self.columns.values().copied().collect();
        for (index, cell) in record.cells.iter().enumerate() {
            if !used.contains(&index) && !cell.trim().is_empty() {
                let name = self.header.cells[index].trim().to_owned();
                *self.left_out.columns.entry(name).or_default() += 1;
            }
        }
    }

    fn product(&mut self, record: &Record, handle: &str) {
        let title = self.text(record, Column::Title);
        let status = self.text(record, Column::Status);
        let is_active = status.is_empty() || status.eq_ignore_ascii_case("active");
        let product = if is_active { self.active_product(record, handle, title) } else { None };
        if !is_active {
            self.left_out.inactive.push(handle.to_owned());
        }
        let at = product.map(|product| {
            self.parts.products.push((product, self.origin(record)));
            self.parts.products.len() - 1
        });
        self.seen.insert(handle.to_owned(), Seen { title: title.to_owned(), line: record.line, at });
    }

    fn active_product(&mut self, record: &Record, handle: &str, title: &str) -> Option<Product> {
        let name = match title.is_empty() {
            true => Err("must not be empty".to_owned()),
            false => cell::of_domain::<Name>(title),
        };
        let name = self.valid(record, Column::Title, name);
        let mut body = plain_text(self.text(record, Column::Body));
        if let Some((end, _)) = body.char_indices().nth(MOST_TEXT) {
            body.truncate(end);
            self.left_out.descriptions += 1;
        }
        let description = match body.trim().is_empty() {
            true => Some(None),
            false => self.valid(record, Column::Body, cell::of_domain::<Text>(&body)).map(Some),
        };
        let id = ProductId::new(digest(&[handle]))?;
        Some(Product { id, name: name?, description: description?, image: None })
    }

    fn variant(&mut self, record: &Record, handle: &str, title: &str) {
        let options = [Column::Option1, Column::Option2, Column::Option3];
        let options: Vec<&str> = options
            .map(|option| self.text(record, option))
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect();
        let price = self.text(record, Column::Price);
        if price.is_empty() && options.is_empty() {
            return;
        }
        let name = match options.as_slice() {
            [] | [ONLY_VARIANT] => title.to_owned(),
            options => options.join(" / "),
        };
        let name = self.valid(record, Column::Option1, cell::of_domain::<Name>(&name));
        let price = self.valid(record, Column::Price, in_minor_units(price, self.currency));
        let product_id = ProductId::new(digest(&[handle]));
        let mut identity = vec![handle];
        identity.extend(options);
        let id = SkuId::new(digest(&identity));
        if let (Some(id), Some(product_id), Some(name), Some(list_price)) = (id, product_id, name, price) {
            let origin = self.origin(record);
            self.parts.skus.push((Sku { id, product_id, name, list_price }, origin));
        }
    }

    fn picture(&mut self, record: &Record, product: usize) {
        let address = self.text(record, Column::Picture);
        if address.is_empty() {
            return;
        }
        if self.parts.products[product].0.image.is_some() {
            self.left_out.pictures += 1;
            return;
        }
        let image = self.valid(record, Column::Picture, cell::of_domain(address));
        self.parts.products[product].0.image = image;
    }

    /// Returns the trimmed text of a cell; empty if the file has no such column.
    fn text<'r>(&self, record: &'r Record, column: Column) -> &'r str {
        self.columns.get(&column).map_or("", |index| record.cells[*index].trim())
    }

    fn valid<T>(&mut self, record: &Record, column: Column, value: Result<T, String>) -> Option<T> {
        value.map_err(|reason| self.fault(record, column, reason)).ok()
    }

    fn fault(&mut self, record: &Record, column: Column, reason: String) {
        let name = self.columns.get(&column).map_or("", |index| self.header.cells[*index].trim());
        let place = SourceLocation::Cell { line: record.line, column: name.to_owned() };
        self.errors.push(Problem { file: self.file.to_owned(), place, reason });
    }

    fn origin(&self, record: &Record) -> Origin {
        Origin { file: self.file.to_owned(), spot: Spot::Record { line: record.line } }
    }
}

/// The most characters of a [`Text`].
const MOST_TEXT: usize = 4_000;

/// Returns the id of what these texts identify: 63 bits of their digest, never 0.
fn digest(texts: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    (u64::from_le_bytes(bytes) >> 1).max(1)
}

/// Converts a price in major units, `1299.00`, without rounding.
fn in_minor_units(text: &str, currency: Currency) -> Result<Money, String> {
    let wrong = || format!("{text:?} is not a price in {currency} such as {}", example(currency));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = usize::from(currency.exponent());
    let fraction = fraction
        .get(digits..)
        .map_or(Some(fraction), |rest| rest.bytes().all(|byte| byte == b'0').then(|| &fraction[..digits]));
    let fraction = fraction.ok_or_else(wrong)?;
    let all = format!("{whole}{fraction:0<digits$}");
    if whole.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let amount = all.parse().map_err(|_| wrong())?;
    Money::new(amount, currency).map_err(|invalid| invalid.reason)
}

/// Returns a price with the decimals of a currency, without its code.
fn example(currency: Currency) -> String {
    match usize::from(currency.exponent()) {
        0 => "1299".to_owned(),
        digits => format!("1299.{:0digits$}", 0),
    }
}

/// Returns the text of a fragment of HTML: without tags, a line for each block.
fn plain_text(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, after)) = rest.split_once('<') {
        push_words(&mut text, before);
        if !after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') {
            text.push('<');
            rest = after;
            continue;
        }
        let end = if after.starts_with("!--") { "-->" } else { ">" };
        let (tag, behind) = after.split_once(end).unwrap_or((after, ""));
        let name = tag.trim_start_matches('/');
        let name = &name[..name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())];
        rest = behind;
        match &*name.to_ascii_lowercase() {
            // Their content is no text.
            "script" | "style" if !tag.starts_with('/') => {
                let close = rest.to_ascii_lowercase().find(&format!("</{}", name.to_ascii_lowercase()));
                rest = &rest[close.unwrap_or(rest.len())..];
            }
            "li" if !tag.starts_with('/') => text.push_str("\n• "),
            "p" | "div" | "br" | "li" | "ul" | "ol" | "dl" | "dt" | "dd" | "table" | "tr" | "hr"
            | "section" | "article" | "blockquote" | "pre" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                text.push('\n')
            }
            "td" | "th" => push_words(&mut text, " "),
            _ => {}
        }
    }
    push_words(&mut text, rest);
    let text = html_escape::decode_html_entities(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// Appends a text, with a space for each run of white space, as HTML is shown.
fn push_words(text: &mut String, part: &str) {
    for character in part.chars() {
        match character {
            ' ' | '\t' | '\n' | '\r' | '\u{c}' => {
                if !text.ends_with([' ', '\n']) {
                    text.push(' ');
                }
            }
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str, currency: &str) -> Result<u64, String> {
        in_minor_units(text, currency.parse().unwrap()).map(|money| money.amount())
    }

    #[test]
    fn prices_are_converted_without_rounding() {
        assert_eq!(money("1299.00", "CNY"), Ok(129_900));
        assert_eq!(money("19.9", "USD"), Ok(1_990));
        assert_eq!(money("5", "USD"), Ok(500));
        assert_eq!(money("0.00", "USD"), Ok(0));
        assert_eq!(money("1200.00", "JPY"), Ok(1_200));
        assert_eq!(money("1.250", "KWD"), Ok(1_250));
        for (text, currency) in [
            ("19.999", "USD"),
            ("12.50", "JPY"),
            ("1,299.00", "USD"),
            ("", "USD"),
            (".5", "USD"),
            ("-1", "USD"),
        ] {
            let reason = money(text, currency).unwrap_err();
            assert!(reason.contains("is not a price in") && reason.contains("such as 1299"), "{reason}");
        }
        assert_eq!(money("1.999", "USD").unwrap_err(), "\"1.999\" is not a price in USD such as 1299.00");
        assert!(money("99999999999999999999", "USD").is_err());
    }

    #[test]
    fn markup_becomes_plain_text() {
        for (html, text) in [
            ("", ""),
            ("plain  text\nof two lines", "plain text of two lines"),
            ("<p>Soft &amp; warm&nbsp;cotton.</p>\n<p>3 < 5</p>", "Soft & warm\u{a0}cotton.\n3 < 5"),
            ("<ul><li>Red</li><li class=\"a\">Blue</li></ul>", "• Red\n• Blue"),
            ("<style>p { color: red }</style>a<br/>b<!-- <p>no</p> -->c", "a\nbc"),
            ("<table><tr><td>M</td><td>96&#160;cm</td></tr></table>", "M 96\u{a0}cm"),
            ("&lt;script&gt;alert(1)&lt;/script&gt;", "<script>alert(1)</script>"),
            ("open <p", "open"),
        ] {
            assert_eq!(plain_text(html), text, "{html}");
        }
    }

    #[test]
    fn ids_depend_on_where_texts_end() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["tee", "Red"]), digest(&["tee", "Red"]));
        assert!(i64::try_from(digest(&["tee"])).is_ok());
    }
}
