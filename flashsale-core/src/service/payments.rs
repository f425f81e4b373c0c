//! Payments: opening, captures, closing and refunds.

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Sales, ServiceError, advance::advance};
use crate::{
    circuit_breaker::{Breaker, BreakerOptions, Permit, Rejected},
    domain::{
        Capture, Money, Order, OrderKey, OrderStatus, Payment, PaymentId, Provider, Refund, ReversalReport,
        Timestamp,
    },
    ledger::{Advance, Advanced, Kept, Lane, LedgerCalls as _, PaymentRef, RefundOutcome, RefundTask},
    snowflake::Generator,
};

/// A payment provider.
///
/// It knows a payment by its [reference](PaymentRef), and names it so in its reports.
///
/// The idempotency key of `open` and `close` is that reference. That of `refund` is `task.capture.payment`
/// (the bare id), the transaction, the number and the amount: a payment may be captured twice and a capture
/// refunded in parts, some providers reuse transaction ids, and a refund that is due can shrink.
/// A provider does each operation once per key.
///
/// Each call times out after 10 s and goes through a [`Breaker`]: a provider that fails too often
/// is not called for a while.
#[async_trait]
pub trait PaymentProvider: Send + Sync + Debug {
    /// The provider's name in payments, callbacks and captures.
    fn name(&self) -> &Provider;

    /// Whether it may capture the amount of a payment in parts, which then add up. If not, a capture
    /// of another amount is refunded.
    fn captures_in_parts(&self) -> bool;

    /// Opens a payment, or finds it already open. Returns the URL where the buyer pays.
    ///
    /// # Errors
    /// [`ProviderError`]; the payment may have been opened.
    async fn open(
        &self,
        payment: PaymentRef,
        amount: Money,
        deadline: Timestamp,
    ) -> Result<String, ProviderError>;

    /// Closes a payment so that it can no longer be captured, or reports that it already was.
    ///
    /// # Errors
    /// [`ProviderError`]; the payment may still be open.
    async fn close(&self, payment: PaymentRef) -> Result<Closed, ProviderError>;

    /// Sends back `task.amount` of a transaction of the payment, which is all of it or a part.
    ///
    /// # Errors
    /// [`ProviderError`]; the refund may have been made, and the call is repeated.
    async fn refund(&self, payment: PaymentRef, task: &RefundTask) -> Result<RefundOutcome, ProviderError>;
}

/// A provider's answer to closing a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The payment can no longer be captured.
    Closed,
    /// The payment had already been captured.
    Captured(Capture),
}

/// Why a provider call failed. The operation may have happened all the same.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProviderError {
    /// The provider is healthy, but refuses this operation.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer, or an unexpected one. Too many of these open the breaker.
    #[error("failed: {0}")]
    Failed(String),
}

/// A payment that a buyer can make.
#[derive(Clone, Debug)]
pub struct OpenedPayment {
    /// The payment.
    pub payment: Payment,
    /// How provider and buyer name it.
    pub reference: PaymentRef,
    /// The URL where the buyer pays.
    pub pay_url: String,
    /// Whether this call opened it.
    pub new: bool,
}

/// The result of a provider's capture report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureResult {
    /// The report was applied, now or earlier; contains the ledger's answer.
    Applied(Advanced),
    /// The payment is unknown. The report is kept for an operator to look at.
    Unmatched,
}

/// Opens and closes payments, and records captures and refunds.
#[derive(Clone, Debug)]
pub struct Payments {
    sales: Arc<Sales>,
    ids: Arc<Generator>,
    providers: Arc<HashMap<Provider, GuardedProvider>>,
}

impl Payments {
    /// Creates a service for these sales and providers, with a default breaker per provider.
    pub fn new(
        sales: Arc<Sales>,
        ids: Arc<Generator>,
        providers: impl IntoIterator<Item = Arc<dyn PaymentProvider>>,
    ) -> Self {
        Self::with_breakers(sales, ids, providers, BreakerOptions::default())
    }

