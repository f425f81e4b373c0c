//! Signing in, and tickets.

use flashsale_core::{
    domain::{ActivityId, Name, SkuId, UserId},
    ledger::{Outcome, Selling},
    ticket::Claims,
};
use hyper::{StatusCode, http::request::Parts};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{Answer, Public, answers, headers, id};
use crate::{
    http::{Body, Problem, json, no_store},
    session::Caller,
    wire::Rfc3339,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    user_id: UserId,
    user_name: Name,
}

#[derive(Serialize)]
struct Session {
    token: String,
}

/// Clients that can solve challenges send what they have; no offer asks for one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketRequest {
    #[serde(rename = "challenge_id")]
    _challenge_id: Option<IgnoredAny>,
    #[serde(rename = "solution")]
    _solution: Option<IgnoredAny>,
}

#[derive(Serialize)]
struct ShownTicket {
    ticket: String,
    expires_at: Rfc3339,
}

impl Public {
    /// A session for whoever the caller says to be; only with the demo identity.
    pub(super) async fn sign_in(&self, head: &Parts, body: Body) -> Answer {
        let sessions = self.app.sessions.as_ref().ok_or_else(Problem::not_found)?;
        let SignIn { user_id, user_name } = body.json(&head.headers).await?;
        let caller = Caller { user: user_id, name: user_name };
        let (token, _) = sessions.issue(&caller, self.app.clock.now());
        Ok(no_store(json(StatusCode::OK, &Session { token })))
    }

    pub(super) async fn ticket(&self, head: &Parts, activity: &str, sku: &str, body: Body) -> Answer {
        let (activity, sku): (ActivityId, SkuId) = (id(activity)?, id(sku)?);
        let caller = self.caller(&head.headers)?;
        let device = headers::device(&head.headers)?;
        if !body.is_empty() {
            let _: TicketRequest = body.json(&head.headers).await?;
        }
        let is_offered = |sale: &flashsale_core::service::Sale| sale.terms().offer(sku).is_some();
        let on_shelf = self.app.shelf.load().activities.contains_key(&activity);
        let sale = self.app.sales.sale(activity).filter(|sale| on_shelf && is_offered(sale));
        let sale = sale.ok_or_else(Problem::not_found)?;

        let now = self.app.clock.now();
        let (window, ended) = match sale.common_view(now) {
            Some(view) => (view.window, view.selling == Selling::Ended),
            // The ledger decides again when the ticket is used.
            None => (sale.terms().window(), false),
        };
        if ended || now >= window.ends_at() {
            return Err(answers::declined(&Outcome::Ended, now));
        }
        let terms = &self.app.ticket_terms;
        let Some(expires_at) = terms.expiry(&window, now) else {
            return Err(answers::not_before(window.starts_at(), terms.opens_at(&window), now));
        };
        let claims = Claims { activity, sku, user: caller.user, user_name: caller.name, device };
        let issued = self.app.tickets.issue(claims, now, expires_at).map_err(|error| {
            tracing::error!(%error, "no randomness for a ticket");
            answers::unavailable("No ticket can be issued now; try again.")
        })?;
        let ticket = ShownTicket { ticket: issued.text, expires_at: issued.expires_at.into() };
        Ok(no_store(json(StatusCode::OK, &ticket)))
    }
}
