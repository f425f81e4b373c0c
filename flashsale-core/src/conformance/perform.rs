//! Performs random operations on a ledger, or on a gate and its truth, and describes the answers.

use std::{num::NonZeroU16, sync::Arc};

use super::{
    LedgerUnderTest,
    make::{self, HOLD, SALE, START, TIMING},
    random_operation::{Op, RandomCapture, RandomChange, RandomKind, RandomRule, RandomStep, Setup},
};
use crate::{
    domain::{
        Capture, Idempotency, Key, LateCapture, LimitRule, Money, Nonce, OfferTerms, Order, OrderKey, Per,
        RefundOrder, ReversalKind, ReversalReport, Selling, Strategy, SubjectId, Subjects, Timestamp,
    },
    ledger::{
        Adjustment, Advance, Bucket, Change, ChangeId, Consumer, Entry, Epoch, Event, Lane, Ledger,
        LedgerCalls as _, LedgerError, LedgerRole, Outcome, PaymentRef, PersistMode, Position, RefundOutcome,
        Reserve, StepId, Terms, TimeStep, Transfer, state_machine::Inspection,
    },
};

/// One ledger, or a gate with its truth.
#[derive(Clone, Debug)]
pub(super) struct System {
    pub(super) main: LedgerUnderTest,
    pub(super) truth: Option<LedgerUnderTest>,
}

/// What both sides have answered so far, which later operations refer to.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) terms: Arc<Terms>,
    pub(super) role: LedgerRole,
    pub(super) now: Timestamp,
    orders: Vec<OrderKey>,
    transfers: Vec<Transfer>,
    arrived: Vec<Transfer>,
    /// The ids of the steps of time.
    steps: Vec<u8>,
}

/// The answer to an operation. Its text must be the same for the oracle and the tested system.
#[derive(Debug, Default)]
pub(super) struct Observation {
    pub(super) text: String,
    orders: Vec<OrderKey>,
    sent: Option<Transfer>,
    arrived: Option<Transfer>,
}

/// The consumer by which the truth reads its gate.
const BY_TRUTH: &str = "truth";
/// The consumer by which a gate reads its truth.
const BY_GATE: &str = "gate";
const BUYERS: u64 = 8;

impl History {
    pub(super) fn new(setup: &Setup, role: LedgerRole) -> Self {
        let terms = Arc::new(terms_of(setup));
        let (orders, transfers, arrived, steps) = Default::default();
        Self { terms, role, now: START, orders, transfers, arrived, steps }
    }

    pub(super) fn learn(&mut self, op: &Op, observation: Observation) {
        self.orders.extend(observation.orders);
        self.transfers.extend(observation.sent);
        self.arrived.extend(observation.arrived);
        match op {
            Op::Time(seconds) => self.now = self.now.after(make::seconds(*seconds)),
            Op::StepTime { id, seconds } if !self.steps.contains(id) => {
                self.steps.push(*id);
                self.now = self.now.moved(seconds * 1_000);
            }
            _ => {}
        }
    }

    fn lanes(&self) -> impl Iterator<Item = Lane> {
        let first = Lane::first(self.terms.activity());
        (0..self.terms.buckets().get()).map(move |bucket| Lane { bucket, ..first })
    }

    fn lane(&self, bucket: Bucket) -> Lane {
        Lane { bucket, ..Lane::first(self.terms.activity()) }
    }

    /// Returns the lane in which a buyer's requests are decided.
    fn lane_of(&self, user: u64) -> Lane {
        match self.role {
            LedgerRole::Truth => Lane::first(self.terms.activity()),
            LedgerRole::Single | LedgerRole::Gate => {
                Lane::of(self.terms.activity(), make::user(user), self.terms.buckets())
            }
        }
    }

    fn order(&self, pick: u16) -> Option<OrderKey> {
        (!self.orders.is_empty()).then(|| self.orders[usize::from(pick) % self.orders.len()])
    }
}

