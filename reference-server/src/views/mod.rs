//! JSON views that several parts of the server share.

mod offer;
mod order;
mod page;

pub use offer::ShownOffer;
pub(crate) use order::ShownOrder;
pub use page::Page;
