//! The application: assembles stores and services, and shuts them down in order.

mod app;
mod error;
mod failure;
mod jobs;
mod open;
mod progress;
mod publish;
mod stores;

pub use app::App;
pub(crate) use app::{address_subject, by};
pub use error::{AppError, PublishError};
pub use jobs::Jobs;
pub use progress::Progress;
pub use stores::{Close, DataLock, Deployment};
