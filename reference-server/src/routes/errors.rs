//! What the services say, in the codes of the HTTP contract: the one place that maps them.

use std::{borrow::Cow, time::Duration};

use flashsale_core::{
    admission::TicketError,
    catalogue::CatalogueError,
    domain::{Invalid, LimitRule, Order, Timestamp},
    ledger::{Adjusted, Advanced, LedgerError, Outcome},
    service::{OperationError, ServiceError},
    snowflake::IdError,
};

use crate::{
    http::{Code, Problem},
    rfc3339::Rfc3339,
    runtime::background::TaskLost,
};

/// When a retry is worth while if nobody knows better.
const SOON: Duration = Duration::from_secs(1);

/// A declined request for units.
pub(super) fn declined(outcome: &Outcome, now: Timestamp) -> Problem {
    match outcome {
        Outcome::UnknownOffer => Problem::not_found(),
        Outcome::NotReady => not_ready(),
        Outcome::KeyReused => {
            Problem::new(Code::KeyReused, "Use a new Idempotency-Key for another offer or quantity.")
        }
        Outcome::TicketExpired => Problem::new(
            Code::TicketExpired,
            "Ask for a new ticket; this one has made no order that could be repeated.",
        ),
        Outcome::Paused => Problem::new(Code::Paused, "Try again when the status says that it is live."),
        Outcome::NotStarted { starts_at } => not_started(*starts_at, now),
        Outcome::Ended => {
            Problem::new(Code::Ended, "Orders that were placed can still be paid in their time.")
        }
        Outcome::TicketUsed => {
            Problem::new(Code::TicketUsed, "See your orders, or ask for a new ticket to order more.")
        }
        Outcome::LimitReached { rule, remaining } => {
            limit_reached(rule, *remaining, "Ask for no more than what remains.")
        }
        Outcome::SoldOut { available } => sold_out((*available).into()),
        // A program that answers one of these has a fault; nothing was sold by it.
        Outcome::IdTaken => id_taken(),
        Outcome::Reserved { .. } | Outcome::Replayed(_) => {
            tracing::error!("an order was taken for a declined request");
            Problem::new(Code::Internal, "Read your orders before you repeat the request.")
        }
    }
}

/// A limit that counts devices, of a request that names none.
pub(super) fn device_needed(rule: &LimitRule, remaining: u32) -> Problem {
    let detail = "This offer counts devices: send one in the header flashsale-device, 1 to 255 visible ASCII characters.";
    limit_reached(rule, remaining, detail)
}

fn limit_reached(rule: &LimitRule, remaining: u32, detail: &'static str) -> Problem {
    Problem::new(Code::LimitReached, detail).with("rule", rule).with("remaining", remaining)
}

/// Sold out, with what is left.
pub(super) fn sold_out(available: u64) -> Problem {
    let detail = if available == 0 {
        "Units of orders that are not paid come back; see the status."
    } else {
        "Ask for no more than what is available."
    };
    Problem::new(Code::SoldOut, detail).with("available", available)
}

/// Before the start, or before tickets are issued.
pub(super) fn not_started(starts_at: Timestamp, now: Timestamp) -> Problem {
    not_before(starts_at, starts_at, now)
}

/// Too early for something that is possible from `possible_at` on.
pub(super) fn not_before(starts_at: Timestamp, possible_at: Timestamp, now: Timestamp) -> Problem {
    Problem::new(Code::NotStarted, "Come back at the time that Retry-After gives.")
        .with("starts_at", Rfc3339(starts_at))
        .retry_after(possible_at.since(now))
}

/// The order after a step that was taken, now or before.
pub(super) fn advanced(outcome: Advanced) -> Result<Box<Order>, Problem> {
    match outcome {
        Advanced::Done(order) | Advanced::Replayed(order) | Advanced::Retaken(order) => Ok(order),
        Advanced::RefundDue(order, _) => Ok(order),
        Advanced::NotFound => Err(Problem::not_found()),
        Advanced::NotPersisted => Err(Problem::new(
            Code::NotPersisted,
            "Read the order until it is no longer queued, then try again.",
        )),
        Advanced::WrongState(status) => {
            Err(Problem::new(Code::WrongState, "Read the order to see what is possible with it now.")
                .with("order_status", status))
        }
        Advanced::SoldOut { available } => Err(sold_out(available.into())),
        Advanced::IdTaken => Err(id_taken()),
    }
}

/// An adjustment that was made, or why not.
pub(super) fn adjusted(outcome: Adjusted) -> Result<(), Problem> {
    match outcome {
        Adjusted::Done | Adjusted::Replayed => Ok(()),
        Adjusted::UnknownOffer => Err(Problem::not_found()),
        Adjusted::IdReused => Err(Problem::new(
            Code::KeyReused,
            "This adjustment_id was used for another offer or delta: use a new one.",
        )),
        Adjusted::Insufficient { available } => Err(Problem::new(
            Code::InsufficientAvailable,
            "Nothing was taken; take at most what is available.",
        )
        .with("available", available)),
    }
}

/// A service did not answer.
pub(super) fn service(error: &ServiceError) -> Problem {
    match error {
        ServiceError::Busy { retry_after } => {
            Problem::new(Code::Busy, "Nothing was done; try again.").retry_after(*retry_after)
        }
        ServiceError::Ledger(error) => ledger(error),
        ServiceError::Id(error) => {
            tracing::warn!(%error, "no id for a request");
            let wait = if let IdError::Ahead { wait, .. } = error { *wait } else { SOON };
            Problem::new(Code::Unavailable, "Nothing was done; try again.").retry_after(wait)
        }
        ServiceError::Provider(reason) => {
            tracing::warn!(%reason, "the payment provider does not answer");
            unavailable("The payment provider does not answer; try again.")
        }
        // Not logged: the breaker says once that it has opened.
        ServiceError::ProviderUnavailable { retry_after } => {
            let detail = "The payment provider is not available now, and the order is as it was. Come back at the time that Retry-After gives.";
            Problem::new(Code::Unavailable, detail).retry_after(*retry_after)
        }
        other => {
            tracing::error!(error = %other, "a service failed");
            unavailable("Try again with the same key.")
        }
    }
}

