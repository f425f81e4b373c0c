//! The application: stores and services, put together and taken down in order.

mod app;
mod error;
mod jobs;
mod open;
mod publish;
mod stores;

pub use app::App;
pub(crate) use app::{address_subject, by};
pub use error::{AppError, PublishError};
pub use jobs::Jobs;
pub use stores::{Close, Deployment};
