//! Maps outcomes and errors of the services to the problem codes of the HTTP contract.

use std::{borrow::Cow, time::Duration};

use flashsale_core::{
    admission::TicketError,
    catalogue::CatalogueError,
    domain::{Invalid, LimitRule, Order, Timestamp},
    identities::IdentitiesError,
    ledger::{Adjusted, Advanced, LedgerError, Outcome},
    service::{OperationError, ServiceError},
    snowflake::IdError,
};

use crate::{
    auth::{buyers::BuyerError, jwt::TokenError},
    http::{Code, Problem},
    rfc3339::Rfc3339,
    runtime::background::TaskLost,
};

/// The default `Retry-After`.
const SOON: Duration = Duration::from_secs(1);

/// Maps a declined reserve to its problem.
pub(super) fn declined(outcome: &Outcome, now: Timestamp) -> Problem {
    match outcome {
        Outcome::UnknownOffer => Problem::not_found(),
        Outcome::NotReady => not_ready(),
        Outcome::KeyReused => {
            Problem::new(Code::KeyReused, "Use a new Idempotency-Key for another offer or quantity.")
        }
        Outcome::TicketExpired => {
            Problem::new(Code::TicketExpired, "Request a new ticket; no order was placed with this one.")
        }
        Outcome::Paused => Problem::new(Code::Paused, "Try again once the activity's status is live."),
        Outcome::NotStarted { starts_at } => not_started(*starts_at, now),
        Outcome::Ended => Problem::new(Code::Ended, "Existing orders can still be paid before they expire."),
        Outcome::TicketUsed => {
            Problem::new(Code::TicketUsed, "Check your orders, or request a new ticket to order more.")
        }
        Outcome::LimitReached { rule, remaining } => {
            limit_reached(rule, *remaining, "Order at most the remaining quantity.")
        }
        Outcome::SoldOut { available } => sold_out((*available).into()),
        // Only a bug leads here.
        Outcome::IdTaken => id_taken(),
        Outcome::Reserved { .. } | Outcome::Replayed { .. } => {
            tracing::error!("a placed order was treated as declined");
            Problem::new(Code::Internal, "Check your orders before you repeat the request.")
        }
    }
}

/// Reports a per-device limit to a request that names no device.
pub(super) fn device_needed(rule: &LimitRule, remaining: u32) -> Problem {
    let detail = "This offer is limited per device: send a device id in the flashsale-device header, 1 to 255 visible ASCII characters.";
    limit_reached(rule, remaining, detail)
}

fn limit_reached(rule: &LimitRule, remaining: u32, detail: &'static str) -> Problem {
    Problem::new(Code::LimitReached, detail).with("rule", rule).with("remaining", remaining)
}

/// Reports that too few units are available.
pub(super) fn sold_out(available: u64) -> Problem {
    let detail = if available == 0 {
        "Units of unpaid orders become available again; watch the status."
    } else {
        "Order at most the available quantity."
    };
    Problem::new(Code::SoldOut, detail).with("available", available)
}

/// Reports that the sale has not started.
pub(super) fn not_started(starts_at: Timestamp, now: Timestamp) -> Problem {
    not_before(starts_at, starts_at, now)
}

/// Reports that a request came before `possible_at`; `Retry-After` counts up to that time.
pub(super) fn not_before(starts_at: Timestamp, possible_at: Timestamp, now: Timestamp) -> Problem {
    Problem::new(Code::NotStarted, "Try again after the time in Retry-After.")
        .with("starts_at", Rfc3339(starts_at))
        .retry_after(possible_at.since(now))
}

/// Returns the order if the transition was made, now or earlier; maps a refusal to its problem.
pub(super) fn advanced(outcome: Advanced) -> Result<Box<Order>, Problem> {
    match outcome {
        Advanced::Done(order) | Advanced::Replayed(order) | Advanced::Retaken(order) => Ok(order),
        Advanced::RefundDue(order, _) => Ok(order),
        Advanced::NotFound => Err(Problem::not_found()),
        Advanced::NotPersisted => {
            Err(Problem::new(Code::NotPersisted, "Wait until the order is no longer queued, then try again."))
        }
        Advanced::WrongState(status) => {
            Err(Problem::new(Code::WrongState, "Read the order to see its current status.")
                .with("order_status", status))
        }
        Advanced::SoldOut { available } => Err(sold_out(available.into())),
        Advanced::IdTaken => Err(id_taken()),
        Advanced::TooMuch { amount, units } => Err(Problem::invalid(format!(
            "At most an amount of {amount} and {units} units are left to refund."
        ))),
        Advanced::KeyReused => {
            Err(Problem::new(Code::KeyReused, "Use another Idempotency-Key for another refund."))
        }
        Advanced::Conflict => {
            Err(unavailable("The provider's reports contradict each other; try again later."))
        }
    }
}