    /// Creates a service with a breaker per provider, which uses the clock of the sales.
    pub fn with_breakers(
        sales: Arc<Sales>,
        ids: Arc<Generator>,
        providers: impl IntoIterator<Item = Arc<dyn PaymentProvider>>,
        options: BreakerOptions,
    ) -> Self {
        let guarded = |provider: Arc<dyn PaymentProvider>| {
            let name = provider.name().clone();
            let breaker = Breaker::new(format!("payment/{name}"), options, Arc::clone(sales.clock()));
            (name, GuardedProvider { provider, breaker })
        };
        let providers = providers.into_iter().map(guarded).collect();
        Self { sales, ids, providers: Arc::new(providers) }
    }

    /// The breakers of all providers, each named `payment/<provider>`.
    pub fn breakers(&self) -> impl Iterator<Item = &Breaker> {
        self.providers.values().map(|guarded| &guarded.breaker)
    }

    /// Opens a payment for an order of the user in the key, or returns the one that is open. An inner `Err`
    /// is the ledger's answer if the order takes no payment.
    ///
    /// Asks the provider's breaker first. While it is open, the order stays PENDING with its
    /// deadline, and a `pay_time` order takes no units for a payment that cannot be made.
    ///
    /// # Errors
    /// [`ServiceError`]; a repeated call continues where this one stopped.
    pub async fn open(
        &self,
        order: OrderKey,
        provider: &Provider,
    ) -> Result<Result<OpenedPayment, Advanced>, ServiceError> {
        // A step would bring an archived activity back into memory for an order that anybody made up.
        let Some(known) = self.sales.ledger().order(order).await? else {
            return Ok(Err(Advanced::NotFound));
        };
        let guarded = self.guarded(provider)?;
        let in_parts = guarded.provider.captures_in_parts();
        let mut permit = guarded.breaker.enter();
        if let Err(rejected) = permit
            && needs_provider(&known, provider)
        {
            return Err(rejected.into());
        }
        let payment: PaymentId = self.ids.next()?.into();
        let step = Advance::OpenPayment { order, payment, provider: provider.clone(), in_parts };
        let outcome = advance(&self.sales, step).await?;
        let Some(payment) =
            outcome.order().filter(|order| order.status == OrderStatus::Paying).and_then(Order::payment)
        else {
            return Ok(Err(outcome));
        };
        let amount = outcome.order().map(|order| order.amount);
        let Some(amount) = amount else { return Ok(Err(outcome)) };
        let guarded = self.guarded(&payment.provider)?;
        if payment.provider != *provider {
            permit = guarded.breaker.enter();
        }
        let reference = self.reference(order, payment.id).await?;
        let call = guarded.provider.open(reference, amount, payment.deadline);
        let pay_url = call_provider(permit?, call).await?;
        let new = matches!(outcome, Advanced::Done(_));
        Ok(Ok(OpenedPayment { payment: payment.clone(), reference, pay_url, new }))
    }

    /// Records captured money of a payment in a lane. The caller has verified the report.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`](crate::ledger::LedgerError::NotOpen) if there is no such lane;
    /// [`ServiceError`]: the report may not be stored, so the provider has to send it again.
    pub async fn captured(&self, lane: Lane, capture: Capture) -> Result<CaptureResult, ServiceError> {
        let ledger = self.sales.ledger();
        let payment = PaymentRef { lane, payment: capture.payment };
        // A step would bring an archived activity back into memory.
        let known = match ledger.order_of_payment(payment).await? {
            Some(order) => Kept::Known(order),
            None => ledger.keep_unmatched(lane, capture.clone()).await?,
        };
        match known {
            Kept::Known(order) => Ok(CaptureResult::Applied(self.capture(order, capture).await?)),
            Kept::Kept => {
                tracing::error!(%payment, provider = %capture.provider, "money for an unknown payment");
                Ok(CaptureResult::Unmatched)
            }
        }
    }

