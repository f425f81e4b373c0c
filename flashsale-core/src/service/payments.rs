//! Payments: opening them, what providers report, closing them, refunds.

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Sales, ServiceError, ordering::advance};
use crate::{
    domain::{
        Capture, Money, Order, OrderId, OrderKey, OrderStatus, Payment, PaymentId, Provider, Timestamp,
        UserId,
    },
    ledger::{Advance, Advanced, Kept, Reference, RefundOutcome, RefundTask},
    snowflake::Generator,
};

/// Somebody who takes money.
///
/// Opening and closing carry our payment id as the idempotency key, a refund the transaction that it sends back: one
/// payment may have been captured twice. A provider does each thing once for its key.
#[async_trait]
pub trait PaymentProvider: Send + Sync + Debug {
    /// The name under which payments, callbacks and captures know it.
    fn name(&self) -> &Provider;

    /// Opens a payment, or finds it open; answers where the buyer pays.
    ///
    /// # Errors
    /// [`ProviderError`]; the payment may have been opened.
    async fn open(
        &self,
        payment: PaymentId,
        amount: Money,
        deadline: Timestamp,
    ) -> Result<String, ProviderError>;

    /// Ends a payment, so that no money will be taken for it any more, or learns that it was taken.
    ///
    /// # Errors
    /// [`ProviderError`]; the payment may still be open.
    async fn close(&self, payment: PaymentId) -> Result<Closed, ProviderError>;

    /// Sends the money of a transaction back, whole.
    ///
    /// # Errors
    /// [`ProviderError`]; the money may be on its way, and the call is repeated.
    async fn refund(&self, capture: &Capture) -> Result<RefundOutcome, ProviderError>;
}

/// What a provider answers to closing a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It takes no money for it any more.
    Closed,
    /// It had taken the money.
    Captured(Capture),
}

/// A provider did not do what it was asked, or nobody knows whether it did.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProviderError(pub String);

/// A payment that a buyer can make.
#[derive(Clone, Debug)]
pub struct OpenedPayment {
    /// The payment.
    pub payment: Payment,
    /// Where the buyer pays.
    pub pay_url: String,
    /// Whether it was opened by this call.
    pub new: bool,
}

/// What became of a provider's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureResult {
    /// It was applied, now or before; what the ledger said.
    Applied(Advanced),
    /// The payment is unknown; the report is kept, and somebody should look.
    Unmatched,
}

/// Opens, books and closes payments.
#[derive(Clone, Debug)]
pub struct Payments {
    sales: Arc<Sales>,
    ids: Arc<Generator>,
    providers: Arc<HashMap<Provider, Arc<dyn PaymentProvider>>>,
}

impl Payments {
    /// A service over these sales and providers.
    pub fn new(
        sales: Arc<Sales>,
        ids: Arc<Generator>,
        providers: impl IntoIterator<Item = Arc<dyn PaymentProvider>>,
    ) -> Self {
        let providers = providers.into_iter().map(|provider| (provider.name().clone(), provider)).collect();
        Self { sales, ids, providers: Arc::new(providers) }
    }

    /// Opens a payment for an order of this user, or answers the one that is open. `Err` inside `Ok` is what the ledger
    /// said instead.
    ///
    /// # Errors
    /// [`ServiceError`]; a repetition goes on where it stopped.
    pub async fn open(
        &self,
        user: UserId,
        id: OrderId,
        provider: &Provider,
    ) -> Result<Result<OpenedPayment, Advanced>, ServiceError> {
        let key = self.sales.ledger().locate(Reference::Order(id)).await?.filter(|key| key.user == user);
        let Some(order) = key else {
            return Ok(Err(Advanced::NotFound));
        };
        let payment: PaymentId = self.ids.next()?.into();
        let step = Advance::OpenPayment { order, payment, provider: provider.clone() };
        let outcome = advance(&self.sales, step).await?;
        let Some(payment) =
            outcome.order().filter(|order| order.status == OrderStatus::Paying).and_then(Order::payment)
        else {
            return Ok(Err(outcome));
        };
        let amount = outcome.order().map(|order| order.amount);
        let Some(amount) = amount else { return Ok(Err(outcome)) };
        let provider = self.provider(&payment.provider)?;
        let pay_url = patiently(provider.open(payment.id, amount, payment.deadline)).await?;
        let new = matches!(outcome, Advanced::Done(_));
        Ok(Ok(OpenedPayment { payment: payment.clone(), pay_url, new }))
    }

