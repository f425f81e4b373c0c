//! Pages of lists.

use serde::Serialize;

/// A page of a list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// The cursor of the next page, for `?after=`; `None` on the last page.
    pub next: Option<String>,
}
