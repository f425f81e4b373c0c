//! Payments: opening them, callbacks of providers, and the sandbox.

use std::time::Duration;

use flashsale_core::{
    domain::{Capture, Currency, OrderId, PaymentId, Provider, text::Bounded},
    ledger::{Advanced, Reference},
    service::CaptureResult,
};
use hyper::{StatusCode, http::request::Parts};
use serde::{Deserialize, Serialize};

use super::orders::nothing;
use crate::{
    auth::signature,
    http::{Body, Code, Problem, Query, json, no_store},
    integrations::sandbox::{Report, Sandbox},
    rfc3339::Rfc3339,
    routes::{Answer, Public, errors, id},
    storefront::pages::{Language, Site},
};

/// When a provider may come again with a report that needs another version of this server.
const LATER: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct ShownPayment {
    payment_id: PaymentId,
    provider: Provider,
    /// A path of this server unless the provider gives an address of its own or `http.public_url` is configured.
    pay_url: String,
    deadline: Rfc3339,
}

/// What a provider reports. Fields that we do not know are the provider's own affair.
#[derive(Deserialize)]
struct Callback {
    event_id: Bounded<128>,
    payment_id: PaymentId,
    kind: Kind,
    amount: u64,
    currency: Currency,
    transaction_id: Bounded<128>,
}

impl Callback {
    /// Reads a report. The error says where it fails and shows nothing of what stands there.
    fn read(body: &[u8]) -> Result<Self, String> {
        let mut reader = serde_json::Deserializer::from_slice(body);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let (path, cause) = (error.path().to_string(), error.into_inner());
            format!("at {path}, line {}, column {}", cause.line(), cause.column())
        })
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Captured,
    Failed,
}

#[derive(Serialize)]
struct Received {
    received: bool,
}

impl Public {
    pub(super) async fn open_payment(&self, head: &Parts, order: &str, body: Body) -> Answer {
        let user = self.caller(&head.headers)?.user;
        let id: OrderId = id(order)?;
        nothing(head, body).await?;
        let Some(provider) = self.app.provider.clone() else {
            return Err(errors::unavailable("No payment provider is configured on this server."));
        };
        let payments = self.app.payments.clone();
        let work = self.app.spawner.run(async move { payments.open(user, id, &provider).await });
        let opened = match work.await.map_err(errors::lost)?.map_err(|error| errors::service(&error))? {
            Ok(opened) => opened,
            Err(outcome) => return Err(not_opened(outcome)),
        };
        let payment = ShownPayment {
            payment_id: opened.payment.id,
            provider: opened.payment.provider,
            pay_url: self.absolute(opened.pay_url),
            deadline: opened.payment.deadline.into(),
        };
        Ok(no_store(json(StatusCode::CREATED, &payment)))
    }

    fn absolute(&self, url: String) -> String {
        match &self.app.public_url {
            Some(base) if url.starts_with('/') => format!("{base}{url}"),
            _ => url,
        }
    }

    /// A provider's report. 200 says that it is kept for good; everything else lets the provider come again.
    pub(super) async fn callback(&self, head: &Parts, provider: &str, body: Body) -> Answer {
        let provider: Provider = id(provider)?;
        if !self.app.callbacks.contains_key(&provider) {
            return Err(Problem::not_found());
        }
        let header = head.headers.get(signature::HEADER).and_then(|value| value.to_str().ok());
        let header = header.unwrap_or_default().to_owned();
        let bytes = body.bytes().await?;
        self.report(provider, &header, &bytes).await
    }

