//! A ledger on which one case plays, step by step.

use std::{fmt::Debug, sync::Arc};

use super::{
    LedgerUnderTest, Options,
    failure::Failure,
    make::{self, Ask},
    word,
};
use crate::{
    domain::{ActivityId, Capture, OfferTerms, Order, OrderId, Timestamp},
    ledger::{
        Adjustment, Advance, Advanced, Change, ChangeId, Due, Epoch, Gate, Lane, Ledger, LedgerError,
        LedgerRole, Outcome, Reserve, Terms, Truth,
        invariants::{self, Owing},
        state_machine::Inspection,
    },
};

/// What a case comes to.
pub(super) type Check = Result<(), Failure>;

/// A ledger on which one case plays. Every change is a numbered step, after which the invariants are checked.
pub(super) struct Scene {
    /// The ledger under test.
    pub(super) subject: LedgerUnderTest,
    /// Of a gate its truth, of a truth its gate.
    pub(super) other: Option<LedgerUnderTest>,
    pub(super) role: LedgerRole,
    pub(super) options: Options,
    pub(super) rng: fastrand::Rng,
    /// The present terms of the last opened activity, as the case wrote them.
    pub(super) terms: Option<Arc<Terms>>,
    opened: Vec<(ActivityId, u16)>,
    /// How many activities this scene has seen.
    activities: u64,
    /// The start of the sale opened last.
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

    /// The gate of the scene, under test or beside it.
    pub(super) fn gate(&self) -> Arc<dyn Gate> {
        let other = self.other.as_ref().and_then(|other| other.gate.as_ref());
        Arc::clone(self.subject.gate.as_ref().or(other).expect("the scene has a gate"))
    }

    /// The truth of the scene, under test or beside it.
    pub(super) fn truth(&self) -> Arc<dyn Truth> {
        let other = self.other.as_ref().and_then(|other| other.truth.as_ref());
        Arc::clone(self.subject.truth.as_ref().or(other).expect("the scene has a truth"))
    }

    // Steps.

    /// Notes a step that the case takes itself.
    pub(super) fn note(&mut self, did: impl Into<String>) {
        self.steps += 1;
        self.trail.push(did.into());
        if self.trail.len() > 14 {
            self.trail.remove(0);
        }
    }

    /// Fails unless both are equal.
    pub(super) fn same<T: PartialEq + Debug>(&self, what: &str, expected: T, observed: T) -> Check {
        if expected == observed {
            return Ok(());
        }
        Err(self.failure(&format!("{what}: {expected:?}"), format!("{observed:?}")))
    }

    /// Fails unless it holds.
    pub(super) fn holds(&self, what: &str, holds: bool, observed: impl Debug) -> Check {
        if holds { Ok(()) } else { Err(self.failure(what, format!("{observed:?}"))) }
    }

    /// The value, or a failure.
    pub(super) fn ok<T>(&self, what: &str, result: Result<T, LedgerError>) -> Result<T, Failure> {
        result.map_err(|error| self.failure(what, format!("error: {error}")))
    }

    pub(super) fn failure(&self, expected: &str, observed: String) -> Failure {
        let (did, before) =
            self.trail.split_last().map_or((String::new(), &[][..]), |(did, before)| (did.clone(), before));
        Failure { step: self.steps, did, expected: expected.to_owned(), observed, before: before.to_vec() }
    }

    /// Lets everything that is under way arrive, and checks the invariants of every open activity.
    pub(super) async fn check(&self) -> Check {
        self.subject.probe.settle().await;
        for (activity, _) in &self.opened {
            self.inspect(*activity).await?;
        }
        Ok(())
    }

    /// An activity with all counters, after its invariants were checked.
    pub(super) async fn inspect(&self, activity: ActivityId) -> Result<Inspection, Failure> {
        let inspection = self.subject.probe.inspect(activity).await;
        let inspection = inspection.ok_or_else(|| self.failure("an open activity", "not open".into()))?;
        let owing = if self.role == LedgerRole::Gate { Owing::Allowed } else { Owing::Forbidden };
        let broken = invariants::check(&inspection, owing);
        if broken.is_empty() {
            return Ok(inspection);
        }
        let broken: Vec<_> = broken.iter().map(ToString::to_string).collect();
        Err(self.failure("the invariants hold", broken.join("; ")))
    }

