//! Payments: opening them, what providers report, closing them, refunds.

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Sales, ServiceError, advance::advance};
use crate::{
    circuit_breaker::{Breaker, BreakerOptions, Permit, Rejected},
    domain::{
        Capture, Money, Order, OrderId, OrderKey, OrderStatus, Payment, PaymentId, Proceeds, Provider,
        Receipt, RefundStatus, Timestamp, UserId,
    },
    ledger::{Advance, Advanced, Kept, Reference, RefundOutcome, RefundTask},
    snowflake::Generator,
};

/// Somebody who takes money.
///
/// Opening and closing carry our payment id as the idempotency key, a refund the transaction that it sends back: one
/// payment may have been captured twice. A provider does each thing once for its key.
///
/// Each call is given up after 10 s, and goes through a [`Breaker`]: a provider that fails too often is left alone for a
/// while.
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
pub enum ProviderError {
    /// It answered, and does not do this: nothing is wrong with it.
    #[error("it refuses: {0}")]
    Refused(String),
    /// It did not answer, or not as agreed; too many of these open its breaker.
    #[error("it fails: {0}")]
    Failed(String),
}

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
    lines: Arc<HashMap<Provider, Line>>,
}

impl Payments {
    /// A service over these sales and providers, each behind a breaker with the default options.
    pub fn new(
        sales: Arc<Sales>,
        ids: Arc<Generator>,
        providers: impl IntoIterator<Item = Arc<dyn PaymentProvider>>,
    ) -> Self {
        Self::with_breakers(sales, ids, providers, BreakerOptions::default())
    }

    /// A service over these sales and providers, each behind a breaker that reads the clock of the sales.
    pub fn with_breakers(
        sales: Arc<Sales>,
        ids: Arc<Generator>,
        providers: impl IntoIterator<Item = Arc<dyn PaymentProvider>>,
        options: BreakerOptions,
    ) -> Self {
        let line = |provider: Arc<dyn PaymentProvider>| {
            let name = provider.name().clone();
            let breaker = Breaker::new(format!("payment/{name}"), options, Arc::clone(sales.clock()));
            (name, Line { provider, breaker })
        };
        let lines = providers.into_iter().map(line).collect();
        Self { sales, ids, lines: Arc::new(lines) }
    }

    /// The breakers of all providers; the name of each is `payment/` and the provider's.
    pub fn breakers(&self) -> impl Iterator<Item = &Breaker> {
        self.lines.values().map(|line| &line.breaker)
    }

    /// Opens a payment for an order of this user, or answers the one that is open. `Err` inside `Ok` is what the ledger
    /// said instead.
    ///
    /// The provider's breaker is asked first: while it is open an order stays PENDING, with its deadline, and takes no units
    /// (`pay_time`) for a payment that nobody can make.
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
        let mut permit = self.line(provider)?.breaker.enter();
        if let Err(rejected) = permit
            && self.needs(order, provider).await?
        {
            return Err(rejected.into());
        }
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
        let line = self.line(&payment.provider)?;
        if payment.provider != *provider {
            permit = line.breaker.enter();
        }
        let call = line.provider.open(payment.id, amount, payment.deadline);
        let pay_url = patiently(permit?, call).await?;
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
    /// [`ServiceError::Provider`] if the provider does not answer, [`ServiceError::ProviderUnavailable`] if it is left alone;
    /// the payment stays open.
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
        let line = self.line(provider)?;
        match patiently(line.breaker.enter()?, line.provider.close(payment)).await? {
            Closed::Closed => advance(&self.sales, Advance::PaymentClosed { order, payment }).await,
            Closed::Captured(capture) => self.capture(order, capture).await,
        }
    }

    /// Sends money back that has to go back.
    ///
    /// # Errors
    /// [`ServiceError`]; the refund stays due.
    pub(super) async fn refund(&self, task: &RefundTask) -> Result<Advanced, ServiceError> {
        let line = self.line(&task.capture.provider)?;
        let outcome = patiently(line.breaker.enter()?, line.provider.refund(&task.capture)).await?;
        self.settle(task, outcome).await
    }

    /// What has become of a refund, as the ledger says now; `None` if it has none such.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(super) async fn refund_of(&self, task: &RefundTask) -> Result<Option<RefundStatus>, ServiceError> {
        let order = self.sales.ledger().order(task.order).await?;
        let receipts = order.iter().flat_map(|order| &order.receipts);
        let of = |receipt: &&Receipt| {
            receipt.capture.provider == task.capture.provider
                && receipt.capture.transaction == task.capture.transaction
        };
        Ok(receipts.filter(of).find_map(|receipt| match receipt.proceeds {
            Proceeds::Refund(refund) => Some(refund.status),
            Proceeds::Paid => None,
        }))
    }

    /// Writes down that money will not go back through its provider.
    ///
    /// # Errors
    /// [`ServiceError`]; the refund stays due.
    pub(super) async fn give_up_refund(&self, task: &RefundTask) -> Result<Advanced, ServiceError> {
        self.settle(task, RefundOutcome::Failed).await
    }

    async fn settle(&self, task: &RefundTask, outcome: RefundOutcome) -> Result<Advanced, ServiceError> {
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

    /// Whether a payment of this order needs this provider: a new one, or one that is open there.
    async fn needs(&self, order: OrderKey, provider: &Provider) -> Result<bool, ServiceError> {
        let order = self.sales.ledger().order(order).await?;
        Ok(order.is_some_and(|order| match order.status {
            OrderStatus::Pending => true,
            OrderStatus::Paying => order.payment().is_some_and(|payment| payment.provider == *provider),
            _ => false,
        }))
    }

    fn line(&self, name: &Provider) -> Result<&Line, ServiceError> {
        self.lines.get(name).ok_or_else(|| ServiceError::Provider(format!("{name} is not configured")))
    }
}

