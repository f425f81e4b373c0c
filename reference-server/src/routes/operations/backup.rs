//! Backups of the running server.

use std::{
    fmt,
    path::{self, PathBuf},
    sync::Arc,
};

use hyper::{StatusCode, http::request::Parts};
use serde::Deserialize;

use super::{Operations, require};
use crate::{
    backup::BackupError,
    config::{OperationsToken, OperatorRole},
    http::{Body, Problem, json, no_store},
    routes::{Answer, errors},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    directory: PathBuf,
}

impl Operations {
    pub(super) async fn backup(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        require(operator, &[OperatorRole::Operator])?;
        let BackupRequest { directory } = body.json(&head.headers).await?;
        let refused = |error: &dyn fmt::Display| {
            tracing::warn!(%error, "a backup failed");
            Problem::invalid_field("directory", error.to_string())
        };
        // A relative path is relative to this process, whose directory the operator may not know.
        let directory = path::absolute(directory).map_err(|error| refused(&error))?;
        let (app, to) = (Arc::clone(&self.app), directory.clone());
        let work = self
            .app
            .spawner
            .run(async move { app.backup.as_ref().ok_or(BackupError::InMemory)?.write(&to).await });
        work.await.map_err(errors::lost)?.map_err(|error| refused(&error))?;
        let written = serde_json::json!({ "backup": "complete", "directory": directory.to_string_lossy() });
        Ok(no_store(json(StatusCode::OK, &written)))
    }
}
