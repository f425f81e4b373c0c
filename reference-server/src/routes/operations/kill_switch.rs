//! The kill switch.

use std::sync::Arc;

use flashsale_core::{
    catalogue::{KillSwitch, Versioned},
    domain::{Name, Text},
};
use hyper::{Method, StatusCode, http::request::Parts};
use serde::{Deserialize, Serialize};

use super::{Operations, by, method_of, require};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Body, json, no_store},
    rfc3339::Rfc3339,
    routes::{Answer, errors},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchRequest {
    on: bool,
    reason: Text,
}

#[derive(Serialize)]
struct ShownSwitch<'a> {
    on: bool,
    reason: Option<&'a Text>,
    actor: Option<&'a Name>,
    changed_at: Option<Rfc3339>,
}

impl<'a> ShownSwitch<'a> {
    fn of(switch: Option<&'a Versioned<KillSwitch>>) -> Self {
        let switch = switch.map(|switch| &switch.value);
        Self {
            on: switch.is_some_and(|switch| switch.on),
            reason: switch.map(|switch| &switch.by.reason),
            actor: switch.map(|switch| &switch.by.actor),
            changed_at: switch.map(|switch| switch.at.into()),
        }
    }
}

impl Operations {
    pub(super) async fn kill_switch(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        if method_of(head, "GET, HEAD, PUT")? == Method::PUT {
            return self.set_kill_switch(operator, head, body).await;
        }
        let switch = self.app.operations.kill_switch().await.map_err(|error| errors::operation(&error))?;
        Ok(no_store(json(StatusCode::OK, &ShownSwitch::of(switch.as_ref()))))
    }

    async fn set_kill_switch(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        require(operator, &[OperatorRole::Operator])?;
        let SwitchRequest { on, reason } = body.json(&head.headers).await?;
        let by = by(operator, reason)?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.set_kill_switch(on, &author).await };
        let switch = self.run(work).await?;
        Ok(no_store(json(StatusCode::OK, &ShownSwitch::of(Some(&switch)))))
    }
}