fn terms_of(setup: &Setup) -> Terms {
    let offers = (1..).zip(&setup.offers).map(|(n, offer)| {
        let strategy =
            [Strategy::OrderTime, Strategy::PayTime, Strategy::PreDeduct][usize::from(offer.strategy)];
        let hold = (strategy != Strategy::OrderTime || offer.ends).then_some(HOLD);
        let amount = if offer.free { 0 } else { 100 * n };
        let price = Money::new(amount, "CNY".parse().expect("valid currency")).expect("valid price");
        let late = if offer.retakes { LateCapture::Retake } else { LateCapture::Refund };
        let terms = OfferTerms::new(make::sku(n), price, offer.units, strategy, hold).expect("valid offer");
        make::limited(terms, &rules_of(&offer.rules)).with_late_capture(late)
    });
    let buckets = NonZeroU16::new(setup.buckets).expect("at least 1");
    Terms::new(make::activity(1), make::window(START, START.after(SALE)), buckets, TIMING, offers.collect())
        .expect("valid terms")
}

fn rules_of(rules: &[RandomRule]) -> Vec<LimitRule> {
    use crate::domain::Subject::{Address, Device, User};
    let rule = |rule: &RandomRule| {
        let subject = [User, Device, Address][usize::from(rule.subject)];
        make::rule(subject, if rule.whole_activity { Per::Activity } else { Per::Offer }, rule.max)
    };
    rules.iter().map(rule).collect()
}

/// Describes a result without what a ledger may choose itself: batch ids and texts of errors.
fn show<T: std::fmt::Debug>(result: &Result<T, LedgerError>) -> String {
    let text = match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => super::name::of_error(error).to_owned(),
    };
    let mut parts = text.split("BatchId(");
    let mut described = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        described.push_str("BatchId(_");
        described.push_str(part.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    }
    described
}

/// Removes the times at which lanes were opened, which depend on the store.
fn without_opening_times(mut entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut entries {
        if matches!(entry.event, Event::Opened(_) | Event::Reopened | Event::EpochTaken) {
            entry.at = Timestamp::EPOCH;
        }
    }
    entries
}

impl System {
    /// Returns the ledger that decides the life of orders.
    fn deciding(&self) -> &Arc<dyn Ledger> {
        self.truth.as_ref().map_or(&self.main.ledger, |truth| &truth.ledger)
    }

    /// The gate and its truth.
    fn tiers(&self) -> Option<(&dyn Ledger, &dyn Ledger)> {
        Some((&*self.main.ledger, &*self.truth.as_ref()?.ledger))
    }

    /// Opens the sale, and warms up the gate if there are two tiers.
    pub(super) async fn begin(&self, past: &History) -> Result<(), LedgerError> {
        self.deciding().open(Arc::clone(&past.terms)).await?;
        if let Some((gate, truth)) = self.tiers() {
            gate.register(&Consumer::new(BY_TRUTH)).await?;
            truth.register(&Consumer::new(BY_GATE)).await?;
            self.rebuild(past, false, 100, usize::MAX).await?;
        }
        self.set_time(past, past.now).await;
        Ok(())
    }

    async fn set_time(&self, past: &History, to: Timestamp) {
        for lane in past.lanes() {
            self.main.probe.advance_time(lane, to).await;
        }
        if let Some(truth) = &self.truth {
            truth.probe.advance_time(Lane::first(past.terms.activity()), to).await;
        }
    }

    /// Returns what each ledger stores, without the times of lanes, which answers show.
    pub(super) async fn inspect(&self, past: &History) -> Vec<Option<Inspection>> {
        let mut inspections = Vec::new();
        for subject in [Some(&self.main), self.truth.as_ref()].into_iter().flatten() {
            subject.probe.settle().await;
            let mut inspection = subject.probe.inspect(past.terms.activity()).await;
            for lane in inspection.iter_mut().flat_map(|inspection| &mut inspection.lanes) {
                lane.last = Timestamp::EPOCH;
            }
            inspections.push(inspection);
        }
        inspections
    }

