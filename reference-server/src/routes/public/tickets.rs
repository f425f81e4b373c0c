//! Signing in, challenges, and tickets.
//!
//! # What a client has to do for a ticket
//!
//! `POST …/challenge` is answered with `{challenge_id, kind, expires_at}` and, by `kind`:
//! - `none`: nothing more.
//! - `proof_of_work`: `proof_of_work: {algorithm: "SCRYPT", cost, memory_cost, parallelism, key_length, key_prefix, nonce, salt}`.
//!   Find the smallest `counter` from 0 on for which scrypt of (`nonce` followed by the counter as four bytes, big-endian),
//!   with `salt`, N = `cost`, r = `memory_cost` and p = `parallelism`, begins with the hexadecimal digits `key_prefix`; `nonce` and
//!   `salt` are hexadecimal. The solution is `{counter, derived_key}`, the key as hexadecimal digits in lower case. It is what
//!   ALTCHA's protocol (version 2) computes; `/assets/solver.js` does it in a browser.
//! - `quiz`: `quiz: {image, length, alphabet}` with a picture as a `data:` URL; the solution is `{text}`. Beside it stands a harder
//!   `proof_of_work`, whose solution is accepted as well: for people who cannot see the picture.
//!
//! Challenges are issued some time before the start, so that they are solved when it comes. `POST …/ticket` takes
//! `{challenge_id, solution}`; `challenge_required` says that one is asked for and none, or not this one, counts. Each
//! challenge can be tried once.

use flashsale_core::{
    admission::{Account, Claims, Rule, Step, TicketTerms, Verdict},
    domain::{ActivityId, Name, Selling, SkuId, SubjectId, Timestamp, UserId},
    ledger::Outcome,
};
use hyper::{StatusCode, http::request::Parts};
use serde::{Deserialize, Serialize};

