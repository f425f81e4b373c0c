//! Erasure of buyers' names.

use std::sync::Arc;

use flashsale_core::domain::UserId;
use hyper::{StatusCode, http::request::Parts};

use super::{
    Operations, by, method_of,
    request::{Why, reason},
    require,
};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Body, json, no_store},
    routes::Answer,
};

impl Operations {
    /// Records the erasure of a buyer's name. There is nothing to delete: names are only in
    /// sessions and tickets, which buyers hold and which expire.
    pub(super) async fn erase_name(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        user: UserId,
        body: Body,
    ) -> Answer {
        method_of(head, "DELETE")?;
        require(operator, &[OperatorRole::Operator])?;
        let by = by(operator, reason(Why::read(head, body).await?.reason, "name erased"))?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.erase_name(user, &author).await };
        self.run(work).await?;
        Ok(no_store(json(StatusCode::OK, &serde_json::json!({ "user_id": user, "name": null }))))
    }
}