    // Time.

    /// A moment, in seconds after the start of the sale.
    pub(super) fn moment(&self, seconds: u64) -> Timestamp {
        self.start.after(make::seconds(seconds))
    }

    /// Moves the time of all lanes to that many seconds after the start of the sale.
    pub(super) async fn time(&mut self, seconds: u64) -> Check {
        self.time_at(self.moment(seconds)).await
    }

    pub(super) async fn time_at(&mut self, to: Timestamp) -> Check {
        self.now = self.now.max(to);
        for subject in [Some(&self.subject), self.other.as_ref()].into_iter().flatten() {
            for lane in self.lanes() {
                if subject.truth.is_none() || lane.bucket == 0 {
                    subject.probe.advance_time(lane, self.now).await;
                }
            }
        }
        self.check().await
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    // Opening.

    /// Terms of another activity, on sale from now on for [`make::SALE`].
    pub(super) fn next_terms(&mut self, buckets: u16, offers: Vec<OfferTerms>) -> Terms {
        self.activities += 1;
        make::terms(self.activities, buckets, self.now, offers)
    }

    /// Opens another activity of one bucket, and leaves those before alone.
    pub(super) async fn open(&mut self, offers: Vec<OfferTerms>) -> Check {
        self.open_over(1, offers).await
    }

    /// Opens another activity over several buckets, and leaves those before alone.
    pub(super) async fn open_over(&mut self, buckets: u16, offers: Vec<OfferTerms>) -> Check {
        self.leave();
        let terms = self.next_terms(buckets, offers);
        self.open_terms(terms).await
    }

    /// Leaves the activities alone that are open.
    pub(super) fn leave(&mut self) {
        self.opened.clear();
    }

    /// Opens one activity more.
    pub(super) async fn open_terms(&mut self, terms: Terms) -> Check {
        let terms = Arc::new(terms);
        self.note(format!("open activity {}", terms.activity()));
        self.ok("open", self.ledger().open(Arc::clone(&terms)).await)?;
        self.opened(terms).await
    }

    /// Makes the activity known to the scene, which somebody opened.
    pub(super) async fn opened(&mut self, terms: Arc<Terms>) -> Check {
        self.opened.push((terms.activity(), terms.buckets().get()));
        self.start = self.now;
        self.terms = Some(terms);
        self.time_at(self.now).await
    }

    /// All lanes of all activities.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        let lanes = self
            .opened
            .iter()
            .flat_map(|(activity, buckets)| (0..*buckets).map(|bucket| Lane { activity: *activity, bucket }));
        lanes.collect()
    }

    /// The lane of a buyer in the activity opened last.
    pub(super) fn lane(&self, buyer: u64) -> Lane {
        let terms = self.terms.as_ref().expect("an activity is open");
        match self.role {
            LedgerRole::Truth => Lane::first(terms.activity()),
            LedgerRole::Single | LedgerRole::Gate => {
                Lane::of(terms.activity(), make::user(buyer), terms.buckets())
            }
        }
    }

    /// A buyer whose lane is this bucket, the `n`-th such, from 1.
    pub(super) fn buyer_of(&self, bucket: u16, n: usize) -> u64 {
        (1..).filter(|buyer| self.lane(*buyer).bucket == bucket).nth(n - 1).expect("there are many numbers")
    }

    /// Changes the activity opened last, under the next number.
    pub(super) async fn amend(&mut self, change: Change) -> Check {
        let activity = self.terms.as_ref().expect("an activity is open").activity();
        self.changes += 1;
        self.note(format!("amend {} to {change:?}", self.changes));
        let id = ChangeId(self.changes);
        self.ok("amended", self.ledger().amend(activity, id, change, make::by()).await)?;
        self.check().await
    }

    // Deciding.

    /// A number that was not used for an order, a key or a payment.
    pub(super) fn fresh(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// A request of a buyer for one unit of SKU 1, with fresh id, key and nonce.
    pub(super) fn ask(&mut self, buyer: u64) -> Ask {
        Ask::new(self.fresh(), buyer)
    }

    /// Decides one request and compares the outcome.
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
            .map_err(|outcomes| self.failure("one outcome", format!("{outcomes:?}")))?;
        if expected == word::of_outcome(&outcome) {
            return Ok(outcome);
        }
        Err(self.failure(expected, format!("{} ({outcome:?})", word::of_outcome(&outcome))))
    }

