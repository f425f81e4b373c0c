//! Files that are not parsed yet.

use std::{
    borrow::Cow,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{ImportErrors, Problem, SourceLocation};

/// The largest file: 64 MiB, far larger than any catalogue and small enough for memory.
const MAX_BYTES: u64 = 64 << 20;

/// The content of a file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path of the file. Its name determines the format: `products.csv`, `skus.csv`,
    /// `activities.csv`, `offers.csv`, or anything that ends in `.json`.
    pub name: String,
    /// The content, in UTF-8.
    pub content: Cow<'static, [u8]>,
}

/// Returns the data set of `serve --demo`, `examples/data/*.csv` as of build time.
pub fn demo() -> Vec<Source> {
    let file = |name: &str, content: &'static str| Source {
        name: format!("examples/data/{name}"),
        content: Cow::Borrowed(content.as_bytes()),
    };
    vec![
        file("products.csv", include_str!("../../../examples/data/products.csv")),
        file("skus.csv", include_str!("../../../examples/data/skus.csv")),
        file("activities.csv", include_str!("../../../examples/data/activities.csv")),
        file("offers.csv", include_str!("../../../examples/data/offers.csv")),
    ]
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Csv(Table),
    Json,
}

/// The kinds of CSV files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Products,
    Skus,
    Activities,
    Offers,
}

const TABLES: [(&str, Table); 4] = [
    ("products.csv", Table::Products),
    ("skus.csv", Table::Skus),
    ("activities.csv", Table::Activities),
    ("offers.csv", Table::Offers),
];

impl Source {
    /// Returns the format, and the text without a byte order mark.
    pub(super) fn text(&self, errors: &mut ImportErrors) -> Option<(Kind, &str)> {
        let Some(kind) = self.kind() else {
            let reason =
                "unknown file name; expected products.csv, skus.csv, activities.csv, offers.csv or *.json";
            errors.push(Problem {
                file: self.name.clone(),
                place: SourceLocation::File,
                reason: reason.to_owned(),
            });
            return None;
        };
        Some((kind, self.utf8(errors)?))
    }

    /// Returns the text without a byte order mark.
    pub(super) fn utf8(&self, errors: &mut ImportErrors) -> Option<&str> {
        let bytes = self.content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&self.content);
        let (line, reason) = match std::str::from_utf8(bytes) {
            Ok(text) => return Some(text),
            Err(_) if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") => {
                (1, "the file is UTF-16; save it as UTF-8".to_owned())
            }
            Err(error) => {
                let byte = bytes[error.valid_up_to()];
                let reason = format!("byte 0x{byte:02X} is not valid UTF-8; save the file as UTF-8");
                (line_of(bytes, error.valid_up_to()), reason)
            }
        };
        errors.push(Problem { file: self.name.clone(), place: SourceLocation::Line(line), reason });
        None
    }

    fn kind(&self) -> Option<Kind> {
        let name = Path::new(&self.name).file_name()?.to_str()?;
        if name.ends_with(".json") {
            return Some(Kind::Json);
        }
        TABLES.iter().find(|(table, _)| *table == name).map(|(_, table)| Kind::Csv(*table))
    }
}

/// Loads files, and the CSV files in directories.
pub(super) fn load(paths: &[PathBuf], errors: &mut ImportErrors) -> Vec<Source> {
    let mut sources = Vec::new();
    if paths.is_empty() {
        let reason = "no file was given".to_owned();
        errors.push(Problem { file: String::new(), place: SourceLocation::File, reason });
    }
    for path in paths {
        let mut fault = |reason| {
            errors.push(Problem { file: path.display().to_string(), place: SourceLocation::File, reason })
        };
        if !path.is_dir() {
            match load_file(path) {
                Ok(source) => sources.push(source),
                Err(error) => fault(format!("cannot be read: {error}")),
            }
            continue;
        }
        let files: Vec<_> =
            TABLES.iter().map(|(name, _)| path.join(name)).filter(|file| file.exists()).collect();
        if files.is_empty() {
            fault("contains none of products.csv, skus.csv, activities.csv and offers.csv".to_owned());
        }
        for file in files {
            match load_file(&file) {
                Ok(source) => sources.push(source),
                Err(error) => fault(format!("{} cannot be read: {error}", file.display())),
            }
        }
    }
    sources
}

/// Returns the line, from 1, of the byte at `offset`.
pub(super) fn line_of(bytes: &[u8], offset: usize) -> u64 {
    1 + line_breaks(&bytes[..offset])
}

/// Counts line ends: LF, CR LF and CR.
pub(super) fn line_breaks(bytes: &[u8]) -> u64 {
    let ends = bytes.iter().enumerate().filter(|(at, byte)| match byte {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    ends.count() as u64
}

fn load_file(path: &Path) -> io::Result<Source> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 64 MiB; split it"));
    }
    Ok(Source { name: path.display().to_string(), content: Cow::Owned(content) })
}
