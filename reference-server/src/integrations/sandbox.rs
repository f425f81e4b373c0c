//! The sandbox payment provider: moves no money, and succeeds at once unless told to fail.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use flashsale_core::{
    domain::{Money, Order, Provider, Timestamp},
    ledger::{PaymentRef, RefundOutcome, RefundTask},
    service::{Closed, PaymentProvider, ProviderError},
};
use serde_json::json;

const NAME: &str = "sandbox";

/// A provider for demos and tests. Its pay page, on this server, reports by signed callbacks.
#[derive(Debug)]
pub struct Sandbox {
    name: Provider,
    captures_in_parts: bool,
    is_failing: AtomicBool,
}

/// The result that the sandbox reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The payment succeeded.
    Captured,
    /// The payment failed.
    Failed,
}

impl Sandbox {
    /// Creates a sandbox whose calls succeed. Its parts of an amount add up, or each is refunded.
    pub fn new(captures_in_parts: bool) -> Self {
        Self { name: Self::provider(), captures_in_parts, is_failing: AtomicBool::new(false) }
    }

    /// Makes every further call fail, or succeed again, to simulate a provider outage.
    pub fn fail(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::SeqCst);
    }

    fn answer<T>(&self, answer: T) -> Result<T, ProviderError> {
        if self.is_failing.load(Ordering::SeqCst) {
            return Err(ProviderError::Failed("the sandbox simulates an outage".to_owned()));
        }
        Ok(answer)
    }

    /// Returns the provider's name, `sandbox`.
    pub fn provider() -> Provider {
        NAME.parse().unwrap_or_else(|_| unreachable!("`sandbox` is a valid provider name"))
    }

    /// Builds the callback body for a payment of `order`. Equal reports have equal ids.
    pub fn callback(payment: PaymentRef, order: &Order, report: Report) -> Vec<u8> {
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

#[async_trait]
impl PaymentProvider for Sandbox {
    fn name(&self) -> &Provider {
        &self.name
    }

    fn captures_in_parts(&self) -> bool {
        self.captures_in_parts
    }

    async fn open(&self, payment: PaymentRef, _: Money, _: Timestamp) -> Result<String, ProviderError> {
        self.answer(format!("/sandbox/payments/{payment}"))
    }

    async fn close(&self, _: PaymentRef) -> Result<Closed, ProviderError> {
        self.answer(Closed::Closed)
    }

    async fn refund(&self, _: PaymentRef, _: &RefundTask) -> Result<RefundOutcome, ProviderError> {
        self.answer(RefundOutcome::Done)
    }
}
