//! How the things of a sale look in JSON, wherever they are shown.

mod order;
mod page;

pub(crate) use order::ShownOrder;
pub use page::Page;
