//! The sandbox payment provider: it moves no money, remembers nothing, and does at once what it is asked, unless it is told
//! to fail.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use flashsale_core::{
    domain::{Capture, Money, Order, PaymentId, Provider, Timestamp},
    ledger::RefundOutcome,
    service::{Closed, PaymentProvider, ProviderError},
};
use serde_json::json;

const NAME: &str = "sandbox";

/// A provider for demonstrations and tests. Its pay page is served by this server, and reports by signed callbacks as a real one
/// does.
#[derive(Debug)]
pub struct Sandbox {
    name: Provider,
    is_failing: AtomicBool,
}

/// What the sandbox is told to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The money was taken.
    Captured,
    /// The payment failed.
    Failed,
}

impl Sandbox {
    /// The provider.
    pub fn new() -> Self {
        Self { name: Self::provider(), is_failing: AtomicBool::new(false) }
    }

    /// From now on every call fails, or none does: to see what becomes of a shop whose provider is down.
    pub fn fail(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::SeqCst);
    }

    fn answer<T>(&self, answer: T) -> Result<T, ProviderError> {
        if self.is_failing.load(Ordering::SeqCst) {
            return Err(ProviderError::Failed("the sandbox was told to".to_owned()));
        }
        Ok(answer)
    }

    /// The name under which it is known: `sandbox`.
    pub fn provider() -> Provider {
        NAME.parse().unwrap_or_else(|_| unreachable!("the name of the sandbox is one of a provider"))
    }

    /// The body of the callback about a payment of `order`. The same report is always the same event and transaction.
    pub fn callback(payment: PaymentId, order: &Order, report: Report) -> Vec<u8> {
        let kind = match report {
            Report::Captured => "captured",
            Report::Failed => "failed",
        };
        json!({
            "event_id": format!("sandbox-{kind}-{payment}"),
            "payment_id": payment,
            "kind": kind,
            "amount": order.amount.amount(),
            "currency": order.amount.currency(),
            "transaction_id": format!("sandbox-{payment}"),
        })
        .to_string()
        .into_bytes()
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl PaymentProvider for Sandbox {
    fn name(&self) -> &Provider {
        &self.name
    }

    async fn open(&self, payment: PaymentId, _: Money, _: Timestamp) -> Result<String, ProviderError> {
        self.answer(format!("/sandbox/payments/{payment}"))
    }

    async fn close(&self, _: PaymentId) -> Result<Closed, ProviderError> {
        self.answer(Closed::Closed)
    }

    async fn refund(&self, _: &Capture) -> Result<RefundOutcome, ProviderError> {
        self.answer(RefundOutcome::Done)
    }
}
