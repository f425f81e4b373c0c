//! Offers of activities: attach, edit, detach.

use std::{sync::Arc, time::Duration};

use flashsale_core::domain::{
    ActivityId, Invalid, LateCapture, LimitRule, Money, OfferTerms, OverbookPercent, SkuId, Strategy, Text,
};
use hyper::{Method, http::request::Parts};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Operations,
    activities::ACTIVITY_BYTES,
    by, method_of,
    request::{Why, present, reason},
};
use crate::{
    config::OperationsToken,
    http::{Body, Problem},
    routes::Answer,
};

/// A change of an offer. Missing fields stay unchanged.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditRequest {
    #[serde(default, deserialize_with = "present")]
    price: Option<Money>,
    #[serde(default, deserialize_with = "present")]
    units: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    strategy: Option<Strategy>,
    #[serde(default, deserialize_with = "present")]
    hold_seconds: Option<Option<u32>>,
    #[serde(default, deserialize_with = "present")]
    overbook_percent: Option<OverbookPercent>,
    #[serde(default, deserialize_with = "present")]
    late_capture: Option<LateCapture>,
    #[serde(default, deserialize_with = "present")]
    limits: Option<Vec<LimitRule>>,
    #[serde(default, deserialize_with = "present")]
    reason: Option<Text>,
}

impl EditRequest {
    /// Returns the offer with the changes applied.
    fn apply(&self, offer: &OfferTerms) -> Result<OfferTerms, Invalid> {
        let strategy = self.strategy.unwrap_or(offer.strategy());
        if self.overbook_percent.is_some() && strategy != Strategy::PayTime {
            return Err(Invalid::new("overbook_percent", "only pay_time has an overbook percentage"));
        }
        let hold = match self.hold_seconds {
            Some(seconds) => seconds.map(|seconds| Duration::from_secs(seconds.into())),
            None => offer.hold(),
        };
        let kept = if strategy == Strategy::PayTime { offer.overbook() } else { OverbookPercent::default() };
        let (price, units) = (self.price.unwrap_or(offer.price()), self.units.unwrap_or(offer.units()));
        let limits = self.limits.clone().unwrap_or_else(|| offer.limits().to_vec());
        Ok(OfferTerms::new(offer.sku(), price, units, strategy, hold)?
            .with_limits(limits)?
            .with_overbook(self.overbook_percent.unwrap_or(kept))
            .with_late_capture(self.late_capture.unwrap_or(offer.late_capture())))
    }
}

impl Operations {
    pub(super) async fn attach_offer(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        id: ActivityId,
        body: Body,
    ) -> Answer {
        method_of(head, "POST")?;
        let expected = self.may_edit(operator, head, id).await?;
        // `OfferTerms` has no reason and refuses unknown fields, so take the reason out first.
        let mut request: Map<String, Value> = body.with_max_bytes(ACTIVITY_BYTES).json(&head.headers).await?;
        let why = request.remove("reason").map(serde_json::from_value::<Text>).transpose();
        let why = why.map_err(|error| Problem::invalid_field("reason", error.to_string()))?;
        let offer: OfferTerms = serde_path_to_error::deserialize(Value::Object(request)).map_err(invalid)?;
        let by = by(operator, reason(why, "offer attached"))?;
        let (app, author) = (Arc::clone(&self.app), by.clone());
        let work = async move { app.operations.attach_offer(id, Some(expected), &offer, &author).await };
        self.change(work).await
    }

    pub(super) async fn offer(
        &self,
        operator: &OperationsToken,
        head: &Parts,
        id: ActivityId,
        sku: SkuId,
        body: Body,
    ) -> Answer {
        let method = method_of(head, "PATCH, DELETE")?;
        let expected = self.may_edit(operator, head, id).await?;
        let app = Arc::clone(&self.app);
        if method == Method::DELETE {
            let by = by(operator, reason(Why::read(head, body).await?.reason, "offer detached"))?;
            let author = by.clone();
            let work = async move { app.operations.detach_offer(id, sku, Some(expected), &author).await };
            return self.change(work).await;
        }
        let request: EditRequest = body.json(&head.headers).await?;
        let by = by(operator, reason(request.reason.clone(), "offer changed"))?;
        let author = by.clone();
        let work = async move {
            let edit = |offer: &OfferTerms| request.apply(offer);
            app.operations.edit_offer(id, sku, Some(expected), edit, &author).await
        };
        self.change(work).await
    }
}

fn invalid(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let (path, detail) = (error.path().to_string(), format!("The body is invalid: {}.", error.inner()));
    if path == "." || path.contains('?') {
        Problem::invalid(detail)
    } else {
        Problem::invalid_field(&path, detail)
    }
}
