//! Sign-in, challenges and tickets.
//!
//! # How a client gets a ticket
//!
//! `POST …/challenge` answers `{challenge_id, kind, expires_at}` plus members by `kind`:
//! - `none`: no further members.
//! - `proof_of_work`: `proof_of_work: {algorithm: "SCRYPT", cost, memory_cost, parallelism,
//!   key_length, key_prefix, nonce, salt}`. Find the smallest `counter` from 0 for which scrypt of
//!   `nonce` ‖ counter (4 bytes, big-endian) with `salt`, N = `cost`, r = `memory_cost` and p =
//!   `parallelism` starts with `key_prefix`. All bytes are in lower-case hexadecimal. The solution
//!   is `{counter, derived_key}`. ALTCHA's protocol, version 2; `/assets/solver.js` implements it.
//! - `quiz`: `quiz: {image, length, alphabet}`, the image as a `data:` URL; the solution is
//!   `{text}`. A harder `proof_of_work` comes with it, for people who cannot see the image.
//!
//! Challenges are issued before the sale starts, so that clients can solve them in advance. `POST
//! …/ticket` takes `{challenge_id, solution}` and answers `challenge_required` if one is required
//! and the solution is missing or not accepted. Each challenge can be tried once.

use flashsale_core::{
    admission::{Claims, Rule, Step, TicketTerms, Verdict},
    domain::{ActivityId, Identity, Name, Selling, SkuId, SubjectId, Timestamp},
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
    user_id: Identity,
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

/// A valid request for a challenge or a ticket of an existing offer.
struct Applicant {
    activity: ActivityId,
    sku: SkuId,
    caller: Caller,
    device: Option<SubjectId>,
    address: SubjectId,
    now: Timestamp,
    /// When the challenge or ticket expires.
    expires_at: Timestamp,
}

impl Public {
    /// Issues a session without any check of the identity. Only for the demo identity.
    pub(super) async fn sign_in(&self, head: &Parts, body: Body) -> Answer {
        let sessions = self.app.sessions.as_ref().ok_or_else(Problem::not_found)?;
        let SignIn { user_id, user_name } = body.json(&head.headers).await?;
        let (token, _) = sessions.issue(&user_id, &user_name, self.app.clock.now());
        Ok(no_store(json(StatusCode::OK, &Session { token })))
    }

    /// Issues the challenge that must be solved to get a ticket.
    pub(super) async fn challenge(&self, head: &Parts, activity: &str, sku: &str, body: Body) -> Answer {
        let applicant = self.applicant(head, activity, sku, &body, &self.app.challenge_terms).await?;
        nothing(head, body).await?;
        let step = self.step(&applicant).await?;
        let Applicant { activity, sku, ref caller, expires_at, .. } = applicant;
        let issued = self.app.challenges.issue(step, activity, sku, caller.user, expires_at);
        let challenge = issued.map_err(|error| {
            tracing::error!(%error, "could not create a challenge");
            errors::unavailable("No challenge can be created now; try again.")
        })?;
        Ok(no_store(json(StatusCode::OK, &challenge)))
    }

    pub(super) async fn ticket(&self, head: &Parts, activity: &str, sku: &str, body: Body) -> Answer {
        let applicant = self.applicant(head, activity, sku, &body, &self.app.ticket_terms).await?;
        let TicketRequest { challenge_id, solution } =
            if body.is_empty() { TicketRequest::default() } else { body.json(&head.headers).await? };
        let step = self.step(&applicant).await?;
        if step > Step::None {
            let (Some(challenge), Some(solution)) = (challenge_id, solution) else {
                return Err(errors::challenge_required(
                    "Request a challenge, then send its id and solution.",
                ));
            };
            self.solve(&applicant, step, &challenge, solution).await?;
        }
        let Applicant { activity, sku, caller, device, now, expires_at, .. } = applicant;
        // Whoever has a ticket may order, so operators can read whose an order is.
        self.app.buyers.remember(&caller).await.map_err(|error| errors::buyer(&error))?;
        let claims = Claims { activity, sku, user: caller.user, user_name: caller.name, device };
        let issued = self.app.tickets.issue(claims, now, expires_at).map_err(|error| {
            tracing::error!(%error, "could not issue a ticket");
            errors::unavailable("No ticket can be issued now; try again.")
        })?;
        let ticket = ShownTicket { ticket: issued.text, expires_at: issued.expires_at.into() };
        Ok(no_store(json(StatusCode::OK, &ticket)))
    }

    /// Checks that the caller is known, the offer exists, and the time is right.
    async fn applicant(
        &self,
        head: &Parts,
        activity: &str,
        sku: &str,
        body: &Body,
        terms: &TicketTerms,
    ) -> Result<Applicant, Problem> {
        let (activity, sku): (ActivityId, SkuId) = (id(activity)?, id(sku)?);
        let caller = self.caller(&head.headers).await?;
        let device = headers::device(&head.headers)?;
        let address = self.address(head, body);
        let is_offered = |sale: &flashsale_core::service::Sale| sale.terms().offer(sku).is_some();
        let is_published = self.app.storefront.published().activities.contains_key(&activity);
        let sale = self.app.sales.sale(activity).filter(|sale| is_published && is_offered(sale));
        let sale = sale.ok_or_else(Problem::not_found)?;

        let now = self.app.clock.now();
        let (window, ended) = match sale.common_view(now) {
            Some(view) => (view.terms.window(), view.selling == Selling::Ended),
            // The ledger decides again when the ticket is used.
            None => (sale.terms().window(), false),
        };
        if ended || now >= window.ends_at() {
            return Err(errors::declined(&Outcome::Ended, now));
        }
        let expires_at = terms
            .expiry(&window, now)
            .ok_or_else(|| errors::not_before(window.starts_at(), terms.opens_at(&window), now))?;
        Ok(Applicant { activity, sku, caller, device, address, now, expires_at })
    }

    /// Asks the guards which challenge is required.
    async fn step(&self, applicant: &Applicant) -> Result<Step, Problem> {
        let Applicant { caller, address, device, now, .. } = applicant;
        let asked = self.app.guards.ask(caller.user, caller.account, *address, *device, *now).await;
        match asked.map_err(|limited| too_often(&limited))? {
            Step::Deny => Err(errors::denied()),
            step => Ok(step),
        }
    }

    async fn solve(
        &self,
        applicant: &Applicant,
        step: Step,
        challenge: &str,
        solution: Solution,
    ) -> Result<(), Problem> {
        let Applicant { activity, sku, ref caller, now, .. } = *applicant;
        let (guards, user) = (&self.app.guards, caller.user);
        match self.app.challenges.solved(challenge, solution, step, (activity, sku), user, now).await {
            Ok(()) => {
                guards.count(Rule::Challenge, Verdict::Passed);
                Ok(())
            }
            Err(Unsolved::Busy) => Err(errors::too_many_solutions()),
            Err(error) => {
                // Only a wrong solution is suspicious; the other errors happen to people who just wait.
                match error {
                    Unsolved::Wrong => guards.failed(user, now),
                    _ => guards.count(Rule::Challenge, Verdict::Denied),
                }
                Err(errors::challenge_required(error.to_string()))
            }
        }
    }
}
