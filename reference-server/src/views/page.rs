//! Pages of lists.

use serde::Serialize;

/// A page of a list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next page begins, for `?after=`; `None` on the last one.
    pub next: Option<String>,
}