/// Maps a refused adjustment to its problem.
pub(super) fn adjusted(outcome: Adjusted) -> Result<(), Problem> {
    match outcome {
        Adjusted::Done | Adjusted::Replayed => Ok(()),
        Adjusted::UnknownOffer => Err(Problem::not_found()),
        Adjusted::IdReused => Err(Problem::new(
            Code::KeyReused,
            "This adjustment_id was used for another offer or delta; use a new one.",
        )),
        Adjusted::Insufficient { available } => Err(Problem::new(
            Code::InsufficientAvailable,
            "Nothing was changed; remove at most the available units.",
        )
        .with("available", available)),
    }
}

/// Maps an error of a service to its problem.
pub(super) fn service(error: &ServiceError) -> Problem {
    match error {
        ServiceError::Busy { retry_after } => {
            Problem::new(Code::Busy, "Nothing was done; try again.").retry_after(*retry_after)
        }
        ServiceError::Ledger(error) => ledger(error),
        ServiceError::Id(error) => {
            tracing::warn!(%error, "could not generate an id");
            let wait = if let IdError::Ahead { wait, .. } = error { *wait } else { SOON };
            Problem::new(Code::Unavailable, "Nothing was done; try again.").retry_after(wait)
        }
        ServiceError::Provider(reason) => {
            tracing::warn!(%reason, "the payment provider did not respond");
            unavailable("The payment provider did not respond; try again.")
        }
        // Not logged: the circuit breaker logs once when it opens.
        ServiceError::ProviderUnavailable { retry_after } => {
            let detail = "The payment provider is unavailable; the order is unchanged. Try again after the time in Retry-After.";
            Problem::new(Code::Unavailable, detail).retry_after(*retry_after)
        }
        other => {
            tracing::error!(error = %other, "a service failed");
            unavailable("Try again with the same key.")
        }
    }
}

/// Maps an error of the ledger to its problem.
pub(super) fn ledger(error: &LedgerError) -> Problem {
    match error {
        LedgerError::Invalid(error) => invalid(error),
        LedgerError::NotOpen => not_ready(),
        LedgerError::Unknown(_) => {
            tracing::warn!(%error, "the outcome of a request is unknown");
            unavailable("The outcome is unknown; repeat the request with the same key.")
        }
        other => {
            tracing::warn!(error = %other, "the ledger could not handle a request");
            unavailable("Nothing was done; try again.")
        }
    }
}

/// Maps the reason why a token is rejected to its problem.
pub(super) fn token(error: &TokenError) -> Problem {
    match error {
        TokenError::NoKeys => unavailable("The keys of the identity provider are not here yet; try again."),
        error => Problem::unauthorized(error.to_string()),
    }
}

/// Maps the reason why a caller is not let in to its problem.
pub(super) fn buyer(error: &BuyerError) -> Problem {
    match error {
        BuyerError::Taken(_) => {
            tracing::error!(%error, "a user cannot sign in");
            Problem::unauthorized("This shop cannot tell your account from another one; ask it for help.")
        }
        BuyerError::Store(error) => identities(error),
    }
}

/// Maps an error of the directory of identities to its problem.
pub(super) fn identities(error: &IdentitiesError) -> Problem {
    tracing::error!(%error, "an identity could not be stored or read");
    unavailable("Nothing was done; try again.")
}

/// Maps an error of the catalogue to its problem.
pub(super) fn catalogue(error: &CatalogueError) -> Problem {
    match error {
        CatalogueError::NotFound(_) => Problem::not_found(),
        CatalogueError::Conflict { .. } => {
            Problem::new(Code::VersionConflict, "Read the current version, then try again.")
        }
        CatalogueError::Refused(refusals) => {
            let problems: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            let detail = "Nothing was changed; fix the listed problems.";
            let problem = match refusals.first() {
                Some(first) => Problem::invalid_field(first.field, detail),
                None => Problem::invalid(detail),
            };
            problem.with("problems", problems)
        }
        other => {
            tracing::error!(error = %other, "the catalogue failed");
            unavailable("The catalogue is unavailable; try again.")
        }
    }
}

