//! The scene: the ledger under test, with the steps and checks of one case.

use std::{fmt::Debug, sync::Arc};

use super::{
    LedgerUnderTest, Options,
    failure::Failure,
    make::{self, Ask},
    name,
};
use crate::{
    domain::{ActivityId, Capture, Key, OfferTerms, Order, OrderId, RefundOrder, ReversalKind, Timestamp},
    ledger::{
        Adjustment, Advance, Advanced, Change, ChangeId, Due, Epoch, Lane, Ledger, LedgerCalls as _,
        LedgerError, LedgerRole, Outcome, Reserve, Terms,
        invariants::{self, OwedUnits},
        state_machine::Inspection,
    },
};

/// The result of a check or of a whole case.
pub(super) type Check = Result<(), Failure>;

/// The ledger under test in one case. Each change is a numbered step; then invariants are checked.
pub(super) struct Scene {
    /// The ledger under test.
    pub(super) subject: LedgerUnderTest,
    /// The other tier: a gate's truth, or a truth's gate.
    pub(super) other: Option<LedgerUnderTest>,
    pub(super) role: LedgerRole,
    pub(super) options: Options,
    pub(super) rng: fastrand::Rng,
    /// The terms with which the current activity was opened.
    pub(super) terms: Option<Arc<Terms>>,
    opened: Vec<(ActivityId, u16)>,
    /// The number of activities opened so far.
    activities: u64,
    /// The start of the current activity's sale.
    start: Timestamp,
    now: Timestamp,
    ids: u64,
    changes: u64,
    steps: usize,
    trail: Vec<String>,
}

impl Scene {
    pub(super) fn new(subject: LedgerUnderTest, role: LedgerRole, options: &Options) -> Self {
        Self {
            subject,
            other: None,
            role,
            rng: fastrand::Rng::with_seed(options.seed),
            options: options.clone(),
            terms: None,
            opened: Vec::new(),
            activities: 0,
            start: make::START,
            now: make::START,
            ids: 100,
            changes: 0,
            steps: 0,
            trail: Vec::new(),
        }
    }

    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    pub(super) fn ledger(&self) -> Arc<dyn Ledger> {
        Arc::clone(&self.subject.ledger)
    }

    /// Returns the gate, which is either under test or the other tier.
    pub(super) fn gate(&self) -> Arc<dyn Ledger> {
        self.tier(LedgerRole::Gate)
    }

    /// Returns the truth, which is either under test or the other tier.
    pub(super) fn truth(&self) -> Arc<dyn Ledger> {
        self.tier(LedgerRole::Truth)
    }

    fn tier(&self, role: LedgerRole) -> Arc<dyn Ledger> {
        let tiers = [Some(&self.subject), self.other.as_ref()].into_iter().flatten();
        let tier = tiers.map(|subject| &subject.ledger).find(|ledger| ledger.role() == role);
        Arc::clone(tier.expect("the scene has both tiers"))
    }

    // Steps.

    /// Records a step that the case takes by calling the ledger directly.
    pub(super) fn note(&mut self, did: impl Into<String>) {
        self.steps += 1;
        self.trail.push(did.into());
        if self.trail.len() > 14 {
            self.trail.remove(0);
        }
    }

    /// Fails unless the two values are equal.
    pub(super) fn same<T: PartialEq + Debug>(&self, what: &str, expected: T, observed: T) -> Check {
        if expected == observed {
            return Ok(());
        }
        Err(self.failure(&format!("{what}: {expected:?}"), format!("{observed:?}")))
    }

    /// Fails unless the condition holds.
    pub(super) fn holds(&self, what: &str, holds: bool, observed: impl Debug) -> Check {
        if holds { Ok(()) } else { Err(self.failure(what, format!("{observed:?}"))) }
    }

    /// Returns the value; an error of the ledger's method `call` is a failure.
    pub(super) fn ok<T>(&self, call: &str, result: Result<T, LedgerError>) -> Result<T, Failure> {
        result.map_err(|error| self.failure(&format!("`{call}` succeeds"), format!("error: {error}")))
    }

    pub(super) fn failure(&self, expected: &str, observed: String) -> Failure {
        let (did, before) =
            self.trail.split_last().map_or((String::new(), &[][..]), |(did, before)| (did.clone(), before));
        Failure { step: self.steps, did, expected: expected.to_owned(), observed, before: before.to_vec() }
    }

    /// Settles the ledger and checks the invariants of the current activities.
    pub(super) async fn check(&self) -> Check {
        self.subject.probe.settle().await;
        for (activity, _) in &self.opened {
            self.inspect(*activity).await?;
        }
        Ok(())
    }

