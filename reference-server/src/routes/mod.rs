//! The calls of both listeners, and who answers them.

mod operations;
mod public;

pub use operations::Operations;
pub use public::Public;