    /// Records that the provider sent money of a payment in a lane back by itself, or reports on a dispute.
    /// The caller has verified the report.
    ///
    /// # Errors
    /// [`ServiceError`]: the report may not be stored, so the provider has to send it again.
    pub async fn reversed(&self, lane: Lane, report: ReversalReport) -> Result<Advanced, ServiceError> {
        let (payment, kind) = (PaymentRef { lane, payment: report.payment }, report.kind);
        let Some(order) = self.sales.ledger().order_of_payment(payment).await? else {
            return Ok(Advanced::NotFound);
        };
        let outcome = advance(&self.sales, Advance::Reversal { order, report }).await?;
        if matches!(outcome, Advanced::Done(_)) {
            tracing::warn!(%payment, ?kind, order = %order.id, "the provider reports money that went back, or a dispute");
        }
        Ok(outcome)
    }

    /// Records a failed payment. The caller has verified the report; a report about another
    /// provider's payment is ignored.
    ///
    /// # Errors
    /// [`ServiceError`]: the provider has to send the report again.
    pub async fn failed(&self, provider: &Provider, payment: PaymentRef) -> Result<Advanced, ServiceError> {
        let ledger = self.sales.ledger();
        let Some(key) = ledger.order_of_payment(payment).await? else {
            return Ok(Advanced::NotFound);
        };
        let (order, payment) = (ledger.order(key).await?, payment.payment);
        let known = order.as_ref().and_then(|order| order.payment_by_id(payment));
        if known.is_none_or(|known| known.provider != *provider) {
            return Ok(Advanced::NotFound);
        }
        advance(&self.sales, Advance::PaymentFailed { order: key, payment }).await
    }

    /// Closes the open payment of an order at its provider.
    ///
    /// # Errors
    /// [`ServiceError::Provider`] if the provider fails, [`ServiceError::ProviderUnavailable`] if
    /// its breaker is open; the payment stays open.
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
        let guarded = self.guarded(provider)?;
        let reference = self.reference(order, payment).await?;
        match call_provider(guarded.breaker.enter()?, guarded.provider.close(reference)).await? {
            Closed::Closed => advance(&self.sales, Advance::PaymentClosed { order, payment }).await,
            Closed::Captured(capture) => self.capture(order, capture).await,
        }
    }

    /// Sends due money back through its provider.
    ///
    /// # Errors
    /// [`ServiceError`]; the refund stays due.
    pub(super) async fn refund(&self, task: &RefundTask) -> Result<Advanced, ServiceError> {
        let guarded = self.guarded(&task.capture.provider)?;
        let payment = self.reference(task.order, task.capture.payment).await?;
        let outcome = call_provider(guarded.breaker.enter()?, guarded.provider.refund(payment, task)).await?;
        self.settle(task, outcome).await
    }

    /// Reads a refund from the ledger; `None` if it has no such refund, or a dispute of its payment
    /// is open.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(super) async fn refund_of(&self, task: &RefundTask) -> Result<Option<Refund>, ServiceError> {
        let order = self.sales.ledger().order(task.order).await?;
        let order = order.filter(|order| !order.is_disputed(task.capture.payment));
        let receipts = order.iter().flat_map(|order| &order.receipts);
        Ok(receipts
            .filter(|receipt| receipt.capture.is_same_transaction(&task.capture))
            .find_map(|receipt| receipt.refunds.get(task.number as usize).copied()))
    }

    /// Records that the money will not go back through its provider.
    ///
    /// # Errors
    /// [`ServiceError`]; the refund stays due.
    pub(super) async fn abandon_refund(&self, task: &RefundTask) -> Result<Advanced, ServiceError> {
        self.settle(task, RefundOutcome::Failed).await
    }

    async fn settle(&self, task: &RefundTask, outcome: RefundOutcome) -> Result<Advanced, ServiceError> {
        let step = Advance::RefundSettled {
            order: task.order,
            payment: task.capture.payment,
            provider: task.capture.provider.clone(),
            transaction: task.capture.transaction.as_str().to_owned(),
            number: task.number,
            outcome,
        };
        advance(&self.sales, step).await
    }

    async fn capture(&self, order: OrderKey, capture: Capture) -> Result<Advanced, ServiceError> {
        let replacement = self.ids.next()?.into();
        let (payment, provider) = (capture.payment, capture.provider.clone());
        let in_parts =
            self.providers.get(&provider).is_some_and(|guarded| guarded.provider.captures_in_parts());
        let step = Advance::Capture { order, capture, in_parts, replacement };
        let outcome = advance(&self.sales, step).await?;
        if outcome == Advanced::Conflict {
            tracing::error!(%payment, %provider, "captured money has a known event or transaction id");
        }
        Ok(outcome)
    }

    async fn reference(&self, order: OrderKey, payment: PaymentId) -> Result<PaymentRef, ServiceError> {
        Ok(PaymentRef { lane: self.sales.lane_of(order).await?, payment })
    }

    fn guarded(&self, name: &Provider) -> Result<&GuardedProvider, ServiceError> {
        self.providers.get(name).ok_or_else(|| ServiceError::Provider(format!("{name} is not configured")))
    }
}

