//! Callbacks of payment providers: what an authentic report says, and booking it.
//!
//! A report that cannot be booked at once is kept durably and becomes a job. Jobs that need a
//! person are parked; operators see them at `/v1/callbacks`, and replay or discard them.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flashsale_core::{
    domain::{Capture, Currency, Invalid, Provider, ReversalKind, ReversalReport, text::Bounded},
    ledger::{Advanced, Lane, LedgerError, PaymentRef},
    queue::{Job, NewJob, Put, Queue, QueueError, RetryPolicy, Topic, Verdict, Worker},
    service::{CaptureResult, Payments, ServiceError},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

/// Books reports, and keeps those that cannot be booked yet.
#[derive(Debug)]
pub struct Callbacks {
    payments: Payments,
    queue: Arc<dyn Queue>,
    worker: Worker,
}

/// A verified report as it was received. The content of a job with [`Callbacks::topic`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignedReport {
    /// The provider that signed it.
    pub provider: Provider,
    /// The raw body, in base64.
    body: String,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is booked, now or earlier, or has nothing to book.
    Booked,
    /// It is kept in the queue.
    Kept,
}

/// Why a report is kept and not booked.
#[derive(Debug)]
enum NotBooked {
    /// A person has to look at it.
    NeedsPerson(String),
    /// The ledger could not decide now.
    Later(String),
}

impl SignedReport {
    /// Wraps a body whose signature was verified.
    pub fn new(provider: Provider, body: &[u8]) -> Self {
        Self { provider, body: BASE64.encode(body) }
    }

    /// The raw body.
    pub fn body(&self) -> Vec<u8> {
        BASE64.decode(&self.body).unwrap_or_default()
    }

    /// The job that keeps the report. The same report always gets the same id.
    fn job(&self) -> Result<NewJob, Invalid> {
        let digest = blake3::hash(self.body.as_bytes()).to_hex();
        NewJob::now(&Callbacks::topic(), &format!("callback/{}/{}", self.provider, &digest[..32]), self)
    }
}

impl Callbacks {
    /// Creates the service. Reports that the ledger cannot book at once are retried as `retries`
    /// allow.
    pub fn new(payments: Payments, queue: Arc<dyn Queue>, retries: RetryPolicy) -> Self {
        let own = payments.clone();
        let worker = Worker::new(Arc::clone(&queue), Self::topic(), retries, move |job: Job| {
            let payments = own.clone();
            async move { book_again(&payments, &job).await }
        });
        Self { payments, queue, worker }
    }

    /// The topic of kept reports, `callbacks`.
    ///
    /// # Panics
    /// Never: the text is a valid topic.
    pub fn topic() -> Topic {
        "callbacks".parse().expect("a valid topic")
    }

    /// The worker that books kept reports.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Books a report, or keeps it durably.
    ///
    /// # Errors
    /// [`QueueError`]: the report is not kept, and the provider has to send it again.
    pub async fn receive(&self, report: SignedReport) -> Result<Received, QueueError> {
        let reason = match book(&self.payments, &report).await {
            Ok(()) => return Ok(Received::Booked),
            Err(NotBooked::NeedsPerson(reason) | NotBooked::Later(reason)) => reason,
        };
        let unfit = |error: Invalid| QueueError::Unavailable {
            reason: error.to_string(),
            retry: false,
            source: None,
        };
        let job = report.job().map_err(unfit)?;
        let put = self.queue.put(vec![job]).await?;
        if matches!(put[..], [Put::New(_)]) {
            tracing::error!(provider = %report.provider, %reason, "a payment callback is kept and not booked");
        }
        self.worker.wake();
        Ok(Received::Kept)
    }
}

async fn book_again(payments: &Payments, job: &Job) -> Verdict {
    let report: SignedReport = match job.content() {
        Ok(report) => report,
        Err(error) => return Verdict::Park { error: error.to_string() },
    };
    match book(payments, &report).await {
        Ok(()) => Verdict::Done,
        Err(NotBooked::NeedsPerson(error)) => Verdict::Park { error },
        Err(NotBooked::Later(error)) => Verdict::Retry { wait: Duration::ZERO, error },
    }
}

