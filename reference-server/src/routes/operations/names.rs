//! Erasure of what names a buyer.

use std::sync::Arc;

use flashsale_core::domain::Identity;
use hyper::{StatusCode, http::request::Parts};

use super::{
    Operations, by, method_of,
    request::{Why, reason},
    require,
};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Body, json, no_store},
    routes::{Answer, errors},
};

impl Operations {
    /// Deletes the text by which operators know a buyer, and records the erasure. Names need no
    /// deletion: they are only in sessions and tickets, which buyers hold and which expire.
    pub(super) async fn erase_name(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        identity: Identity,
        body: Body,
    ) -> Answer {
        method_of(head, "DELETE")?;
        require(operator, &[OperatorRole::Operator])?;
        let by = by(operator, reason(Why::read(head, body).await?.reason, "name erased"))?;
        let user = self.app.buyers.issuer().user(&identity);
        self.app.buyers.forget(user).await.map_err(|error| errors::identities(&error))?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.erase_name(user, &author).await };
        self.run(work).await?;
        Ok(no_store(json(StatusCode::OK, &serde_json::json!({ "user_id": identity, "name": null }))))
    }
}