/// Maps an error of an operation to its problem.
pub(super) fn operation(error: &OperationError) -> Problem {
    match error {
        OperationError::Catalogue(error) => catalogue(error),
        OperationError::Ledger(error) => ledger(error),
        OperationError::NotInForce(error) => {
            tracing::error!(%error, "an operator's change is recorded but not in effect yet");
            unavailable("The change is recorded but not in effect yet; repeat the request to apply it.")
        }
        OperationError::WrongState { status, selling } => {
            Problem::new(Code::WrongState, "Read the activity to see its current status.")
                .with("activity_status", status)
                .with("selling", selling)
        }
        OperationError::AlreadyRefunded => Problem::new(
            Code::WrongState,
            "The refund has gone through after all: send no money. The dead letter was removed.",
        ),
        OperationError::NotOver => {
            Problem::new(Code::WrongState, "End the activity first, or wait until its window has closed.")
        }
        OperationError::OwnWork => {
            Problem::new(Code::Forbidden, "An activity cannot be approved by its creator.")
        }
        OperationError::Invalid(error) => invalid(error),
        OperationError::Id(error) => service(&ServiceError::Id(error.clone())),
        OperationError::Service(error) => service(error),
        other => {
            tracing::error!(error = %other, "an operation failed");
            unavailable("Try again; if it keeps failing, check the server log.")
        }
    }
}

/// Reports an invalid field.
pub(super) fn invalid(error: &Invalid) -> Problem {
    Problem::invalid_field(error.field, error.reason.clone())
}

/// Reports an invalid ticket.
pub(super) fn ticket(error: TicketError) -> Problem {
    Problem::new(Code::TicketInvalid, error.to_string())
}

/// Reports that a challenge must be solved first.
pub(super) fn challenge_required(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Code::ChallengeRequired, detail)
}

/// Denies a ticket to this account.
pub(super) fn denied() -> Problem {
    Problem::new(Code::Denied, "No ticket can be issued to this account now; try again much later.")
}

/// Reports that too many solutions are being verified; this one was not checked.
pub(super) fn too_many_solutions() -> Problem {
    Problem::new(Code::Busy, "The solution was not checked; send it again.").retry_after(SOON)
}

/// Reports that a spawned task ended without a result.
pub(super) fn lost(error: TaskLost) -> Problem {
    tracing::error!(%error, "the task of a request was lost");
    unavailable("The outcome is unknown; repeat the request with the same key.")
}

/// Reports that this server has not loaded the activity, or not yet.
pub(super) fn not_ready() -> Problem {
    Problem::new(Code::NotReady, "The sale is being prepared on this server; try again.").retry_after(SOON)
}

/// Reports that the application is not there yet.
pub(super) fn starting() -> Problem {
    Problem::new(Code::NotReady, "The server is starting; try again.").retry_after(SOON)
}

/// Reports that only a restart of this process can help.
pub(super) fn failed() -> Problem {
    unavailable("This process cannot work any more; restart it.")
}

/// Reports that a dependency is unavailable.
pub(super) fn unavailable(detail: &'static str) -> Problem {
    Problem::new(Code::Unavailable, detail).retry_after(SOON)
}

