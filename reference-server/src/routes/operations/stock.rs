//! Stock of offers, and adjustments.

use std::sync::Arc;

use flashsale_core::{
    domain::{ActivityId, SkuId, Text},
    ledger::{Adjustment, AdjustmentId, Epoch, LedgerCalls as _, Stock},
};
use hyper::{StatusCode, http::request::Parts};
use serde::{Deserialize, Serialize};

use super::{Operations, by, require};
use crate::{
    config::{OperationsToken, OperatorRole},
    http::{Body, Problem, json, no_store},
    routes::{Answer, errors},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdjustmentRequest {
    adjustment_id: String,
    delta: i64,
    reason: Text,
}

#[derive(Serialize)]
struct Adjusted {
    adjustment_id: String,
    delta: i64,
    #[serde(flatten)]
    stock: Option<ShownStock>,
}

/// The units of an offer, as in the HTTP contract.
#[derive(Serialize)]
struct ShownStock {
    units: i64,
    adjusted: i64,
    available: i64,
    held: i64,
    sold: i64,
    epoch: Epoch,
}

impl From<Stock> for ShownStock {
    fn from(stock: Stock) -> Self {
        let Stock { units, adjusted, available, held, sold, epoch, .. } = stock;
        Self { units, adjusted, available, held, sold, epoch }
    }
}

impl Operations {
    pub(super) async fn stock(&self, activity: ActivityId, sku: SkuId) -> Answer {
        let stock =
            self.app.sales.ledger().stock(activity, sku).await.map_err(|error| errors::ledger(&error))?;
        let stock = ShownStock::from(stock.ok_or_else(Problem::not_found)?);
        Ok(no_store(json(StatusCode::OK, &stock)))
    }

    pub(super) async fn adjust(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        activity: ActivityId,
        sku: SkuId,
        body: Body,
    ) -> Answer {
        require(operator, &[OperatorRole::Operator])?;
        let request: AdjustmentRequest = body.json(&head.headers).await?;
        let adjustment = Adjustment {
            activity,
            sku,
            id: AdjustmentId::new(&request.adjustment_id).map_err(|error| errors::invalid(&error))?,
            delta: request.delta,
            by: by(operator, request.reason)?,
        };
        let app = Arc::clone(&self.app);
        let work = async move {
            let outcome = app.operations.adjust(adjustment).await?;
            let stock = app.sales.ledger().stock(activity, sku).await?;
            Ok((outcome, stock))
        };
        let (outcome, stock) = self.run(work).await?;
        errors::adjusted(outcome)?;
        let stock = stock.map(ShownStock::from);
        let adjusted = Adjusted { adjustment_id: request.adjustment_id, delta: request.delta, stock };
        Ok(no_store(json(StatusCode::OK, &adjusted)))
    }
}
