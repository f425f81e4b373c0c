//! Imports of several files (as the command line sends them) or of one JSON document.

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

/// Several files. Any other JSON document is imported as a single file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    files: Vec<ImportFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportFile {
    /// Determines the format; see [`Source::name`].
    name: String,
    content: String,
}

impl Operations {
    pub(super) async fn import(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        require(operator, &[OperatorRole::Operator])?;
        let bytes = body.with_max_bytes(IMPORT_BYTES).bytes(&head.headers).await?;
        Query::parse(head.uri.query(), &[])?;
        let by = by(operator, "import".parse().map_err(|error| errors::invalid(&error))?)?;
        let app = Arc::clone(&self.app);
        let work = self.app.spawner.run(async move {
            let now = app.clock.now();
            // Parsing 64 MiB is CPU-bound; run it off the async threads.
            let input = tokio::task::spawn_blocking(move || import::parse(&sources(bytes), now)).await;
            let input = input.map_err(|error| {
                tracing::error!(%error, "an import could not be parsed");
                errors::unavailable("The import could not be parsed; try again.")
            })?;
            let input = input.map_err(|errors| refused(&errors))?;
            let report = app.storefront.import(&input, &by).await.map_err(|failure| match failure {
                ImportFailure::Input(errors) => refused(&errors),
                ImportFailure::Catalogue(error) => errors::catalogue(&error),
            })?;
            app.publish(&by).await.map_err(|error| {
                tracing::error!(%error, "imported data could not be published");
                errors::unavailable("Imported but not published yet; import it again to publish it.")
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
    Problem::invalid("Nothing was imported; fix the listed problems.").with("problems", problems)
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