fn id_taken() -> Problem {
    tracing::error!("duplicate id: two processes share a worker id");
    unavailable("Nothing was done; try again.")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flashsale_core::domain::{LimitRule, OrderStatus, Per, Subject};
    use serde_json::{Value, json};

    use super::*;

    /// Returns the status, code, additional members and Retry-After of a problem.
    async fn seen(problem: Problem) -> (u16, String, Value, Option<String>) {
        use http_body_util::BodyExt as _;
        let response = problem.into_response();
        let retry = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let mut document: serde_json::Map<String, Value> = serde_json::from_slice(&bytes).unwrap();
        let status = document.remove("status").unwrap().as_u64().unwrap();
        let code = document.remove("code").unwrap().as_str().unwrap().to_owned();
        for member in ["type", "title", "detail"] {
            assert!(document.remove(member).is_some_and(|text| text.is_string()));
        }
        (status.try_into().unwrap(), code, Value::Object(document), retry)
    }

    #[tokio::test]
    async fn every_declined_outcome_has_its_code() {
        let now = Timestamp::from_millis(10_000);
        let starts_at = Timestamp::from_millis(12_500);
        let rule = LimitRule::new(Subject::User, Per::Offer, 2).unwrap();
        let table = [
            (Outcome::UnknownOffer, 404, "not_found", json!({}), None),
            (Outcome::NotReady, 503, "not_ready", json!({}), Some("1")),
            (Outcome::KeyReused, 422, "key_reused", json!({}), None),
            (Outcome::TicketExpired, 403, "ticket_expired", json!({}), None),
            (Outcome::Paused, 409, "paused", json!({}), None),
            (
                Outcome::NotStarted { starts_at },
                409,
                "not_started",
                json!({ "starts_at": "1970-01-01T00:00:12.500Z" }),
                Some("3"),
            ),
            (Outcome::Ended, 409, "ended", json!({}), None),
            (Outcome::TicketUsed, 409, "ticket_used", json!({}), None),
            (Outcome::IdTaken, 503, "unavailable", json!({}), Some("1")),
            (
                Outcome::LimitReached { rule, remaining: 1 },
                409,
                "limit_reached",
                json!({ "rule": { "subject": "user", "per": "offer", "max": 2 }, "remaining": 1 }),
                None,
            ),
            (Outcome::SoldOut { available: 3 }, 409, "sold_out", json!({ "available": 3 }), None),
        ];
        for (outcome, status, code, members, retry) in table {
            let expected = (status, code.to_owned(), members, retry.map(ToOwned::to_owned));
            assert_eq!(seen(declined(&outcome, now)).await, expected, "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn every_refused_step_has_its_code() {
        let table = [
            (Advanced::NotFound, 404, "not_found", json!({})),
            (Advanced::NotPersisted, 409, "not_persisted", json!({})),
            (
                Advanced::WrongState(OrderStatus::Expired),
                409,
                "wrong_state",
                json!({ "order_status": "expired" }),
            ),
            (Advanced::SoldOut { available: 0 }, 409, "sold_out", json!({ "available": 0 })),
            (Advanced::IdTaken, 503, "unavailable", json!({})),
        ];
        for (outcome, status, code, members) in table {
            let (seen_status, seen_code, seen_members, _) = seen(advanced(outcome).unwrap_err()).await;
            assert_eq!((seen_status, seen_code.as_str(), seen_members), (status, code, members));
        }
        let table = [
            (Adjusted::UnknownOffer, 404, "not_found", json!({})),
            (Adjusted::IdReused, 422, "key_reused", json!({})),
            (
                Adjusted::Insufficient { available: 4 },
                409,
                "insufficient_available",
                json!({ "available": 4 }),
            ),
        ];
        for (outcome, status, code, members) in table {
            let (seen_status, seen_code, seen_members, _) = seen(adjusted(outcome).unwrap_err()).await;
            assert_eq!((seen_status, seen_code.as_str(), seen_members), (status, code, members));
        }
        assert!(adjusted(Adjusted::Done).is_ok() && adjusted(Adjusted::Replayed).is_ok());
    }

    #[tokio::test]
    async fn failures_say_when_to_retry_and_hide_their_causes() {
        let cause = || Arc::from("secret cause");
        let busy = ServiceError::Busy { retry_after: Duration::from_millis(20) };
        let alone = ServiceError::ProviderUnavailable { retry_after: Duration::from_millis(9_100) };
        let table: [(ServiceError, u16, &str, Option<&str>); 8] = [
            (busy, 503, "busy", Some("1")),
            (LedgerError::Unknown(cause()).into(), 503, "unavailable", Some("1")),
            (LedgerError::Unavailable(cause()).into(), 503, "unavailable", Some("1")),
            (LedgerError::Stopped(cause()).into(), 503, "unavailable", Some("1")),
            (LedgerError::NotOpen.into(), 503, "not_ready", Some("1")),
            (LedgerError::Invalid(Invalid::new("quantity", "too many")).into(), 400, "invalid_request", None),
            (ServiceError::Provider("secret cause".to_owned()), 503, "unavailable", Some("1")),
            (alone, 503, "unavailable", Some("10")),
        ];
        for (error, status, code, retry) in table {
            let problem = service(&error);
            assert!(!format!("{problem:?}").contains("secret cause"), "{error:?}");
            let (seen_status, seen_code, _, seen_retry) = seen(problem).await;
            assert_eq!((seen_status, seen_code.as_str(), seen_retry.as_deref()), (status, code, retry));
        }
    }
}