async fn book(payments: &Payments, report: &SignedReport) -> Result<(), NotBooked> {
    let needs_person = |reason: &str| Err(NotBooked::NeedsPerson(reason.to_owned()));
    let not_booked = |error: ServiceError| match error {
        ServiceError::Ledger(LedgerError::NotOpen) => {
            NotBooked::NeedsPerson("the activity of the payment is unknown".to_owned())
        }
        error => NotBooked::Later(error.to_string()),
    };
    let outcome = match Fact::read(&report.provider, &report.body()).map_err(NotBooked::NeedsPerson)? {
        Fact::Ping => return Ok(()),
        Fact::Captured(lane, capture) => match payments.captured(lane, capture).await.map_err(not_booked)? {
            CaptureResult::Applied(outcome) => outcome,
            CaptureResult::Unmatched => {
                return needs_person("the payment is unknown; the money is booked if the payment ever opens");
            }
        },
        Fact::Failed(payment) => {
            match payments.failed(&report.provider, payment).await.map_err(not_booked)? {
                Advanced::NotFound => return needs_person("the failed payment is unknown"),
                outcome => outcome,
            }
        }
        Fact::Reversed(lane, report) => {
            let payment = PaymentRef { lane, payment: report.payment };
            match payments.reversed(lane, report).await.map_err(not_booked)? {
                Advanced::NotFound => {
                    let reason = format!("no money of payment {payment} is known that could go back");
                    return Err(NotBooked::Later(reason));
                }
                outcome => outcome,
            }
        }
    };
    match outcome {
        Advanced::Done(_)
        | Advanced::Replayed(_)
        | Advanced::RefundDue(..)
        | Advanced::Retaken(_)
        | Advanced::WrongState(_) => Ok(()),
        Advanced::Conflict => needs_person(
            "it contradicts what is known: its event or transaction id belongs to other money, or more would go back than was taken",
        ),
        Advanced::NotFound
        | Advanced::NotPersisted
        | Advanced::IdTaken
        | Advanced::SoldOut { .. }
        | Advanced::TooMuch { .. }
        | Advanced::KeyReused => Err(NotBooked::Later("the ledger cannot book it yet".to_owned())),
    }
}

/// What a report says.
#[derive(Debug, PartialEq, Eq)]
enum Fact {
    /// Money was taken for a payment in this lane.
    Captured(Lane, Capture),
    /// Money could not be taken.
    Failed(PaymentRef),
    /// Money of a payment in this lane was sent back, or is disputed.
    Reversed(Lane, ReversalReport),
    /// The provider tests the connection.
    Ping,
}

/// The members of a report that we use. Others are the provider's own.
#[derive(Deserialize)]
struct Members {
    kind: Option<Value>,
    /// What some providers call the kind of a ping.
    r#type: Option<Value>,
    #[serde(default, deserialize_with = "text")]
    event_id: Option<Bounded<128>>,
    #[serde(default, deserialize_with = "text")]
    transaction_id: Option<Bounded<128>>,
    #[serde(default, deserialize_with = "text")]
    payment_id: Option<PaymentRef>,
    #[serde(default, deserialize_with = "whole")]
    amount: Option<u64>,
    #[serde(default, deserialize_with = "currency")]
    currency: Option<Currency>,
}

