//! Exports the published pages as files, for a static host or a CDN.
//!
//! A page is `index.html` in the directory of its path, so that any host finds it. Each file has
//! precompressed `.br` and `.gz` variants beside it, for hosts that use them.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    http::document::{Document, Encoding},
    storefront::{
        assets,
        pages::{Editions, Language, archive_path},
        products::AllProductDocuments,
        published::PublishedCatalogue,
    },
};

/// The manifest: one written path per line. The next export removes files that it no longer writes.
const MANIFEST: &str = "published.txt";
/// Response headers, for hosts that read a `_headers` file; a page cannot set them itself.
const HEADERS: &str = "/*
  Content-Security-Policy: frame-ancestors 'none'
  Cross-Origin-Opener-Policy: same-origin
  Referrer-Policy: same-origin
  X-Content-Type-Options: nosniff
/assets/*
  Cache-Control: public, max-age=31536000, immutable
";

/// Why an export failed. Files written so far stay; the next export continues.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The directory has other content.
    #[error(
        "{} is not empty and was not written by this command; use an empty directory", .0.display()
    )]
    NotOurs(PathBuf),
    /// A file or directory cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The result of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Files written, including compressed variants.
    pub files: usize,
    /// Files of an earlier export that were removed.
    pub removed: usize,
}

/// Exports everything that is published and rendered into an empty, new or previously exported directory.
///
/// Assets are written before the pages that load them, and each file is replaced atomically, so the
/// directory can be served meanwhile. Assets of older pages are kept.
///
/// # Errors
/// [`ExportError`].
pub fn write(
    published: &PublishedCatalogue,
    product_documents: &AllProductDocuments,
    out: &Path,
) -> Result<Exported, ExportError> {
    let manifest = out.join(MANIFEST);
    let before = match fs::read_to_string(&manifest) {
        Ok(before) => before,
        Err(_) if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) => {
            return Err(ExportError::NotOurs(out.to_owned()));
        }
        Err(_) => String::new(),
    };
    let mut writer = Writer { out, written: BTreeSet::new() };
    // Write the manifest first, so that an interrupted export is recognised as one.
    writer.file(MANIFEST, before.as_bytes())?;
    for (path, document) in assets::all() {
        writer.document(path.trim_start_matches('/'), document)?;
    }
    writer.file("_headers", HEADERS.as_bytes())?;
    writer.product_documents(product_documents)?;
    writer.published(published)?;
    let gone: Vec<&str> = before
        .lines()
        .filter(|path| !writer.written.contains(*path) && !path.starts_with("assets/"))
        .filter(|path| {
            Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)))
        })
        .collect();
    for path in &gone {
        remove(&out.join(path))?;
    }
    let kept = before.lines().filter(|path| path.starts_with("assets/")).map(ToOwned::to_owned);
    let files = writer.written.len();
    let listed: BTreeSet<String> = writer.written.iter().cloned().chain(kept).collect();
    let list = listed.into_iter().fold(String::new(), |list, path| list + &path + "\n");
    writer.file(MANIFEST, list.as_bytes())?;
    Ok(Exported { files, removed: gone.len() })
}

struct Writer<'a> {
    out: &'a Path,
    written: BTreeSet<String>,
}

impl Writer<'_> {
    fn product_documents(&mut self, product_documents: &AllProductDocuments) -> Result<(), ExportError> {
        for (id, document) in &product_documents.skus {
            self.document(&format!("v1/skus/{id}.json"), document)?;
        }
        for (id, product) in &product_documents.products {
            self.document(&format!("v1/products/{id}.json"), &product.document)?;
            self.page(&format!("products/{id}/"), &product.page)?;
        }
        Ok(())
    }

    fn published(&mut self, published: &PublishedCatalogue) -> Result<(), ExportError> {
        self.document("v1/activities.json", &published.list)?;
        for (id, listed) in &published.activities {
            if let Some(documents) = listed.documents() {
                self.document(&format!("v1/activities/{id}.json"), &documents.document)?;
                self.page(&format!("activities/{id}/"), &documents.page)?;
            }
        }
        for page in &published.archive {
            if let Some(editions) = page.editions() {
                self.page(archive_path(page.number).trim_start_matches('/'), editions)?;
            }
        }
        self.page("orders/", &published.orders)?;
        self.page("", &published.home)?;
        // A static host does not negotiate languages: the root page is in the first one.
        self.document("index.html", published.home.in_language(Language::ALL[0]))
    }

    fn page(&mut self, path: &str, page: &Editions) -> Result<(), ExportError> {
        Language::ALL.into_iter().try_for_each(|language| {
            self.document(&format!("{language}/{path}index.html"), page.in_language(language))
        })
    }

    fn document(&mut self, path: &str, document: &Document) -> Result<(), ExportError> {
        for encoding in Encoding::COMPRESSED {
            if let Some(body) = document.body(encoding) {
                self.file(&format!("{path}.{}", encoding.extension()), body)?;
            }
        }
        document.body(Encoding::Identity).map_or(Ok(()), |body| self.file(path, body))
    }

    fn file(&mut self, path: &str, content: &[u8]) -> Result<(), ExportError> {
        let target = self.out.join(path);
        replace(self.out, &target, content).map_err(|source| ExportError::Io { path: target, source })?;
        self.written.insert(path.to_owned());
        Ok(())
    }
}

/// Replaces a file atomically and makes it world-readable.
fn replace(out: &Path, target: &Path, content: &[u8]) -> io::Result<()> {
    let folder = target.parent().unwrap_or(out);
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
    }
    for folder in folder.ancestors().take_while(|folder| folder.starts_with(out)) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    let mut new = target.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, content)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(&new, target)
}

fn remove(path: &Path) -> Result<(), ExportError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ExportError::Io { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use flashsale_core::domain::Timestamp;

    use super::*;
    use crate::storefront::{pages::Site, published::Range};

    #[test]
    fn an_export_is_complete_readable_and_knows_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("shop");
        let site = Site { signs_in: true, api: "https://api.example".to_owned() };
        let published = PublishedCatalogue::fill(Range::default(), &site, None, Timestamp::EPOCH).unwrap();
        published.render_all(&site).unwrap();
        let first = write(&published, &AllProductDocuments::default(), &out).unwrap();
        let index = fs::read_to_string(out.join("zh/index.html")).unwrap();
        assert!(index.contains("data-api=\"https://api.example\""), "{index}");
        assert!(index.contains("connect-src &#39;self&#39; https://api.example;"), "{index}");
        assert_eq!(fs::metadata(out.join("zh/index.html")).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(out.join("en/orders/index.html.br").is_file() && out.join("index.html.gz").is_file());
        assert_eq!(first.removed, 0);

        // An older export had more files; its assets stay.
        let list = fs::read_to_string(out.join(MANIFEST)).unwrap();
        for path in ["zh/activities/7/index.html", "assets/shop.0000000000000000.js"] {
            replace(&out, &out.join(path), b"old").unwrap();
        }
        let older = "zh/activities/7/index.html\nassets/shop.0000000000000000.js\n../outside\n";
        fs::write(directory.path().join("outside"), "not ours").unwrap();
        fs::write(out.join(MANIFEST), list + older).unwrap();
        assert_eq!(
            write(&published, &AllProductDocuments::default(), &out).unwrap(),
            Exported { removed: 1, ..first }
        );
        assert!(!out.join("zh/activities/7/index.html").exists());
        assert!(
            out.join("assets/shop.0000000000000000.js").exists() && directory.path().join("outside").exists()
        );
    }

    #[test]
    fn somebody_elses_directory_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("thesis.txt"), "years of work").unwrap();
        let published =
            PublishedCatalogue::fill(Range::default(), &Site::own(false), None, Timestamp::EPOCH).unwrap();
        let refused = write(&published, &AllProductDocuments::default(), directory.path()).unwrap_err();
        assert!(matches!(refused, ExportError::NotOurs(_)), "{refused}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
