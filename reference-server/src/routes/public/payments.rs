//! Payments: opening them, provider callbacks, and the sandbox.

use std::sync::Arc;

use flashsale_core::{
    domain::{OrderRef, Provider},
    ledger::{Advanced, LedgerCalls as _, PaymentRef},
};
use hyper::{StatusCode, http::request::Parts};
use serde::Serialize;

use super::orders::nothing;
use crate::{
    auth::signature,
    http::{Body, Problem, Query, json, no_store},
    integrations::{
        callbacks::SignedReport,
        sandbox::{Report, Sandbox},
    },
    rfc3339::Rfc3339,
    routes::{Answer, Public, errors, id},
    storefront::pages::{Language, Site},
};

#[derive(Serialize)]
struct ShownPayment {
    payment_id: PaymentRef,
    provider: Provider,
    /// A path on this server, unless the provider has its own URL or `http.public_url` is set.
    pay_url: String,
    deadline: Rfc3339,
}

#[derive(Serialize)]
struct Received {
    received: bool,
}

impl Public {
    pub(super) async fn open_payment(&self, head: &Parts, order: &str, body: Body) -> Answer {
        let user = self.caller(&head.headers).await?.user;
        let order = id::<OrderRef>(order)?.key(user);
        nothing(head, body).await?;
        let Some(provider) = self.app.provider.clone() else {
            return Err(errors::unavailable("No payment provider is configured on this server."));
        };
        let payments = self.app.payments.clone();
        let work = self.app.spawner.run(async move { payments.open(order, &provider).await });
        let opened = match work.await.map_err(errors::lost)?.map_err(|error| errors::service(&error))? {
            Ok(opened) => opened,
            Err(outcome) => return Err(not_opened(outcome)),
        };
        let payment = ShownPayment {
            payment_id: opened.reference,
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

    /// Handles a callback. After any answer but 200 (stored durably) the provider sends it again.
    pub(super) async fn callback(&self, head: &Parts, provider: &str, body: Body) -> Answer {
        let provider: Provider = id(provider)?;
        if !self.app.callback_keys.contains_key(&provider) {
            return Err(Problem::not_found());
        }
        let header = head.headers.get(signature::HEADER).and_then(|value| value.to_str().ok());
        let header = header.unwrap_or_default().to_owned();
        let bytes = body.bytes(&head.headers).await?;
        self.report(provider, &header, &bytes).await
    }

    /// Verifies and books a signed report.
    async fn report(&self, provider: Provider, signature: &str, body: &[u8]) -> Answer {
        let ring = self.app.callback_keys.get(&provider).ok_or_else(Problem::not_found)?;
        signature::verify(ring, signature, body, self.app.clock.now())
            .map_err(|error| Problem::unauthorized(error.to_string()))?;
        let (callbacks, report) = (Arc::clone(&self.app.callbacks), SignedReport::new(provider, body));
        let work = self.app.spawner.run(async move { callbacks.receive(report).await });
        work.await.map_err(errors::lost)?.map_err(|error| {
            tracing::error!(%error, "a payment callback could not be kept; the provider must send it again");
            errors::unavailable("The callback could not be kept; send it again.")
        })?;
        Ok(no_store(json(StatusCode::OK, &Received { received: true })))
    }

    /// Makes the sandbox report on a payment. The report is signed and booked like any other.
    pub(super) async fn sandbox(&self, payment: &str, report: &str) -> Answer {
        let provider = self.app.provider.clone().filter(|provider| *provider == Sandbox::provider());
        let provider = provider.ok_or_else(Problem::not_found)?;
        let report = match report {
            "capture" => Report::Captured,
            "fail" => Report::Failed,
            _ => return Err(Problem::not_found()),
        };
        let payment: PaymentRef = id(payment)?;
        let ledger = self.app.sales.ledger();
        let failed = |error| errors::ledger(&error);
        let key = ledger.order_of_payment(payment).await.map_err(failed)?;
        let order = match key {
            Some(key) => ledger.order(key).await.map_err(failed)?,
            None => None,
        };
        let order = order.ok_or_else(Problem::not_found)?;
        let body = Sandbox::callback(payment, &order, report);
        let ring = self.app.callback_keys.get(&provider).ok_or_else(Problem::not_found)?;
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
            tracing::error!(%error, "the payment page could not be rendered");
            errors::unavailable("The payment page cannot be shown now; try again.")
        })?;
        Ok(page.respond())
    }

    /// Whether an address belongs to an allowed origin. This prevents open redirects.
    fn is_shop(&self, address: &str) -> bool {
        let rest = self.app.origins.iter().find_map(|origin| address.strip_prefix(origin.as_str()));
        rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Explains why a payment was not opened. A returned order is in the wrong state for one.
fn not_opened(outcome: Advanced) -> Problem {
    match errors::advanced(outcome) {
        Ok(order) => {
            errors::advanced(Advanced::WrongState(order.status)).err().unwrap_or_else(Problem::not_found)
        }
        Err(problem) => problem,
    }
}