/// A ledger did not answer.
pub(super) fn ledger(error: &LedgerError) -> Problem {
    match error {
        LedgerError::Invalid(error) => invalid(error),
        LedgerError::NotOpen => not_ready(),
        LedgerError::Unknown(_) => {
            tracing::warn!(%error, "the outcome of a request is unknown");
            unavailable("It is not known whether this took effect; repeat it with the same key.")
        }
        other => {
            tracing::warn!(error = %other, "the ledger did not take a request");
            unavailable("Nothing was done; try again.")
        }
    }
}

/// A catalogue did not do what it was asked.
pub(super) fn catalogue(error: &CatalogueError) -> Problem {
    match error {
        CatalogueError::NotFound(_) => Problem::not_found(),
        CatalogueError::Conflict { .. } => Problem::new(Code::VersionConflict, "Read it again, then repeat."),
        CatalogueError::Refused(refusals) => {
            let problems: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            Problem::invalid("Correct what the problems say; nothing was changed.").with("problems", problems)
        }
        other => {
            tracing::error!(error = %other, "the catalogue failed");
            unavailable("The catalogue cannot be used now; try again.")
        }
    }
}

/// An operation was not done.
pub(super) fn operation(error: &OperationError) -> Problem {
    match error {
        OperationError::Catalogue(error) => catalogue(error),
        OperationError::Ledger(error) => ledger(error),
        OperationError::NotInForce(error) => {
            tracing::error!(%error, "what an operator decided is not in force yet");
            unavailable(
                "It is decided and written down, and not yet in force; repeat it to bring it in force.",
            )
        }
        OperationError::WrongState { status, selling } => {
            Problem::new(Code::WrongState, "Read the activity to see what is possible with it now.")
                .with("activity_status", status)
                .with("selling", selling)
        }
        OperationError::AlreadyRefunded => Problem::new(
            Code::WrongState,
            "The money went back after all: send nothing. The dead letter is gone.",
        ),
        OperationError::NotOver => {
            Problem::new(Code::WrongState, "End the activity first, or wait until its window is over.")
        }
        OperationError::OwnWork => {
            Problem::new(Code::Forbidden, "Somebody else than its creator has to approve an activity.")
        }
        OperationError::Invalid(error) => invalid(error),
        OperationError::Id(error) => service(&ServiceError::Id(error.clone())),
        OperationError::Service(error) => service(error),
        other => {
            tracing::error!(error = %other, "an operation failed");
            unavailable("Try again; if it stays so, see the log of the server.")
        }
    }
}

/// A value breaks a rule.
pub(super) fn invalid(error: &Invalid) -> Problem {
    Problem::invalid_field(error.field, error.reason.clone())
}

/// A ticket is not accepted.
pub(super) fn ticket(error: TicketError) -> Problem {
    Problem::new(Code::TicketInvalid, error.to_string())
}

/// A challenge is asked for, and none counts.
pub(super) fn challenge_required(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Code::ChallengeRequired, detail)
}

/// No ticket for this visitor.
pub(super) fn denied() -> Problem {
    Problem::new(Code::Denied, "No ticket is issued for this account now; try again much later.")
}

/// More solutions of challenges than can be verified; none was looked at.
pub(super) fn too_many_solutions() -> Problem {
    Problem::new(Code::Busy, "The solution was not looked at: send it again.").retry_after(SOON)
}

/// Owned work ended without a result.
pub(super) fn lost(error: TaskLost) -> Problem {
    tracing::error!(%error, "the work of a request was lost");
    unavailable("It is not known whether this took effect; repeat it with the same key.")
}

/// Not loaded here, or not yet.
pub(super) fn not_ready() -> Problem {
    Problem::new(Code::NotReady, "The sale is being prepared on this server; try again.").retry_after(SOON)
}

/// Something that is needed does not answer.
pub(super) fn unavailable(detail: &'static str) -> Problem {
    Problem::new(Code::Unavailable, detail).retry_after(SOON)
}

fn id_taken() -> Problem {
    tracing::error!("an id was made twice: two processes share a worker id");
    unavailable("Nothing was done; try again.")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flashsale_core::domain::{LimitRule, OrderStatus, Per, Subject};
    use serde_json::{Value, json};

    use super::*;

    /// Status, code, members beside the standard ones, and Retry-After of a problem.
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
    async fn failures_say_when_to_come_again_and_keep_their_causes() {
        let cause = || Arc::from("secret cause");
        let busy = ServiceError::Busy { retry_after: Duration::from_millis(20) };
        let alone = ServiceError::ProviderUnavailable { retry_after: Duration::from_millis(9_100) };
        let table: [(ServiceError, u16, &str, Option<&str>); 9] = [
            (busy, 503, "busy", Some("1")),
            (LedgerError::Unknown(cause()).into(), 503, "unavailable", Some("1")),
            (LedgerError::Unavailable(cause()).into(), 503, "unavailable", Some("1")),
            (LedgerError::Stopped(cause()).into(), 503, "unavailable", Some("1")),
            (LedgerError::NotOpen.into(), 503, "not_ready", Some("1")),
            (LedgerError::Fenced.into(), 503, "unavailable", Some("1")),
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