    /// Performs one operation.
    pub(super) async fn perform(&mut self, op: &Op, past: &History) -> Observation {
        let mut observation = Observation::default();
        observation.text = match op {
            Op::Reserve { buyer, asks, stale_epoch } => {
                self.reserve(past, *buyer, asks, *stale_epoch, &mut observation).await
            }
            Op::Advance(steps) => self.advance(past, steps, &mut observation).await,
            Op::Expire { bucket, limit } => {
                let lane = if self.truth.is_some() { past.lane(0) } else { past.lane(*bucket) };
                show(&self.deciding().expire_due(lane, *limit).await)
            }
            Op::Adjust { id, sku, delta } => {
                let adjustment = Adjustment {
                    activity: past.terms.activity(),
                    sku: make::sku(*sku),
                    id: make::adjustment_id(&format!("adj-{id}")),
                    delta: *delta,
                    by: make::by(),
                };
                // Units are added at the truth first and removed at the gate first.
                let ledger = if *delta > 0 { self.deciding() } else { &self.main.ledger };
                show(&ledger.adjust(adjustment).await)
            }
            Op::Amend { id, change } => {
                let change = change_of(change);
                show(&self.deciding().amend(past.terms.activity(), ChangeId(*id), change, make::by()).await)
            }
            Op::Send { from, to, sku, units } => {
                let sent = self.main.ledger.send(past.lane(*from), *to, make::sku(*sku), *units).await;
                observation.sent = sent.as_ref().ok().copied().flatten();
                show(&sent)
            }
            Op::Receive { pick } => {
                let Some(transfer) = pick_from(&past.transfers, *pick) else { return observation };
                let received = self.main.ledger.receive(transfer).await;
                observation.arrived = matches!(received, Ok(true)).then_some(transfer);
                show(&received)
            }
            Op::Forget { pick } => {
                let Some(transfer) = pick_from(&past.arrived, *pick) else { return observation };
                show(&self.main.ledger.forget(transfer).await)
            }
            Op::Register { consumer } => show(&self.main.ledger.register(&reader(*consumer)).await),
            Op::Retire { consumer } => show(&self.main.ledger.retire(&reader(*consumer)).await),
            Op::Ack { consumer, bucket, pick } => {
                let (consumer, lane) = (reader(*consumer), past.lane(*bucket));
                match self.main.ledger.events(&consumer, lane, None, 10_000).await {
                    Ok(entries) => match pick_from(&entries, *pick) {
                        Some(entry) => show(&self.main.ledger.ack(&consumer, lane, entry.position).await),
                        None => "nothing to acknowledge".to_owned(),
                    },
                    Err(error) => show::<()>(&Err(error)),
                }
            }
            Op::Read { consumer, bucket, pick, limit } => {
                let from =
                    pick.map(|pick| Position { sequence: u64::from(pick % 40), ..Position::default() });
                let (consumer, lane) = (reader(*consumer), past.lane(*bucket));
                let entries = self.main.ledger.events(&consumer, lane, from, *limit).await;
                format!("{} and {}", show(&entries.map(without_opening_times)), self.read(past, *limit).await)
            }
            Op::Keep { order, capture } => {
                let Some(order) = past.order(*order) else { return observation };
                let capture = capture_of(order, self.find(order).await.as_ref(), *capture);
                show(&self.deciding().keep_unmatched(self.lane_of(past, order), capture).await)
            }
            Op::Time(seconds) => {
                self.set_time(past, past.now.after(make::seconds(*seconds))).await;
                String::new()
            }
            Op::StepTime { id, seconds } => {
                let step = TimeStep::new(StepId((*id).into()), seconds * 1_000, make::by());
                let step = step.expect("a valid step");
                let stepped = self.deciding().step_time(step.clone()).await;
                let gate = if self.truth.is_some() { self.main.ledger.step_time(step).await } else { Ok(()) };
                format!("{} and {}", show(&stepped), show(&gate))
            }
            Op::Archive => show(&self.deciding().archive(past.terms.activity()).await.map(drop)),
            Op::Restart => {
                self.restart(past).await;
                String::new()
            }
            Op::Persist { bucket, limit, repeated, acknowledged } => {
                show(&self.persist(past.lane(*bucket), *limit, *repeated, *acknowledged).await)
            }
            Op::Follow { bucket, limit, repeated, gap } => {
                show(&self.follow(past.lane(*bucket), *limit, *repeated, *gap).await)
            }
            Op::Rebuild { salvage, chunk, steps } => {
                let rebuilt = self.rebuild(past, *salvage, *chunk, *steps).await;
                self.set_time(past, past.now).await;
                show(&rebuilt)
            }
        };
        observation
    }

