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
    /// Names are in sessions and tickets only, which buyers hold and which end by themselves; neither ledger nor catalogue
    /// has one. What is left to do is to note that somebody asked.
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