    /// Books money that a provider took. The report has to be verified before.
    ///
    /// # Errors
    /// [`ServiceError`]: the report may not be kept, and the provider has to come again.
    pub async fn captured(&self, capture: Capture) -> Result<CaptureResult, ServiceError> {
        let ledger = self.sales.ledger();
        let known = match ledger.locate(Reference::Payment(capture.payment)).await? {
            Some(order) => Kept::Known(order),
            None => ledger.keep_unmatched(capture.clone()).await?,
        };
        match known {
            Kept::Known(order) => Ok(CaptureResult::Applied(self.capture(order, capture).await?)),
            Kept::Kept => {
                tracing::error!(payment = %capture.payment, provider = %capture.provider, "money for an unknown payment");
                Ok(CaptureResult::Unmatched)
            }
        }
    }

    /// Books that a provider could not take the money. The report has to be verified before; one about a payment of another
    /// provider changes nothing.
    ///
    /// # Errors
    /// [`ServiceError`]: the provider has to come again.
    pub async fn failed(&self, provider: &Provider, payment: PaymentId) -> Result<Advanced, ServiceError> {
        let ledger = self.sales.ledger();
        let Some(key) = ledger.locate(Reference::Payment(payment)).await? else {
            return Ok(Advanced::NotFound);
        };
        let order = ledger.order(key).await?;
        let known = order.as_ref().and_then(|order| order.payment_by_id(payment));
        if known.is_none_or(|known| known.provider != *provider) {
            return Ok(Advanced::NotFound);
        }
        advance(&self.sales, Advance::PaymentFailed { order: key, payment }).await
    }

    /// Ends the open payment of an order at its provider.
    ///
    /// # Errors
    /// [`ServiceError::Provider`] if the provider does not answer; the payment stays open.
    pub async fn close(&self, order: OrderKey) -> Result<Advanced, ServiceError> {
        let Some(open) =
            self.sales.ledger().order(order).await?.filter(|order| order.status == OrderStatus::Paying)
        else {
            return Ok(Advanced::NotFound);
        };
        match open.payment() {
            Some(payment) => self.close_payment(order, payment.id, &payment.provider).await,
            None => Ok(Advanced::NotFound),
        }
    }

    pub(super) async fn close_payment(
        &self,
        order: OrderKey,
        payment: PaymentId,
        provider: &Provider,
    ) -> Result<Advanced, ServiceError> {
        match patiently(self.provider(provider)?.close(payment)).await? {
            Closed::Closed => advance(&self.sales, Advance::PaymentClosed { order, payment }).await,
            Closed::Captured(capture) => self.capture(order, capture).await,
        }
    }

    /// Sends money back that has to go back.
    ///
    /// # Errors
    /// [`ServiceError`]; the refund stays due.
    pub(super) async fn refund(&self, task: &RefundTask) -> Result<Advanced, ServiceError> {
        let outcome = patiently(self.provider(&task.capture.provider)?.refund(&task.capture)).await?;
        let step = Advance::RefundSettled {
            order: task.order,
            provider: task.capture.provider.clone(),
            transaction: task.capture.transaction.as_str().to_owned(),
            outcome,
        };
        advance(&self.sales, step).await
    }

    async fn capture(&self, order: OrderKey, capture: Capture) -> Result<Advanced, ServiceError> {
        let replacement = self.ids.next()?.into();
        advance(&self.sales, Advance::Capture { order, capture, replacement }).await
    }

    fn provider(&self, name: &Provider) -> Result<&Arc<dyn PaymentProvider>, ServiceError> {
        self.providers.get(name).ok_or_else(|| ServiceError::Provider(format!("{name} is not configured")))
    }
}

/// How long a provider may take for one call.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for a provider, but not for ever: one that hangs must not hold up the others' orders.
async fn patiently<T>(call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ServiceError> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(ServiceError::Provider(error.to_string())),
        Err(_) => Err(ServiceError::Provider(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}