    async fn reserve(
        &self,
        past: &History,
        buyer: u16,
        asks: &[super::random_operation::RandomAsk],
        stale_epoch: bool,
        seen: &mut Observation,
    ) -> String {
        let buyer = 1 + u64::from(buyer) % BUYERS;
        let lane = past.lane_of(buyer);
        // Other buyers of the lane may be in the batch.
        let others: Vec<_> = (1..=BUYERS).filter(|other| past.lane_of(*other) == lane).collect();
        let requests = asks.iter().enumerate().map(|(index, ask)| Reserve {
            order: make::order_id(u64::from(ask.id) * 4 + u64::from(lane.bucket)),
            user: make::user(if index == 0 { buyer } else { others[usize::from(ask.key) % others.len()] }),
            sku: make::sku(ask.sku),
            quantity: make::quantity(ask.units),
            idempotency: Idempotency { key: Key(ask.key.into()), nonce: Nonce(ask.nonce.into()) },
            subjects: Subjects {
                device: ask.device.map(|id| SubjectId(id.into())),
                address: ask.address.map(|id| SubjectId(id.into())),
            },
            mode: ask.mode,
        });
        let epoch = stale_epoch.then_some(Epoch(4_711));
        let answer = self.main.ledger.reserve(lane, epoch, requests.collect()).await;
        for outcome in answer.iter().flat_map(|answer| &answer.outcomes) {
            if let Outcome::Reserved { order, .. } = outcome {
                seen.orders.push(order.key);
            }
        }
        show(&answer)
    }

    async fn advance(&self, past: &History, steps: &[RandomStep], seen: &mut Observation) -> String {
        let Some(first) = past.order(steps[0].order) else { return String::new() };
        let lane = self.lane_of(past, first);
        let mut batch = Vec::new();
        for step in steps {
            let Some(mut order) = past.order(step.order) else { continue };
            let there = self.find(order).await;
            if step.stranger {
                order.user = make::user(1 + order.user.value() % BUYERS);
            }
            if self.lane_of(past, order) == lane {
                batch.push(step_of(order, there.as_ref(), &step.kind));
            }
        }
        let answer = self.deciding().advance(lane, batch).await;
        for outcome in answer.iter().flat_map(|answer| &answer.outcomes) {
            if let crate::ledger::Advanced::Retaken(order) = outcome {
                seen.orders.push(order.key);
            }
        }
        show(&answer)
    }

    /// Returns the lane in which later steps of an order are decided.
    fn lane_of(&self, past: &History, order: OrderKey) -> Lane {
        if self.truth.is_some() { past.lane(0) } else { past.lane_of(order.user.value()) }
    }

    async fn find(&self, order: OrderKey) -> Option<Order> {
        self.deciding().order(order).await.ok().flatten()
    }

    /// Describes the answers of read-only methods.
    async fn read(&self, past: &History, limit: usize) -> String {
        let mut answers = String::new();
        for ledger in
            [Some(&self.main.ledger), self.truth.as_ref().map(|truth| &truth.ledger)].into_iter().flatten()
        {
            let activity = past.terms.activity();
            for sku in 1..=4 {
                answers += &show(&ledger.stock(activity, make::sku(sku)).await);
            }
            for buyer in 1..=BUYERS {
                answers += &show(&ledger.orders_of(make::user(buyer), None, limit).await);
            }
            answers += &show(&ledger.refunds_due(past.lane(0), None, 1_000).await);
            answers += &show(&ledger.transfers(past.lane(0)).await);
            answers += &show(&ledger.terms(activity).await);
            let view = ledger.view(past.lane(0)).await;
            answers += &show(&view.map(|view| (view.epoch, view.at, view.selling, view.terms, view.offers)));
            for order in &past.orders {
                answers += &show(&ledger.locate(Some(activity), order.id).await);
                let payment = make::payment_id(payment_of(*order, 1));
                for lane in [past.lane(0), past.lane_of(order.user.value())] {
                    answers += &show(&ledger.order_of_payment(PaymentRef { lane, payment }).await);
                }
            }
        }
        answers
    }

    /// Restarts every durable ledger from what is durable.
    pub(super) async fn restart(&mut self, past: &History) {
        for subject in [Some(&mut self.main), self.truth.as_mut()].into_iter().flatten() {
            let again = subject.probe.restart().await;
            if let Some(again) = again {
                *subject = again;
            }
        }
        self.set_time(past, past.now).await;
    }

    // Between the tiers.

    async fn persist(
        &self,
        lane: Lane,
        limit: usize,
        repeated: bool,
        acknowledged: bool,
    ) -> Result<String, LedgerError> {
        let Some((gate, truth)) = self.tiers() else { return Ok(String::new()) };
        let position = truth.position(lane).await?;
        let consumer = Consumer::new(BY_TRUTH);
        let mut entries = gate.events(&consumer, lane, Some(position), limit + 1).await?;
        if entries.first().is_none_or(|entry| entry.position != position) {
            return Ok("the gate has another history".to_owned());
        }
        entries.remove(0);
        let last = entries.last().map_or(position, |entry| entry.position);
        let mode = PersistMode::After(position);
        let verdicts = truth.persist(lane, mode, entries.clone()).await?;
        let again = if repeated { show(&truth.persist(lane, mode, entries).await) } else { String::new() };
        if acknowledged {
            gate.ack(&consumer, lane, last).await?;
        }
        Ok(format!("{verdicts:?} {again}"))
    }

