//! Imports: files as the command line sends them, or one JSON document.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{StatusCode, http::request::Parts};
use serde::Deserialize;

use super::{Operations, by, require};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Body, Problem, Query, json, no_store},
    import::{self, ImportFailure, Source},
    routes::{Answer, errors},
};

/// The largest import: 64 MiB.
const IMPORT_BYTES: usize = 64 << 20;

/// Files as the command line sends them; any other JSON document is one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    files: Vec<ImportFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportFile {
    /// It tells what is in the file.
    name: String,
    content: String,
}

impl Operations {
    pub(super) async fn import(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        require(operator, &[OperatorRole::Operator])?;
        let bytes = body.with_max_bytes(IMPORT_BYTES).bytes().await?;
        Query::parse(head.uri.query(), &[])?;
        let by = by(operator, "import".parse().map_err(|error| errors::invalid(&error))?)?;
        let app = Arc::clone(&self.app);
        let work = self.app.spawner.run(async move {
            let now = app.clock.now();
            // Reading 64 MiB takes longer than a thread of the runtime should be held.
            let input = tokio::task::spawn_blocking(move || import::parse(&sources(bytes), now)).await;
            let input = input.map_err(|error| {
                tracing::error!(%error, "an import could not be read");
                errors::unavailable("The import could not be read; try again.")
            })?;
            let input = input.map_err(|errors| refused(&errors))?;
            let report = app.storefront.import(&input, &by).await.map_err(|failure| match failure {
                ImportFailure::Input(errors) => refused(&errors),
                ImportFailure::Catalogue(error) => errors::catalogue(&error),
            })?;
            app.publish(&by).await.map_err(|error| {
                tracing::error!(%error, "what was imported could not be published");
                errors::unavailable("It is imported and not yet published; import it again to publish it.")
            })?;
            Ok::<_, Problem>(report)
        });
        let report = work.await.map_err(errors::lost)??;
        Ok(no_store(json(StatusCode::OK, &report)))
    }
}

fn refused(errors: &import::ImportErrors) -> Problem {
    let text = errors.to_string();
    let problems: Vec<&str> = text.lines().collect();
    Problem::invalid("Nothing was imported; correct what the problems say.").with("problems", problems)
}

fn sources(body: Bytes) -> Vec<Source> {
    match serde_json::from_slice::<Files>(&body) {
        Ok(Files { files }) => files
            .into_iter()
            .map(|file| Source { name: file.name, content: file.content.into_bytes().into() })
            .collect(),
        Err(_) => vec![Source { name: "import.json".to_owned(), content: body.to_vec().into() }],
    }
}