    /// Decides requests of one lane in one batch.
    pub(super) async fn reserve_all(
        &mut self,
        asks: Vec<Ask>,
        epoch: Option<Epoch>,
    ) -> Result<Vec<Outcome>, Failure> {
        let requests: Vec<Reserve> = asks.iter().map(|ask| ask.0).collect();
        self.note(format!("reserve {requests:?}"));
        let lane = self.lane(requests[0].user.value());
        let answer = self.ok("reservations", self.ledger().reserve(lane, epoch, requests).await)?;
        self.holds("the answer carries the lane's time", answer.at >= self.now, answer.at)?;
        self.same("one outcome for each request", asks.len(), answer.outcomes.len())?;
        self.check().await?;
        Ok(answer.outcomes)
    }

    /// Places an order of one unit of SKU 1.
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
        let answer = self.ok("advances", self.ledger().advance(lane, vec![step]).await)?;
        self.holds("the answer carries the lane's time", answer.at >= self.now, answer.at)?;
        let [outcome] = <[Advanced; 1]>::try_from(answer.outcomes)
            .map_err(|outcomes| self.failure("one outcome", format!("{outcomes:?}")))?;
        self.check().await?;
        if expected == word::of_advanced(&outcome) {
            return Ok(outcome);
        }
        Err(self.failure(expected, format!("{} ({outcome:?})", word::of_advanced(&outcome))))
    }

    pub(super) async fn open_payment(&mut self, order: &Order, payment: u64, expected: &str) -> Check {
        let step = Advance::OpenPayment {
            order: order.key,
            payment: make::payment_id(payment),
            provider: make::provider("sandbox"),
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

    /// Reports a capture of the order's amount; `n` numbers event and transaction.
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
        self.advance(Advance::Capture { order: order.key, capture, replacement }, expected).await
    }

    pub(super) async fn refund(&mut self, order: &Order, units_returned: bool, expected: &str) -> Check {
        let step = Advance::Refund { order: order.key, units_returned, by: make::by() };
        self.advance(step, expected).await.map(drop)
    }

    /// Opens a payment and captures it.
    pub(super) async fn pay(&mut self, order: &Order) -> Check {
        let payment = self.fresh();
        self.open_payment(order, payment, "done paying").await?;
        self.capture(order, payment, payment, "done paid").await.map(drop)
    }

    /// Expires what is due in the lane of a buyer and compares how many orders expired and how many payments were handed
    /// out.
    pub(super) async fn expire(&mut self, buyer: u64, expected: (usize, usize)) -> Result<Due, Failure> {
        self.note("expire what is due");
        let due = self.ok("due", self.ledger().expire_due(self.lane(buyer), 1_000).await)?;
        self.check().await?;
        self.same("(expired, to be closed)", expected, (due.expired.len(), due.closing.len()))?;
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
            Ok(adjusted) => word::of_adjusted(&adjusted),
            Err(error) => word::of_error(&error).to_owned(),
        };
        self.check().await?;
        self.same("adjusted", expected.to_owned(), observed)
    }

    // Looking.

    /// Compares (available, held, sold) of an SKU of the activity opened last.
    pub(super) async fn stock(&self, sku: u64, expected: [i64; 3]) -> Check {
        let activity = self.terms.as_ref().expect("an activity is open").activity();
        let stock = self.ok("stock", self.ledger().stock(activity, make::sku(sku)).await)?;
        let observed = stock.map(|stock| [stock.available, stock.held, stock.sold]);
        self.same(&format!("SKU {sku}: [available, held, sold]"), Some(expected), observed)
    }

    /// The order as it stands now.
    pub(super) async fn order(&self, id: OrderId, buyer: u64) -> Result<Order, Failure> {
        let activity = self.lane(buyer).activity;
        let key = crate::domain::OrderKey { activity, user: make::user(buyer), id };
        let order = self.ok("an order", self.ledger().order(key).await)?;
        order.ok_or_else(|| self.failure(&format!("order {id} of user {buyer}"), "not found".into()))
    }

    /// Compares the status of an order.
    pub(super) async fn status(&self, order: &Order, expected: &str) -> Check {
        let order = self.order(order.key.id, order.key.user.value()).await?;
        self.same("status", expected, word::of_status(order.status))
    }
}