    async fn follow(
        &self,
        lane: Lane,
        limit: usize,
        repeated: bool,
        gap: bool,
    ) -> Result<String, LedgerError> {
        let Some((gate, truth)) = self.tiers() else { return Ok(String::new()) };
        let followed = gate.followed(lane).await?;
        let first = Lane::first(lane.activity);
        let consumer = Consumer::new(BY_GATE);
        let mut entries = truth.events(&consumer, first, Some(followed), limit + 1).await?;
        if gap && entries.len() > 2 {
            entries.drain(..2);
        }
        let answer = show(&gate.follow(lane, entries.clone()).await);
        let again = if repeated { show(&gate.follow(lane, entries).await) } else { String::new() };
        Ok(format!("{answer} {again} {}", show(&gate.followed(lane).await)))
    }

    /// Takes the first `steps` steps of a rebuild: close, salvage, take an epoch, load, reopen.
    async fn rebuild(
        &self,
        past: &History,
        salvage: bool,
        chunk: usize,
        steps: usize,
    ) -> Result<String, LedgerError> {
        let Some((gate, truth)) = self.tiers() else { return Ok(String::new()) };
        let activity = past.terms.activity();
        let expected = truth.epoch(activity).await?;
        let mut answers = String::new();
        if steps >= 1 {
            gate.close(activity, expected).await?;
        }
        if steps >= 2 && salvage {
            for lane in past.lanes() {
                let Ok(entries) = gate.events(&Consumer::new(BY_TRUTH), lane, None, 10_000).await else {
                    continue;
                };
                answers += &show(&truth.persist(lane, PersistMode::Salvage, entries).await);
            }
        }
        if steps < 3 {
            return Ok(answers);
        }
        let next = truth.next_epoch(activity, expected).await?;
        let mut after = None;
        loop {
            if steps < 4 {
                return Ok(answers);
            }
            let part = truth.content(activity, after, chunk).await?;
            after = part.continues_after();
            answers += &show(&Ok((part.after, part.next, part.position)));
            gate.load(activity, next.epoch, part).await?;
            if after.is_none() {
                break;
            }
        }
        if steps >= 5 {
            gate.reopen(activity, next.epoch, next.batch).await?;
        }
        Ok(answers)
    }

    /// Settles both tiers and describes where they still differ.
    pub(super) async fn differences(&self, past: &History) -> Result<Vec<String>, LedgerError> {
        let Some((gate, truth)) = self.tiers() else { return Ok(Vec::new()) };
        let activity = past.terms.activity();
        if gate.open_epoch(activity).await? != Some(truth.epoch(activity).await?) {
            self.rebuild(past, true, 100, usize::MAX).await?;
        }
        for lane in past.lanes() {
            self.persist(lane, 100_000, false, true).await?;
        }
        for lane in past.lanes() {
            self.follow(lane, 100_000, false, false).await?;
        }
        let mut differences = Vec::new();
        for offer in past.terms.offers() {
            let (ours, theirs) =
                (gate.stock(activity, offer.sku()).await?, truth.stock(activity, offer.sku()).await?);
            let numbers = |stock: crate::ledger::Stock| {
                [stock.available + stock.transit, stock.held, stock.sold, stock.units + stock.adjusted]
            };
            if ours.map(numbers) != theirs.map(numbers) {
                differences
                    .push(format!("SKU {}: {ours:?} at the gate, {theirs:?} at the truth", offer.sku()));
            }
        }
        for key in &past.orders {
            let (ours, theirs) = (gate.order(*key).await?, truth.order(*key).await?);
            let seen = |order: &Order| {
                (
                    order.status,
                    order.persisted,
                    order.payments.clone(),
                    money_of(order),
                    order.units_returned,
                    order.replaced_by,
                )
            };
            if ours.as_ref().map(seen) != theirs.as_ref().map(seen) {
                differences.push(format!("order {}: {ours:?} at the gate, {theirs:?} at the truth", key.id));
            }
        }
        Ok(differences)
    }
}