    /// Returns an activity with all its counters, after checking its invariants.
    pub(super) async fn inspect(&self, activity: ActivityId) -> Result<Inspection, Failure> {
        let inspection = self.subject.probe.inspect(activity).await;
        let inspection = inspection.ok_or_else(|| self.failure("an open activity", "not open".into()))?;
        let owing = if self.role == LedgerRole::Gate { OwedUnits::Allowed } else { OwedUnits::Forbidden };
        let broken = invariants::check(&inspection, owing);
        if broken.is_empty() {
            return Ok(inspection);
        }
        let broken: Vec<_> = broken.iter().map(ToString::to_string).collect();
        Err(self.failure("the invariants hold", broken.join("; ")))
    }

    // Time.

    /// Returns the moment `seconds` after the start of the sale.
    pub(super) fn moment(&self, seconds: u64) -> Timestamp {
        self.start.after(make::seconds(seconds))
    }

    /// Moves the time of all lanes to `seconds` after the start of the sale.
    pub(super) async fn time(&mut self, seconds: u64) -> Check {
        self.time_at(self.moment(seconds)).await
    }

    pub(super) async fn time_at(&mut self, to: Timestamp) -> Check {
        self.now = self.now.max(to);
        for subject in [Some(&self.subject), self.other.as_ref()].into_iter().flatten() {
            for lane in self.lanes() {
                if subject.ledger.role() != LedgerRole::Truth || lane.bucket == 0 {
                    subject.probe.advance_time(lane, self.now).await;
                }
            }
        }
        self.check().await
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Records that the time of all lanes was stepped.
    pub(super) fn stepped(&mut self, by_ms: i64) {
        self.now = self.now.moved(by_ms);
    }

    // Opening.

    /// Makes terms of another activity, on sale from now for [`make::SALE`].
    pub(super) fn next_terms(&mut self, buckets: u16, offers: Vec<OfferTerms>) -> Terms {
        self.activities += 1;
        make::terms(self.activities, buckets, self.now, offers)
    }

    /// Opens an activity of one bucket and makes it the current one.
    pub(super) async fn open(&mut self, offers: Vec<OfferTerms>) -> Check {
        self.open_over(1, offers).await
    }

    /// Opens an activity of several buckets and makes it the current one.
    pub(super) async fn open_over(&mut self, buckets: u16, offers: Vec<OfferTerms>) -> Check {
        self.leave();
        let terms = self.next_terms(buckets, offers);
        self.open_terms(terms).await
    }

    /// Stops checking the activities opened so far and moving their time.
    pub(super) fn leave(&mut self) {
        self.opened.clear();
    }

    /// Opens a further activity, beside those that are current.
    pub(super) async fn open_terms(&mut self, terms: Terms) -> Check {
        let terms = Arc::new(terms);
        self.note(format!("open activity {}", terms.activity()));
        self.ok("open", self.ledger().open(Arc::clone(&terms)).await)?;
        self.opened(terms).await
    }

    /// Makes an activity that is already open current.
    pub(super) async fn opened(&mut self, terms: Arc<Terms>) -> Check {
        self.opened.push((terms.activity(), terms.buckets().get()));
        self.start = self.now;
        self.terms = Some(terms);
        self.time_at(self.now).await
    }

    /// Returns all lanes of the current activities.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        let lanes = self
            .opened
            .iter()
            .flat_map(|(activity, buckets)| (0..*buckets).map(|bucket| Lane { activity: *activity, bucket }));
        lanes.collect()
    }

    /// Returns the lane of a buyer in the last opened activity.
    pub(super) fn lane(&self, buyer: u64) -> Lane {
        let terms = self.terms.as_ref().expect("an activity is open");
        match self.role {
            LedgerRole::Truth => Lane::first(terms.activity()),
            LedgerRole::Single | LedgerRole::Gate => {
                Lane::of(terms.activity(), make::user(buyer), terms.buckets())
            }
        }
    }

    /// Returns the `n`-th buyer, from 1, whose lane is this bucket.
    pub(super) fn buyer_of(&self, bucket: u16, n: usize) -> u64 {
        (1..).filter(|buyer| self.lane(*buyer).bucket == bucket).nth(n - 1).expect("every bucket has buyers")
    }

    /// Amends the last opened activity under the next change id.
    pub(super) async fn amend(&mut self, change: Change) -> Check {
        let activity = self.terms.as_ref().expect("an activity is open").activity();
        self.changes += 1;
        self.note(format!("amend {} to {change:?}", self.changes));
        let id = ChangeId(self.changes);
        self.ok("amend", self.ledger().amend(activity, id, change, make::by()).await)?;
        self.check().await
    }

    // Deciding.