    /// Books a signed report.
    async fn report(&self, provider: Provider, signature: &str, body: &[u8]) -> Answer {
        let ring = self.app.callbacks.get(&provider).ok_or_else(Problem::not_found)?;
        signature::verify(ring, signature, body, self.app.clock.now())
            .map_err(|error| Problem::unauthorized(error.to_string()))?;
        let callback = Callback::read(body).map_err(|error| {
            tracing::error!(%provider, %error, "a signed report is not understood: nothing of it is booked");
            Problem::new(
                Code::Unavailable,
                "The report is authentic and not understood; send it again later.",
            )
            .retry_after(LATER)
        })?;
        let payments = self.app.payments.clone();
        let work = self.app.spawner.run(async move {
            match callback.kind {
                Kind::Captured => {
                    let capture = Capture {
                        provider,
                        event: callback.event_id,
                        transaction: callback.transaction_id,
                        payment: callback.payment_id,
                        amount: callback.amount,
                        currency: callback.currency,
                    };
                    payments.captured(capture).await
                }
                // Nothing is lost with the failure of a payment that nobody knows.
                Kind::Failed => match payments.failed(&provider, callback.payment_id).await? {
                    Advanced::NotFound => {
                        tracing::warn!(payment = %callback.payment_id, "an unknown payment failed");
                        Ok(CaptureResult::Unmatched)
                    }
                    outcome => Ok(CaptureResult::Applied(outcome)),
                },
            }
        });
        let result = work.await.map_err(errors::lost)?.map_err(|error| errors::service(&error))?;
        match result {
            CaptureResult::Applied(outcome) if !is_kept(&outcome) => {
                tracing::warn!(?outcome, "a report could not be booked; the provider has to come again");
                Err(errors::not_ready())
            }
            CaptureResult::Applied(_) | CaptureResult::Unmatched => {
                Ok(no_store(json(StatusCode::OK, &Received { received: true })))
            }
        }
    }

    /// Lets the sandbox report about a payment: signed, and taken the way of every report.
    pub(super) async fn sandbox(&self, payment: &str, report: &str) -> Answer {
        let provider = self.app.provider.clone().filter(|provider| *provider == Sandbox::provider());
        let provider = provider.ok_or_else(Problem::not_found)?;
        let report = match report {
            "capture" => Report::Captured,
            "fail" => Report::Failed,
            _ => return Err(Problem::not_found()),
        };
        let payment: PaymentId = id(payment)?;
        let ledger = self.app.sales.ledger();
        let failed = |error| errors::ledger(&error);
        let key = ledger.locate(Reference::Payment(payment)).await.map_err(failed)?;
        let order = match key {
            Some(key) => ledger.order(key).await.map_err(failed)?,
            None => None,
        };
        let order = order.ok_or_else(Problem::not_found)?;
        let body = Sandbox::callback(payment, &order, report);
        let ring = self.app.callbacks.get(&provider).ok_or_else(Problem::not_found)?;
        let signature = signature::sign(ring.signing(), self.app.clock.now(), &body);
        self.report(provider, &signature, &body).await
    }

    pub(super) fn pay_page(&self, head: &Parts, payment: &str) -> Answer {
        if self.app.provider != Some(Sandbox::provider()) {
            return Err(Problem::not_found());
        }
        let payment = id(payment)?;
        let query = Query::parse(head.uri.query(), &["lang", "back"])?;
        let language = query.value("lang").and_then(Language::of_code);
        let language = language.unwrap_or_else(|| Language::of_request(&head.headers));
        let own = format!("/{language}/orders/");
        let back = query.value("back").filter(|back| self.is_shop(back)).unwrap_or(&own);
        let page = Site::own(self.app.sessions.is_some()).pay(language, payment, back).map_err(|error| {
            tracing::error!(%error, "the pay page cannot be written");
            errors::unavailable("The pay page cannot be shown now; try again.")
        })?;
        Ok(page.respond())
    }

    /// Whether an address belongs to pages that may call: nobody is sent anywhere else.
    fn is_shop(&self, address: &str) -> bool {
        let rest = self.app.origins.iter().find_map(|origin| address.strip_prefix(origin.as_str()));
        rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Whether the provider need not come again.
fn is_kept(outcome: &Advanced) -> bool {
    match outcome {
        Advanced::Done(_)
        | Advanced::Replayed(_)
        | Advanced::RefundDue(..)
        | Advanced::Retaken(_)
        | Advanced::WrongState(_) => true,
        Advanced::NotFound | Advanced::NotPersisted | Advanced::IdTaken | Advanced::SoldOut { .. } => false,
    }
}

/// Why a payment was not opened. The order as it stands shows that it takes none (any more).
fn not_opened(outcome: Advanced) -> Problem {
    match errors::advanced(outcome) {
        Ok(order) => {
            errors::advanced(Advanced::WrongState(order.status)).err().unwrap_or_else(Problem::not_found)
        }
        Err(problem) => problem,
    }
}