/// What an order says about money. Gate and truth book it at different times.
fn money_of(order: &Order) -> impl PartialEq + use<> {
    let receipts: Vec<_> = order
        .receipts
        .iter()
        .map(|receipt| (receipt.capture.clone(), receipt.proceeds, receipt.refunds.clone()))
        .collect();
    (receipts, order.reversals.clone(), order.refund_orders.clone())
}

fn reader(n: u8) -> Consumer {
    Consumer::new(["mail", "search"][usize::from(n)])
}

fn pick_from<T: Clone>(among: &[T], pick: u16) -> Option<T> {
    (!among.is_empty()).then(|| among[usize::from(pick) % among.len()].clone())
}

fn change_of(change: &RandomChange) -> Change {
    match change {
        RandomChange::Selling(0) => Change::Selling(Selling::On),
        RandomChange::Selling(1) => Change::Selling(Selling::Paused),
        RandomChange::Selling(_) => Change::Selling(Selling::Ended),
        RandomChange::Window { from, length } => {
            let from = START.after(make::seconds(*from));
            Change::Window(make::window(from, from.after(make::seconds(*length))))
        }
        RandomChange::Limits { sku, rules } => make::limits(*sku, &rules_of(rules)),
    }
}

/// A payment's id is its order's id times ten plus a digit.
fn payment_of(order: OrderKey, n: u8) -> u64 {
    order.id.value() * 10 + u64::from(n)
}

fn capture_of(order: OrderKey, there: Option<&Order>, random: RandomCapture) -> Capture {
    let amount = there.map_or(100, |order| order.amount.amount());
    let id = if random.shared { 0 } else { order.id.value() };
    Capture {
        provider: make::provider("sandbox"),
        event: format!("evt-{id}-{}", random.event).parse().expect("valid text"),
        transaction: format!("txn-{id}-{}", random.transaction).parse().expect("valid text"),
        payment: make::payment_id(payment_of(order, random.payment)),
        amount: amount * random.percent / 100,
        currency: "CNY".parse().expect("valid currency"),
    }
}

fn step_of(order: OrderKey, there: Option<&Order>, kind: &RandomKind) -> Advance {
    let payment = |n: u8| make::payment_id(payment_of(order, n));
    match kind {
        RandomKind::Open { payment: n } => {
            let provider = make::provider("sandbox");
            Advance::OpenPayment { order, payment: payment(*n), provider, in_parts: n % 2 == 0 }
        }
        RandomKind::Capture { capture, replacement } => Advance::Capture {
            order,
            capture: capture_of(order, there, *capture),
            in_parts: capture.in_parts,
            // The remainder of an id modulo 4 is its lane's bucket.
            replacement: make::order_id(u64::from(*replacement) * 4 + order.id.value() % 4),
        },
        RandomKind::Fail { payment: n } => Advance::PaymentFailed { order, payment: payment(*n) },
        RandomKind::Close { payment: n } => Advance::PaymentClosed { order, payment: payment(*n) },
        RandomKind::Cancel => Advance::Cancel { order, by: None },
        RandomKind::Refund { key, percent, units } => {
            let price = there.map_or(100, |order| order.amount.amount());
            let amount = percent.map(|percent| price * percent / 100);
            let refund = RefundOrder { key: Key((*key).into()), amount, units: *units };
            Advance::Refund { order, refund, by: make::by() }
        }
        RandomKind::Reverse { capture, kind, own_transaction } => {
            let Capture { provider, event, transaction, payment, amount, currency } =
                capture_of(order, there, *capture);
            let kind = [
                ReversalKind::Refunded,
                ReversalKind::Disputed,
                ReversalKind::DisputeWon,
                ReversalKind::DisputeLost,
            ][usize::from(kind % 4)];
            let own = format!("back-{transaction}").parse().expect("valid text");
            let transaction = if *own_transaction { own } else { transaction };
            let report = ReversalReport { provider, kind, event, transaction, payment, amount, currency };
            Advance::Reversal { order, report }
        }
        RandomKind::Settle { capture, number, failed } => {
            let Capture { payment, provider, transaction, .. } = capture_of(order, there, *capture);
            Advance::RefundSettled {
                order,
                payment,
                provider,
                transaction: transaction.as_str().to_owned(),
                number: *number,
                outcome: if *failed { RefundOutcome::Failed } else { RefundOutcome::Done },
            }
        }
    }
}