    /// Returns a number that was not used for an order, key or payment before.
    pub(super) fn fresh(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Makes a request of a buyer for one unit of SKU 1, with a fresh id, key and nonce.
    pub(super) fn ask(&mut self, buyer: u64) -> Ask {
        Ask::new(self.fresh(), buyer)
    }

    /// Sends one request and compares the outcome.
    pub(super) async fn reserve(&mut self, ask: Ask, expected: &str) -> Result<Outcome, Failure> {
        self.reserve_in(ask, None, expected).await
    }

    pub(super) async fn reserve_in(
        &mut self,
        ask: Ask,
        epoch: Option<Epoch>,
        expected: &str,
    ) -> Result<Outcome, Failure> {
        let outcomes = self.reserve_all(vec![ask], epoch).await?;
        let [outcome] = <[Outcome; 1]>::try_from(outcomes)
            .map_err(|outcomes| self.failure("`reserve` returns one outcome", format!("{outcomes:?}")))?;
        if expected == name::of_outcome(&outcome) {
            return Ok(outcome);
        }
        Err(self.failure(expected, format!("{} ({outcome:?})", name::of_outcome(&outcome))))
    }

    /// Sends requests of one lane in one batch.
    pub(super) async fn reserve_all(
        &mut self,
        asks: Vec<Ask>,
        epoch: Option<Epoch>,
    ) -> Result<Vec<Outcome>, Failure> {
        let requests: Vec<Reserve> = asks.iter().map(|ask| ask.0).collect();
        self.note(format!("reserve {requests:?}"));
        let lane = self.lane(requests[0].user.value());
        let answer = self.ok("reserve", self.ledger().reserve(lane, epoch, requests).await)?;
        self.holds("the answer carries the time that was set, or later", answer.at >= self.now, answer.at)?;
        self.same("number of outcomes", asks.len(), answer.outcomes.len())?;
        self.check().await?;
        Ok(answer.outcomes)
    }

    /// Places an order for one unit of SKU 1.
    pub(super) async fn place(&mut self, buyer: u64) -> Result<Order, Failure> {
        let ask = self.ask(buyer);
        self.place_ask(ask).await
    }

    /// Places an order.
    pub(super) async fn place_ask(&mut self, ask: Ask) -> Result<Order, Failure> {
        let outcome = self.reserve(ask, "reserved").await?;
        let order = outcome.order().cloned();
        order.ok_or_else(|| self.failure("an order", format!("{outcome:?}")))
    }

    /// Takes a step and compares the outcome.
    pub(super) async fn advance(&mut self, step: Advance, expected: &str) -> Result<Advanced, Failure> {
        self.note(format!("{step:?}"));
        let lane = self.lane(step.order().user.value());
        let answer = self.ok("advance", self.ledger().advance(lane, vec![step]).await)?;
        self.holds("the answer carries the time that was set, or later", answer.at >= self.now, answer.at)?;
        let [outcome] = <[Advanced; 1]>::try_from(answer.outcomes)
            .map_err(|outcomes| self.failure("`advance` returns one outcome", format!("{outcomes:?}")))?;
        self.check().await?;
        if expected == name::of_advanced(&outcome) {
            return Ok(outcome);
        }
        Err(self.failure(expected, format!("{} ({outcome:?})", name::of_advanced(&outcome))))
    }

    pub(super) async fn open_payment(&mut self, order: &Order, payment: u64, expected: &str) -> Check {
        let step = Advance::OpenPayment {
            order: order.key,
            payment: make::payment_id(payment),
            provider: make::provider("sandbox"),
            in_parts: false,
        };
        self.advance(step, expected).await.map(drop)
    }

    pub(super) async fn fail_payment(&mut self, order: &Order, payment: u64, expected: &str) -> Check {
        let step = Advance::PaymentFailed { order: order.key, payment: make::payment_id(payment) };
        self.advance(step, expected).await.map(drop)
    }

    pub(super) async fn close_payment(&mut self, order: &Order, payment: u64, expected: &str) -> Check {
        let step = Advance::PaymentClosed { order: order.key, payment: make::payment_id(payment) };
        self.advance(step, expected).await.map(drop)
    }

    pub(super) async fn cancel(&mut self, order: &Order, expected: &str) -> Check {
        self.advance(Advance::Cancel { order: order.key, by: None }, expected).await.map(drop)
    }

    /// Captures the order's amount; `n` names the provider's event and transaction.
    pub(super) async fn capture(
        &mut self,
        order: &Order,
        payment: u64,
        n: u64,
        expected: &str,
    ) -> Result<Advanced, Failure> {
        self.capture_as(order, make::capture_of(order, payment, n), expected).await
    }

    pub(super) async fn capture_as(
        &mut self,
        order: &Order,
        capture: Capture,
        expected: &str,
    ) -> Result<Advanced, Failure> {
        let replacement = make::order_id(self.fresh());
        let step = Advance::Capture { order: order.key, capture, in_parts: false, replacement };
        self.advance(step, expected).await
    }

    /// Captures a part of the order's amount; `n` names the provider's event and transaction.
    pub(super) async fn capture_part(
        &mut self,
        order: &Order,
        payment: u64,
        n: u64,
        amount: u64,
        expected: &str,
    ) -> Check {
        let capture = Capture { amount, ..make::capture_of(order, payment, n) };
        let replacement = make::order_id(self.fresh());
        let step = Advance::Capture { order: order.key, capture, in_parts: true, replacement };
        self.advance(step, expected).await.map(drop)
    }

    /// Refunds all that is left, and returns all units or none.
    pub(super) async fn refund(&mut self, order: &Order, units_returned: bool, expected: &str) -> Check {
        let key = self.fresh();
        self.refund_part(order, key, None, (!units_returned).then_some(0), expected).await
    }

    pub(super) async fn refund_part(
        &mut self,
        order: &Order,
        key: u64,
        amount: Option<u64>,
        units: Option<u32>,
        expected: &str,
    ) -> Check {
        let refund = RefundOrder { key: Key(key.into()), amount, units };
        let step = Advance::Refund { order: order.key, refund, by: make::by() };
        self.advance(step, expected).await.map(drop)
    }

    /// Reports money that went back at the provider, or a dispute; `n` names event and transaction.
    pub(super) async fn reverse(
        &mut self,
        order: &Order,
        payment: u64,
        (kind, n, amount): (ReversalKind, u64, u64),
        expected: &str,
    ) -> Check {
        let report = make::reversal_of(order, payment, kind, n, amount);
        self.advance(Advance::Reversal { order: order.key, report }, expected).await.map(drop)
    }

    /// Opens a payment and captures the order's amount.
    pub(super) async fn pay(&mut self, order: &Order) -> Check {
        let payment = self.fresh();
        self.open_payment(order, payment, "done paying").await?;
        self.capture(order, payment, payment, "done paid").await.map(drop)
    }

    /// Expires what is due in a buyer's lane, and compares the numbers of expired orders and of
    /// payments to close.
    pub(super) async fn expire(&mut self, buyer: u64, expected: (usize, usize)) -> Result<Due, Failure> {
        self.note("expire what is due");
        let due = self.ok("expire_due", self.ledger().expire_due(self.lane(buyer), 1_000).await)?;
        self.check().await?;
        self.same("(expired orders, payments to close)", expected, (due.expired.len(), due.closing.len()))?;
        Ok(due)
    }

    pub(super) async fn adjust(&mut self, id: &str, delta: i64, expected: &str) -> Check {
        self.adjust_sku(id, 1, delta, expected).await
    }

    pub(super) async fn adjust_sku(&mut self, id: &str, sku: u64, delta: i64, expected: &str) -> Check {
        let activity = self.terms.as_ref().expect("an activity is open").activity();
        let adjustment =
            Adjustment { activity, sku: make::sku(sku), id: make::adjustment_id(id), delta, by: make::by() };
        self.note(format!("adjust {id:?} of SKU {sku} by {delta}"));
        let observed = match self.ledger().adjust(adjustment).await {
            Ok(adjusted) => name::of_adjusted(&adjusted),
            Err(error) => name::of_error(&error).to_owned(),
        };
        self.check().await?;
        self.same("adjust", expected.to_owned(), observed)
    }

    // Reading.

    /// Compares (available, held, sold) of an SKU of the last opened activity.
    pub(super) async fn stock(&self, sku: u64, expected: [i64; 3]) -> Check {
        let activity = self.terms.as_ref().expect("an activity is open").activity();
        let stock = self.ok("stock", self.ledger().stock(activity, make::sku(sku)).await)?;
        let observed = stock.map(|stock| [stock.available, stock.held, stock.sold]);
        self.same(&format!("SKU {sku}: [available, held, sold]"), Some(expected), observed)
    }

    /// Returns the current state of an order.
    pub(super) async fn order(&self, id: OrderId, buyer: u64) -> Result<Order, Failure> {
        let activity = self.lane(buyer).activity;
        let key = crate::domain::OrderKey { activity, user: make::user(buyer), id };
        let order = self.ok("order", self.ledger().order(key).await)?;
        order.ok_or_else(|| self.failure(&format!("order {id} of user {buyer}"), "not found".into()))
    }

    /// Compares the status of an order.
    pub(super) async fn status(&self, order: &Order, expected: &str) -> Check {
        let order = self.order(order.key.id, order.key.user.value()).await?;
        self.same("status", expected, name::of_status(order.status))
    }
}
