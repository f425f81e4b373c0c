//! Short descriptions of outcomes, for cases to compare and failures to show.

use crate::{
    domain::{OrderStatus, Per, RefundReason, Subject},
    ledger::{Adjusted, Advanced, LedgerError, Outcome},
};

/// Describes the outcome of a reserve.
pub(super) fn of_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::UnknownOffer => "unknown_offer".into(),
        Outcome::NotReady => "not_ready".into(),
        Outcome::Replayed { order, .. } => format!("replayed {}", of_status(order.status)),
        Outcome::KeyReused => "key_reused".into(),
        Outcome::TicketExpired => "ticket_expired".into(),
        Outcome::Paused => "paused".into(),
        Outcome::NotStarted { .. } => "not_started".into(),
        Outcome::Ended => "ended".into(),
        Outcome::TicketUsed => "ticket_used".into(),
        Outcome::IdTaken => "id_taken".into(),
        Outcome::LimitReached { rule, remaining } => {
            let subject = match rule.subject {
                Subject::User => "user",
                Subject::Device => "device",
                Subject::Address => "address",
            };
            let per = match rule.per {
                Per::Offer => "offer",
                Per::Activity => "activity",
            };
            format!("limit_reached {subject}/{per} {} remaining {remaining}", rule.max())
        }
        Outcome::SoldOut { available } => format!("sold_out {available}"),
        Outcome::Reserved { .. } => "reserved".into(),
    }
}

/// Describes the outcome of an advance.
pub(super) fn of_advanced(advanced: &Advanced) -> String {
    match advanced {
        Advanced::NotFound => "not_found".into(),
        Advanced::NotPersisted => "not_persisted".into(),
        Advanced::Done(order) => format!("done {}", of_status(order.status)),
        Advanced::Replayed(order) => format!("replayed {}", of_status(order.status)),
        Advanced::WrongState(status) => format!("wrong_state {}", of_status(*status)),
        Advanced::SoldOut { available } => format!("sold_out {available}"),
        Advanced::IdTaken => "id_taken".into(),
        Advanced::RefundDue(order, reason) => {
            format!("refund_due {} {}", of_status(order.status), of_reason(*reason))
        }
        Advanced::Retaken(order) => format!("retaken {}", of_status(order.status)),
        Advanced::Conflict => "conflict".into(),
        Advanced::TooMuch { amount, units } => format!("too_much {amount} {units}"),
        Advanced::KeyReused => "key_reused".into(),
    }
}

/// Describes the outcome of an adjustment.
pub(super) fn of_adjusted(adjusted: &Adjusted) -> String {
    match adjusted {
        Adjusted::UnknownOffer => "unknown_offer".into(),
        Adjusted::Done => "done".into(),
        Adjusted::Replayed => "replayed".into(),
        Adjusted::IdReused => "id_reused".into(),
        Adjusted::Insufficient { available } => format!("insufficient {available}"),
    }
}

pub(super) fn of_status(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "pending",
        OrderStatus::Paying => "paying",
        OrderStatus::Paid => "paid",
        OrderStatus::Cancelled => "cancelled",
        OrderStatus::Expired => "expired",
        OrderStatus::Refused => "refused",
    }
}

pub(super) fn of_reason(reason: RefundReason) -> &'static str {
    match reason {
        RefundReason::WrongAmount => "wrong_amount",
        RefundReason::PaidTwice => "paid_twice",
        RefundReason::OrderClosed => "order_closed",
        RefundReason::NoUnits => "no_units",
        RefundReason::Operator => "operator",
        RefundReason::WrongProvider => "wrong_provider",
        RefundReason::Incomplete => "incomplete",
        RefundReason::Provider => "provider",
        RefundReason::Dispute => "dispute",
    }
}

/// Describes the kind of an error; its text may differ between backends.
pub(super) fn of_error(error: &LedgerError) -> &'static str {
    match error {
        LedgerError::Unknown(_) => "error: unknown outcome",
        LedgerError::Unavailable(_) => "error: unavailable",
        LedgerError::Stopped(_) => "error: stopped",
        LedgerError::Invalid(_) => "error: invalid",
        LedgerError::NotDeciding(_) => "error: not deciding",
        LedgerError::NotOpen => "error: not open",
        LedgerError::Moved { .. } => "error: moved",
    }
}

/// Describes a result whose value does not matter: `ok` or the kind of error.
pub(super) fn of_result<T>(result: &Result<T, LedgerError>) -> &'static str {
    result.as_ref().map_or_else(of_error, |_| "ok")
}