/// A provider, and what stands in front of it.
#[derive(Debug)]
struct Line {
    provider: Arc<dyn PaymentProvider>,
    breaker: Breaker,
}

impl From<Rejected> for ServiceError {
    fn from(Rejected { retry_after }: Rejected) -> Self {
        Self::ProviderUnavailable { retry_after }
    }
}

/// How long a provider may take for one call.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for a provider, but not for ever: one that hangs must not hold up the others' orders.
async fn patiently<T>(
    permit: Permit<'_>,
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ServiceError> {
    let error = match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer @ (Ok(_) | Err(ProviderError::Refused(_)))) => {
            permit.succeeded();
            return answer.map_err(|refused| ServiceError::Provider(refused.to_string()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
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
            Strategy, Subjects, Window,
        },
        embedded::EmbeddedLedger,
        ledger::{Lane, Ledger, LedgerRole, Stock, Terms, Timing},
        queue::{InMemoryQueue, Retries},
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

    /// A provider that does what its mood says.
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

        async fn open(&self, payment: PaymentId, _: Money, _: Timestamp) -> Result<String, ProviderError> {
            self.answer(format!("/pay/{payment}")).await
        }

        async fn close(&self, _: PaymentId) -> Result<Closed, ProviderError> {
            self.answer(Closed::Closed).await
        }

        async fn refund(&self, _: &Capture) -> Result<RefundOutcome, ProviderError> {
            self.answer(RefundOutcome::Done).await
        }
    }

    struct Shop {
        clock: Arc<ManualClock>,
        sales: Arc<Sales>,
        ordering: OrderService,
        payments: Payments,
        /// The provider that gets into trouble, and another one.
        bank: Arc<Bank>,
        other: Arc<Bank>,
        keys: AtomicU64,
    }

    impl Shop {
        /// Three units of SKU 11, pre-deduct, and of SKU 12, pay-time. Two failures of the last four calls open a breaker,
        /// two probes close it.
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

        async fn again(&self, order: &Order) -> Order {
            self.ordering.order(user(), order.key.id).await.unwrap().unwrap()
        }

        async fn pay(&self, order: &Order, at: &Bank) -> Result<OpenedPayment, ServiceError> {
            Ok(self.payments.open(user(), order.key.id, &at.name).await?.expect("the order takes a payment"))
        }

        fn state(&self, of: &Bank) -> BreakerState {
            let name = format!("payment/{}", of.name);
            self.payments.breakers().find(|breaker| breaker.name() == name).unwrap().read().state
        }

        /// Opens the breaker of the bank: with payments of two orders, which are opened at a bank that does not answer.
        async fn trouble(&self) -> [Order; 2] {
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
        let [opened, _] = shop.trouble().await;
        assert_eq!(shop.again(&opened).await.status, OrderStatus::Paying);
        for order in [&held, &unheld] {
            expect_unavailable(shop.pay(order, &shop.bank).await, OPEN_FOR);
            assert_eq!(shop.again(order).await, *order, "nothing of it has changed");
        }
        assert_eq!(shop.stock(12).await.available, 3, "a payment takes units, and there is none");
        expect_unavailable(shop.pay(&opened, &shop.bank).await, OPEN_FOR);

        // Another provider is another breaker, and an order that is open there is not this one's affair.
        let there = shop.pay(&held, &shop.other).await.unwrap();
        assert_eq!(shop.pay(&held, &shop.bank).await.unwrap().payment, there.payment);
        // A payment that is open at the bank stays there, whoever is asked for.
        expect_unavailable(shop.pay(&opened, &shop.other).await, OPEN_FOR);

        // Two probes that are answered, and it goes on: with the payment that was opened, and with a new one.
        shop.bank.set(Mood::Well);
        shop.clock.advance(OPEN_FOR);
        let resumed = shop.pay(&opened, &shop.bank).await.unwrap();
        assert_eq!(Some(&resumed.payment), shop.again(&opened).await.payment());
        assert_eq!(shop.state(&shop.bank), BreakerState::HalfOpen);
        assert!(shop.pay(&unheld, &shop.bank).await.unwrap().new);
        assert_eq!(shop.state(&shop.bank), BreakerState::Closed);
    }

    #[tokio::test]
    async fn what_takes_no_payment_says_so_while_the_breaker_is_open() {
        let shop = Shop::open().await;
        let cancelled = shop.order(11).await;
        shop.ordering.cancel(user(), cancelled.key.id, &shop.payments).await.unwrap();
        shop.trouble().await;
        let open = async |user, id| shop.payments.open(user, id, &shop.bank.name).await.unwrap().unwrap_err();
        assert_eq!(open(user(), cancelled.key.id).await, Advanced::WrongState(OrderStatus::Cancelled));
        assert_eq!(open(UserId::new(8).unwrap(), cancelled.key.id).await, Advanced::NotFound);
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
    async fn a_caller_that_goes_away_gives_its_probe_back() {
        let shop = Shop::open().await;
        let [order, _] = shop.trouble().await;
        shop.clock.advance(OPEN_FOR);
        shop.bank.set(Mood::Hanging);
        // The permit of the call before.
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
    async fn money_that_was_taken_is_booked_and_goes_back_later() {
        let shop = Shop::open().await;
        let (paid, late) = (shop.order(12).await, shop.order(12).await);
        let opened = [shop.pay(&paid, &shop.bank).await.unwrap(), shop.pay(&late, &shop.bank).await.unwrap()];
        let late_money = shop.capture(&opened[1], "late");
        shop.payments.failed(&shop.bank.name, opened[1].payment.id).await.unwrap();
        shop.ordering.cancel(user(), late.key.id, &shop.payments).await.unwrap();
        shop.trouble().await;

        let outcome = shop.payments.captured(shop.capture(&opened[0], "in time")).await.unwrap();
        assert!(matches!(outcome, CaptureResult::Applied(Advanced::Done(_))), "{outcome:?}");
        let outcome = shop.payments.captured(late_money).await.unwrap();
        assert!(matches!(outcome, CaptureResult::Applied(Advanced::RefundDue(..))), "{outcome:?}");

        let lane = Lane::of(activity(), user(), NonZeroU16::MIN);
        let tasks = shop.sales.ledger().refunds_due(lane, None, 10).await.unwrap();
        assert_eq!(tasks.len(), 1);
        expect_unavailable(shop.payments.refund(&tasks[0]).await, OPEN_FOR);
        let refund = |order: &Order| order.refund().map(|(_, refund)| refund.status);
        assert_eq!(refund(&shop.again(&late).await), Some(RefundStatus::Due));
        shop.bank.set(Mood::Well);
        shop.clock.advance(OPEN_FOR);
        shop.payments.refund(&tasks[0]).await.unwrap();
        assert_eq!(refund(&shop.again(&late).await), Some(RefundStatus::Done));
    }

    #[tokio::test]
    async fn orders_expire_whose_payments_cannot_be_closed() {
        let shop = Shop::open().await;
        let orders = shop.trouble().await;
        let queue = Arc::new(InMemoryQueue::new(Arc::clone(&shop.clock) as _));
        let upkeep =
            Maintenance::new(Arc::clone(&shop.sales), shop.payments.clone(), queue, Retries::default());
        assert_eq!(shop.stock(11).await.available, 1);
        shop.clock.advance(HOLD);
        // Half-open by now: both are asked for, and the first failure opens it again.
        upkeep.expire_once().await.unwrap();
        assert_eq!(shop.state(&shop.bank), BreakerState::Open);
        assert_eq!(shop.again(&orders[0]).await.status, OrderStatus::Paying);
        shop.clock.advance(TIMING.close_retry);
        upkeep.expire_once().await.unwrap();
        assert_eq!(shop.again(&orders[0]).await.status, OrderStatus::Paying, "not before its grace is over");
        shop.clock.advance(TIMING.close_grace);
        upkeep.expire_once().await.unwrap();
        for order in &orders {
            assert_eq!(shop.again(order).await.status, OrderStatus::Expired);
        }
        assert_eq!(shop.stock(11).await.available, 3);
    }
}