use super::orders::{nothing, too_often};
use crate::{
    auth::caller::Caller,
    challenge::{Solution, Unsolved},
    http::{Body, Problem, json, no_store},
    rfc3339::Rfc3339,
    routes::{Answer, Public, errors, headers, id},
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

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketRequest {
    challenge_id: Option<String>,
    solution: Option<Solution>,
}

#[derive(Serialize)]
struct ShownTicket {
    ticket: String,
    expires_at: Rfc3339,
}

/// Somebody who wants a ticket for an offer that there is.
struct Asking {
    activity: ActivityId,
    sku: SkuId,
    caller: Caller,
    device: Option<SubjectId>,
    address: SubjectId,
    now: Timestamp,
    /// When what is issued now expires.
    expires_at: Timestamp,
}

impl Public {
    /// A session for whoever the caller says to be; only with the demo identity.
    pub(super) async fn sign_in(&self, head: &Parts, body: Body) -> Answer {
        let sessions = self.app.sessions.as_ref().ok_or_else(Problem::not_found)?;
        let SignIn { user_id, user_name } = body.json(&head.headers).await?;
        let caller = Caller { user: user_id, name: user_name, account: Account::default() };
        let (token, _) = sessions.issue(&caller, self.app.clock.now());
        Ok(no_store(json(StatusCode::OK, &Session { token })))
    }

    /// What has to be solved before a ticket is issued.
    pub(super) async fn challenge(&self, head: &Parts, activity: &str, sku: &str, body: Body) -> Answer {
        let asking = self.asking(head, activity, sku, &body, &self.app.challenge_terms)?;
        nothing(head, body).await?;
        let step = self.step(&asking).await?;
        let Asking { activity, sku, ref caller, expires_at, .. } = asking;
        let issued = self.app.challenges.issue(step, activity, sku, caller.user, expires_at);
        let challenge = issued.map_err(|error| {
            tracing::error!(%error, "a challenge could not be made");
            errors::unavailable("No challenge can be made now; try again.")
        })?;
        Ok(no_store(json(StatusCode::OK, &challenge)))
    }

    pub(super) async fn ticket(&self, head: &Parts, activity: &str, sku: &str, body: Body) -> Answer {
        let asking = self.asking(head, activity, sku, &body, &self.app.ticket_terms)?;
        let TicketRequest { challenge_id, solution } =
            if body.is_empty() { TicketRequest::default() } else { body.json(&head.headers).await? };
        let step = self.step(&asking).await?;
        if step > Step::None {
            let (Some(challenge), Some(solution)) = (challenge_id, solution) else {
                return Err(errors::challenge_required(
                    "Ask for a challenge, and send it back with its solution.",
                ));
            };
            self.solve(&asking, step, &challenge, solution).await?;
        }
        let Asking { activity, sku, caller, device, now, expires_at, .. } = asking;
        let claims = Claims { activity, sku, user: caller.user, user_name: caller.name, device };
        let issued = self.app.tickets.issue(claims, now, expires_at).map_err(|error| {
            tracing::error!(%error, "no randomness for a ticket");
            errors::unavailable("No ticket can be issued now; try again.")
        })?;
        let ticket = ShownTicket { ticket: issued.text, expires_at: issued.expires_at.into() };
        Ok(no_store(json(StatusCode::OK, &ticket)))
    }

    /// Who asks for what, if it is offered, and not too early or too late.
    fn asking(
        &self,
        head: &Parts,
        activity: &str,
        sku: &str,
        body: &Body,
        terms: &TicketTerms,
    ) -> Result<Asking, Problem> {
        let (activity, sku): (ActivityId, SkuId) = (id(activity)?, id(sku)?);
        let caller = self.caller(&head.headers)?;
        let device = headers::device(&head.headers)?;
        let address = self.address(head, body);
        let is_offered = |sale: &flashsale_core::service::Sale| sale.terms().offer(sku).is_some();
        let on_shelf = self.app.storefront.published().activities.contains_key(&activity);
        let sale = self.app.sales.sale(activity).filter(|sale| on_shelf && is_offered(sale));
        let sale = sale.ok_or_else(Problem::not_found)?;

        let now = self.app.clock.now();
        let (window, ended) = match sale.common_view(now) {
            Some(view) => (view.window, view.selling == Selling::Ended),
            // The ledger decides again when the ticket is used.
            None => (sale.terms().window(), false),
        };
        if ended || now >= window.ends_at() {
            return Err(errors::declined(&Outcome::Ended, now));
        }
        let expires_at = terms
            .expiry(&window, now)
            .ok_or_else(|| errors::not_before(window.starts_at(), terms.opens_at(&window), now))?;
        Ok(Asking { activity, sku, caller, device, address, now, expires_at })
    }

    /// What the guards say.
    async fn step(&self, asking: &Asking) -> Result<Step, Problem> {
        let Asking { caller, address, device, now, .. } = asking;
        let asked = self.app.guards.ask(caller.user, caller.account, *address, *device, *now).await;
        match asked.map_err(|limited| too_often(&limited))? {
            Step::Deny => Err(errors::denied()),
            step => Ok(step),
        }
    }

    async fn solve(
        &self,
        asking: &Asking,
        step: Step,
        challenge: &str,
        solution: Solution,
    ) -> Result<(), Problem> {
        let Asking { activity, sku, ref caller, now, .. } = *asking;
        let (guards, user) = (&self.app.guards, caller.user);
        match self.app.challenges.solved(challenge, solution, step, (activity, sku), user, now).await {
            Ok(()) => {
                guards.count(Rule::Challenge, Verdict::Passed);
                Ok(())
            }
            Err(Unsolved::Busy) => Err(errors::too_many_solutions()),
            Err(error) => {
                // Only a wrong solution says something about who sends it; the others happen to people who wait.
                match error {
                    Unsolved::Wrong => guards.failed(user, now),
                    _ => guards.count(Rule::Challenge, Verdict::Denied),
                }
                Err(errors::challenge_required(error.to_string()))
            }
        }
    }
}