impl Fact {
    /// Reads a report. The error says where it fails, without showing the content.
    fn read(provider: &Provider, body: &[u8]) -> Result<Self, String> {
        let mut reader = serde_json::Deserializer::from_slice(body);
        let members: Members = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let (path, cause) = (error.path().to_string(), error.into_inner());
            format!("not understood at {path}, line {}, column {}", cause.line(), cause.column())
        })?;
        let missing = |name: &str| format!("not understood: {name} is missing");
        let payment = members.payment_id.ok_or_else(|| missing("payment_id"));
        let kind = members.kind.or(members.r#type).ok_or_else(|| missing("kind"))?;
        let reversal = match kind.as_str().unwrap_or_default() {
            "ping" => return Ok(Self::Ping),
            "failed" => return payment.map(Self::Failed),
            "captured" => None,
            "refunded" => Some(ReversalKind::Refunded),
            "disputed" => Some(ReversalKind::Disputed),
            "dispute_won" => Some(ReversalKind::DisputeWon),
            "dispute_lost" => Some(ReversalKind::DisputeLost),
            _ => return Err("not understood: the kind is unknown".to_owned()),
        };
        let provider = provider.clone();
        let event = members.event_id.ok_or_else(|| missing("event_id"))?;
        let transaction = members.transaction_id.ok_or_else(|| missing("transaction_id"))?;
        let PaymentRef { lane, payment } = payment?;
        let amount = members.amount.ok_or_else(|| missing("amount"))?;
        let currency = members.currency.ok_or_else(|| missing("currency"))?;
        Ok(match reversal {
            None => {
                let capture = Capture { provider, event, transaction, payment, amount, currency };
                Self::Captured(lane, capture)
            }
            Some(kind) => {
                let report = ReversalReport { provider, kind, event, transaction, payment, amount, currency };
                Self::Reversed(lane, report)
            }
        })
    }
}

/// A text, or an integer as providers write ids that look like numbers.
fn text<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        Value::Number(number) if number.is_u64() => number.to_string(),
        _ => return Err(D::Error::custom("expected a text")),
    };
    text.parse().map(Some).map_err(D::Error::custom)
}

/// A whole number, also in a string (`"10000"`) or as a float (`10000.0`).
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    /// Integers above it are not exact as floats.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let expected = || D::Error::custom("expected a whole number of minor units");
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| expected()),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(amount), _) => Ok(Some(amount)),
            (None, Some(float)) if float.fract() == 0.0 && (0.0..=EXACT).contains(&float) => {
                // A whole float in this range prints as an integer.
                format!("{float:.0}").parse().map(Some).map_err(|_| expected())
            }
            _ => Err(expected()),
        },
        _ => Err(expected()),
    }
}

/// A currency code in any case.
fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Currency>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.to_ascii_uppercase().parse().map_err(D::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(report: &str) -> Result<Fact, String> {
        Fact::read(&"sandbox".parse().unwrap(), report.as_bytes())
    }

    #[test]
    fn spellings_of_numbers_currencies_and_ids_are_understood() {
        let report = |amount: &str, currency: &str, id: &str| {
            read(&format!(
                r#"{{"event_id":{id},"payment_id":"7-0-7","kind":"captured","amount":{amount},
                    "currency":"{currency}","transaction_id":"t","channel":"card"}}"#
            ))
        };
        let plain = report("10000", "CNY", "\"9\"").unwrap();
        for (amount, currency, id) in
            [("\"10000\"", "cny", "\"9\""), ("10000.0", "Cny", "9"), ("1e4", "CNY", "9")]
        {
            assert_eq!(report(amount, currency, id).as_ref(), Ok(&plain), "{amount} {currency} {id}");
        }
        for amount in ["10000.5", "-1", "\"1e4\"", "1e300", "true", "[]"] {
            assert!(report(amount, "CNY", "9").unwrap_err().contains("at amount"), "{amount}");
        }
        assert!(report("1", "QQQ", "9").unwrap_err().contains("at currency"));
    }

    #[test]
    fn pings_need_no_payment_and_other_kinds_are_named() {
        assert_eq!(read(r#"{"event_id":"u6","type":"ping"}"#), Ok(Fact::Ping));
        assert_eq!(read(r#"{"event_id":"u6","kind":"ping"}"#), Ok(Fact::Ping));
        assert_eq!(read(r#"{"kind":"chargeback"}"#), Err("not understood: the kind is unknown".to_owned()));
        assert_eq!(read(r#"{"kind":"failed"}"#), Err("not understood: payment_id is missing".to_owned()));
        let secret = read(r#"{"kind":"captured","amount":"4111 1111 1111 1111"}"#).unwrap_err();
        assert!(!secret.contains("4111"), "{secret}");
    }
}
