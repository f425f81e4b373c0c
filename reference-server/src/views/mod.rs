//! How the things of a sale look in JSON, wherever they are shown.

mod offer;
mod order;
mod page;

pub use offer::ShownOffer;
pub(crate) use order::ShownOrder;
pub use page::Page;
