//! Reconciliation of the ledger and the catalogue.

use std::sync::Arc;

use hyper::StatusCode;

use super::{Operations, require};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{json, no_store},
    monitoring::reconciliation::{self, Findings},
    routes::{Answer, errors},
};

impl Operations {
    pub(super) async fn reconciliation(&self, operator: &OperationsToken) -> Answer {
        require(operator, &[OperatorRole::Auditor, OperatorRole::Operator])?;
        let app = Arc::clone(&self.app);
        let work = self.app.spawner.run(async move {
            let (ledger, inspector) = (&**app.sales.ledger(), &*app.inspector);
            reconciliation::inspect(ledger, inspector, &*app.catalogue, &*app.queue).await
        });
        let findings: Findings = work.await.map_err(errors::lost)?.map_err(|error| {
            tracing::error!(%error, "the reconciliation failed");
            errors::unavailable("The ledger or the catalogue cannot be read now; try again.")
        })?;
        Ok(no_store(json(StatusCode::OK, &findings)))
    }
}
