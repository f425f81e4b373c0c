//! The server's time, and the operator's word that a jump of the machine's clock is right.

use std::sync::Arc;

use flashsale_core::{clock::ClockState, domain::Text};
use hyper::{StatusCode, http::request::Parts};
use serde::{Deserialize, Serialize};

use super::{Operations, by, require};
use crate::{
    app::App,
    config::{OperationsToken, OperatorRole},
    http::{Body, Code, Problem, json, no_store},
    rfc3339::Rfc3339,
    routes::{Answer, errors},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepRequest {
    reason: Text,
}

#[derive(Serialize)]
struct ShownClock {
    now: Rfc3339,
    wall: Rfc3339,
    offset_ms: i64,
    doubt: Option<ShownDoubt>,
    steps: u64,
}

/// A jump that is not believed yet.
#[derive(Serialize)]
struct ShownDoubt {
    since: Rfc3339,
    believed_at: Rfc3339,
}

impl ShownClock {
    fn of(app: &App) -> Self {
        let given = || {
            let now = app.clock.now();
            ClockState { now, wall: now, offset_ms: 0, doubt: None, steps: 0 }
        };
        let ClockState { now, wall, offset_ms, doubt, steps } =
            app.timekeeper.as_ref().map_or_else(given, |timekeeper| timekeeper.state());
        let doubt = doubt.map(|doubt| ShownDoubt {
            since: now.before(doubt.lasts).into(),
            believed_at: now.after(doubt.left).into(),
        });
        Self { now: now.into(), wall: wall.into(), offset_ms, doubt, steps }
    }
}

impl Operations {
    pub(super) fn clock(&self) -> Answer {
        Ok(no_store(json(StatusCode::OK, &ShownClock::of(&self.app))))
    }

    pub(super) async fn step_clock(&self, operator: &OperationsToken, head: &Parts, body: Body) -> Answer {
        require(operator, &[OperatorRole::Operator])?;
        let StepRequest { reason } = body.json(&head.headers).await?;
        let by = by(operator, reason)?;
        let right = || Problem::new(Code::WrongState, "The machine's clock shows no jump that is doubted.");
        let timekeeper = Arc::clone(self.app.timekeeper.as_ref().ok_or_else(right)?);
        let stepped = self.app.spawner.run(async move { timekeeper.confirm(by).await });
        match stepped.await.map_err(errors::lost)? {
            Ok(Some(_)) => self.clock(),
            Ok(None) => Err(right()),
            Err(error) => {
                tracing::error!(%error, "a step of the clock is not finished");
                Err(errors::unavailable(
                    "The step is not finished yet; the server goes on with it by itself.",
                ))
            }
        }
    }
}