/// Whether a payment of this order needs this provider: a new payment, or one open there.
fn needs_provider(order: &Order, provider: &Provider) -> bool {
    match order.status {
        OrderStatus::Pending => true,
        OrderStatus::Paying => order.payment().is_some_and(|payment| payment.provider == *provider),
        _ => false,
    }
}

/// A provider behind its breaker.
#[derive(Debug)]
struct GuardedProvider {
    provider: Arc<dyn PaymentProvider>,
    breaker: Breaker,
}

impl From<Rejected> for ServiceError {
    fn from(Rejected { retry_after }: Rejected) -> Self {
        Self::ProviderUnavailable { retry_after }
    }
}

/// The timeout of one provider call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls a provider with a timeout, so that one that hangs does not block other orders.
async fn call_provider<T>(
    permit: Permit<'_>,
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ServiceError> {
    let error = match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer @ (Ok(_) | Err(ProviderError::Refused(_)))) => {
            permit.succeeded();
            return answer.map_err(|refused| ServiceError::Provider(refused.to_string()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CALL_TIMEOUT.as_secs()),
    };
    permit.failed();
    Err(ServiceError::Provider(error))
}

#[cfg(test)]
#[cfg(feature = "embedded")]
mod tests {
    use std::{
        num::NonZeroU16,
        sync::{
            Mutex,
            atomic::{AtomicU64, Ordering::SeqCst},
        },
    };

    use tokio::{runtime::Handle, sync::Notify};

    use super::*;
    use crate::{
        circuit_breaker::BreakerState,
        domain::{
            ActivityId, Idempotency, Key, ManualClock, Nonce, OfferTerms, Quantity, RefundStatus, SkuId,
            Strategy, Subjects, UserId, Window,
        },
        embedded::EmbeddedLedger,
        ledger::{Ledger, LedgerRole, Stock, Terms, Timing},
        queue::{InMemoryQueue, RetryPolicy},
        service::{BatcherOptions, Maintenance, OrderRequest, OrderService, Placement},
        snowflake::{InMemoryLease, Settings},
    };

    const OPEN_FOR: Duration = Duration::from_secs(20);
    const HOLD: Duration = Duration::from_secs(60);
    const TIMING: Timing = Timing {
        payment_window: HOLD,
        payment_cap: HOLD,
        close_grace: Duration::from_secs(30),
        close_retry: Duration::from_secs(5),
    };

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Mood {
        Well,
        Refusing,
        Failing,
        Hanging,
    }

    /// A provider that behaves according to its mood.
    #[derive(Debug)]
    struct Bank {
        name: Provider,
        mood: Mutex<Mood>,
        asked: Notify,
    }

    impl Bank {
        fn new(name: &str) -> Arc<Self> {
            Arc::new(Self { name: name.parse().unwrap(), mood: Mutex::new(Mood::Well), asked: Notify::new() })
        }

        fn set(&self, mood: Mood) {
            *self.mood.lock().unwrap() = mood;
        }

        async fn answer<T>(&self, answer: T) -> Result<T, ProviderError> {
            self.asked.notify_one();
            let mood = *self.mood.lock().unwrap();
            match mood {
                Mood::Well => Ok(answer),
                Mood::Refusing => Err(ProviderError::Refused("no such currency".to_owned())),
                Mood::Failing => Err(ProviderError::Failed("502".to_owned())),
                Mood::Hanging => std::future::pending().await,
            }
        }
    }

    #[async_trait]
    impl PaymentProvider for Bank {
        fn name(&self) -> &Provider {
            &self.name
        }

        fn captures_in_parts(&self) -> bool {
            true
        }

        async fn open(&self, payment: PaymentRef, _: Money, _: Timestamp) -> Result<String, ProviderError> {
            self.answer(format!("/pay/{payment}")).await
        }

        async fn close(&self, _: PaymentRef) -> Result<Closed, ProviderError> {
            self.answer(Closed::Closed).await
        }

        async fn refund(&self, _: PaymentRef, _: &RefundTask) -> Result<RefundOutcome, ProviderError> {
            self.answer(RefundOutcome::Done).await
        }
    }

    struct Shop {
        clock: Arc<ManualClock>,
        sales: Arc<Sales>,
        ordering: OrderService,
        payments: Payments,
        /// The provider that will fail, and another one.
        bank: Arc<Bank>,
        other: Arc<Bank>,
        keys: AtomicU64,
    }

    impl Shop {
        /// Three units each of SKU 11 (pre-deduct) and SKU 12 (pay-time). Two failures in the last
        /// four calls open a breaker; two probes close it.
        async fn open() -> Self {
            let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
            let ledger: Arc<dyn Ledger> =
                Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _));
            let leases = InMemoryLease::new(0..=0);
            let settings = Settings { term: Duration::from_secs(86_400), ..Settings::default() };
            let ids =
                Arc::new(Generator::acquire(&leases, &settings, Arc::clone(&clock) as _).await.unwrap());
            let options = BatcherOptions::default();
            let sales = Arc::new(Sales::new(ledger, Arc::clone(&clock) as _, Handle::current(), options));
            let price = Money::new(9_900, "CNY".parse().unwrap()).unwrap();
            let offer = |sku, strategy| OfferTerms::new(sku, price, 3, strategy, Some(HOLD)).unwrap();
            let offers = vec![offer(sku(11), Strategy::PreDeduct), offer(sku(12), Strategy::PayTime)];
            let window = Window::new(Timestamp::EPOCH, Timestamp::MAX).unwrap();
            let terms = Terms::new(activity(), window, NonZeroU16::MIN, TIMING, offers).unwrap();
            sales.open(Arc::new(terms)).await.unwrap();
            let (bank, other) = (Bank::new("bank"), Bank::new("other"));
            let providers = [Arc::clone(&bank) as Arc<dyn PaymentProvider>, Arc::clone(&other) as _];
            let breaker = BreakerOptions::new(4, 2, OPEN_FOR, 2).unwrap();
            let payments = Payments::with_breakers(Arc::clone(&sales), Arc::clone(&ids), providers, breaker);
            let ordering = OrderService::new(Arc::clone(&sales), ids);
            Self { clock, sales, ordering, payments, bank, other, keys: AtomicU64::new(0) }
        }

        async fn order(&self, of: u64) -> Order {
            let number = self.keys.fetch_add(1, SeqCst);
            let request = OrderRequest {
                user: user(),
                activity: activity(),
                sku: sku(of),
                quantity: Quantity::ONE,
                idempotency: Idempotency { key: Key::of_text(&number.to_string()), nonce: Nonce(number) },
                subjects: Subjects::default(),
                ticket_expired: false,
            };
            match self.ordering.place(&request).await.unwrap() {
                Placement::Placed(order, _) => *order,
                other => panic!("{other:?}"),
            }
        }

        async fn reload(&self, order: &Order) -> Order {
            self.ordering.order(order.key).await.unwrap().unwrap()
        }

        async fn pay(&self, order: &Order, at: &Bank) -> Result<OpenedPayment, ServiceError> {
            Ok(self.payments.open(order.key, &at.name).await?.expect("the order takes a payment"))
        }

        fn state(&self, of: &Bank) -> BreakerState {
            let name = format!("payment/{}", of.name);
            self.payments.breakers().find(|breaker| breaker.name() == name).unwrap().read().state
        }

        /// Opens the bank's breaker by opening the payments of two orders while the bank fails.
        async fn open_breaker(&self) -> [Order; 2] {
            let orders = [self.order(11).await, self.order(11).await];
            self.bank.set(Mood::Failing);
            for order in &orders {
                let error = self.pay(order, &self.bank).await.unwrap_err();
                assert!(matches!(error, ServiceError::Provider(_)), "{error}");
            }
            assert_eq!(self.state(&self.bank), BreakerState::Open);
            orders
        }

        async fn stock(&self, of: u64) -> Stock {
            self.sales.ledger().stock(activity(), sku(of)).await.unwrap().unwrap()
        }

        fn capture(&self, opened: &OpenedPayment, transaction: &str) -> Capture {
            Capture {
                provider: opened.payment.provider.clone(),
                event: transaction.parse().unwrap(),
                transaction: transaction.parse().unwrap(),
                payment: opened.payment.id,
                amount: 9_900,
                currency: "CNY".parse().unwrap(),
            }
        }
    }

    fn activity() -> ActivityId {
        ActivityId::new(1).unwrap()
    }

    fn sku(id: u64) -> SkuId {
        SkuId::new(id).unwrap()
    }

    fn user() -> UserId {
        UserId::new(7).unwrap()
    }

    #[track_caller]
    fn expect_unavailable<T: Debug>(result: Result<T, ServiceError>, wait: Duration) {
        match result {
            Err(ServiceError::ProviderUnavailable { retry_after }) => assert_eq!(retry_after, wait),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn no_order_waits_for_a_payment_that_nobody_can_make() {
        let shop = Shop::open().await;
        let (held, unheld) = (shop.order(11).await, shop.order(12).await);
        let [opened, _] = shop.open_breaker().await;
        assert_eq!(shop.reload(&opened).await.status, OrderStatus::Paying);
        for order in [&held, &unheld] {
            expect_unavailable(shop.pay(order, &shop.bank).await, OPEN_FOR);
            assert_eq!(shop.reload(order).await, *order, "the order is unchanged");
        }
        assert_eq!(shop.stock(12).await.available, 3, "no payment was opened, so no units were taken");
        expect_unavailable(shop.pay(&opened, &shop.bank).await, OPEN_FOR);

        // The other provider has its own breaker, and a payment open there stays there.
        let there = shop.pay(&held, &shop.other).await.unwrap();
        assert_eq!(shop.pay(&held, &shop.bank).await.unwrap().payment, there.payment);
        // A payment that is open at the bank stays there, whichever provider is requested.
        expect_unavailable(shop.pay(&opened, &shop.other).await, OPEN_FOR);

        // Two successful probes close the breaker: an open payment, then a new one.
        shop.bank.set(Mood::Well);
        shop.clock.advance(OPEN_FOR);
        let resumed = shop.pay(&opened, &shop.bank).await.unwrap();
        assert_eq!(Some(&resumed.payment), shop.reload(&opened).await.payment());
        assert_eq!(shop.state(&shop.bank), BreakerState::HalfOpen);
        assert!(shop.pay(&unheld, &shop.bank).await.unwrap().new);
        assert_eq!(shop.state(&shop.bank), BreakerState::Closed);
    }

    #[tokio::test]
    async fn orders_that_take_no_payment_say_so_while_the_breaker_is_open() {
        let shop = Shop::open().await;
        let cancelled = shop.order(11).await;
        shop.ordering.cancel(cancelled.key, &shop.payments).await.unwrap();
        shop.open_breaker().await;
        let open = async |key| shop.payments.open(key, &shop.bank.name).await.unwrap().unwrap_err();
        assert_eq!(open(cancelled.key).await, Advanced::WrongState(OrderStatus::Cancelled));
        let stranger = OrderKey { user: UserId::new(8).unwrap(), ..cancelled.key };
        assert_eq!(open(stranger).await, Advanced::NotFound);
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let shop = Shop::open().await;
        let order = shop.order(11).await;
        shop.bank.set(Mood::Refusing);
        for _ in 0..9 {
            let error = shop.pay(&order, &shop.bank).await.unwrap_err();
            assert!(matches!(error, ServiceError::Provider(_)), "{error}");
        }
        assert_eq!(shop.state(&shop.bank), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_does_not_answer_fails() {
        let shop = Shop::open().await;
        let order = shop.order(11).await;
        shop.bank.set(Mood::Hanging);
        for _ in 0..2 {
            assert_eq!(shop.state(&shop.bank), BreakerState::Closed);
            let error = shop.pay(&order, &shop.bank).await.unwrap_err();
            assert!(error.to_string().contains("no answer within 10 s"), "{error}");
        }
        expect_unavailable(shop.pay(&order, &shop.bank).await, OPEN_FOR);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_caller_returns_its_probe() {
        let shop = Shop::open().await;
        let [order, _] = shop.open_breaker().await;
        shop.clock.advance(OPEN_FOR);
        shop.bank.set(Mood::Hanging);
        // Uses up the notification of the failed calls.
        shop.bank.asked.notified().await;
        for _ in 0..5 {
            tokio::select! {
                answer = shop.pay(&order, &shop.bank) => panic!("{answer:?}"),
                () = shop.bank.asked.notified() => {}
            }
        }
        shop.bank.set(Mood::Well);
        shop.pay(&order, &shop.bank).await.unwrap();
        shop.pay(&order, &shop.bank).await.unwrap();
        assert_eq!(shop.state(&shop.bank), BreakerState::Closed);
    }

    #[tokio::test]
    async fn captures_are_recorded_while_the_breaker_is_open_and_refunded_later() {
        let shop = Shop::open().await;
        let (paid, late) = (shop.order(12).await, shop.order(12).await);
        let opened = [shop.pay(&paid, &shop.bank).await.unwrap(), shop.pay(&late, &shop.bank).await.unwrap()];
        let late_money = shop.capture(&opened[1], "late");
        shop.payments.failed(&shop.bank.name, opened[1].reference).await.unwrap();
        shop.ordering.cancel(late.key, &shop.payments).await.unwrap();
        shop.open_breaker().await;

        let lane = Lane::of(activity(), user(), NonZeroU16::MIN);
        let outcome = shop.payments.captured(lane, shop.capture(&opened[0], "in time")).await.unwrap();
        assert!(matches!(outcome, CaptureResult::Applied(Advanced::Done(_))), "{outcome:?}");
        let outcome = shop.payments.captured(lane, late_money).await.unwrap();
        assert!(matches!(outcome, CaptureResult::Applied(Advanced::RefundDue(..))), "{outcome:?}");

        let tasks = shop.sales.ledger().refunds_due(lane, None, 10).await.unwrap();
        assert_eq!(tasks.len(), 1);
        expect_unavailable(shop.payments.refund(&tasks[0]).await, OPEN_FOR);
        let refund = |order: &Order| order.refund().map(|total| total.status);
        assert_eq!(refund(&shop.reload(&late).await), Some(RefundStatus::Due));
        shop.bank.set(Mood::Well);
        shop.clock.advance(OPEN_FOR);
        shop.payments.refund(&tasks[0]).await.unwrap();
        assert_eq!(refund(&shop.reload(&late).await), Some(RefundStatus::Done));
    }

    #[tokio::test]
    async fn orders_expire_whose_payments_cannot_be_closed() {
        let shop = Shop::open().await;
        let orders = shop.open_breaker().await;
        let queue = Arc::new(InMemoryQueue::new(Arc::clone(&shop.clock) as _));
        let maintenance =
            Maintenance::new(Arc::clone(&shop.sales), shop.payments.clone(), queue, RetryPolicy::default());
        assert_eq!(shop.stock(11).await.available, 1);
        shop.clock.advance(HOLD);
        // The breaker is half-open: both closings are tried, and the first failure opens it again.
        maintenance.expire_once().await.unwrap();
        assert_eq!(shop.state(&shop.bank), BreakerState::Open);
        assert_eq!(shop.reload(&orders[0]).await.status, OrderStatus::Paying);
        shop.clock.advance(TIMING.close_retry);
        maintenance.expire_once().await.unwrap();
        assert_eq!(shop.reload(&orders[0]).await.status, OrderStatus::Paying, "its grace is not over yet");
        shop.clock.advance(TIMING.close_grace);
        maintenance.expire_once().await.unwrap();
        for order in &orders {
            assert_eq!(shop.reload(order).await.status, OrderStatus::Expired);
        }
        assert_eq!(shop.stock(11).await.available, 3);
    }
}
