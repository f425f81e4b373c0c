//! JSON views that several parts of the server share.

mod list_page;
mod offer;
mod order;

pub use list_page::Page;
pub use offer::ShownOffer;
pub(crate) use order::ShownOrder;
