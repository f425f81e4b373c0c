//! Two tiers under faults: whatever is lost, delayed, repeated, rolled back or wiped between them, no order that the
//! truth has is lost, no unit is sold twice, and every queued order gets a definite answer.

use std::{
    any::Any,
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use super::{
    Options, TestControl,
    faults::{Faults, Faulty},
    make::{self, Ask},
};
use crate::{
    domain::{
        ActivityId, LateCapture, Order, OrderId, OrderKey, OrderStatus, Per, Selling, Subject, Timestamp,
        UserId,
    },
    ledger::{
        Adjustment, Advance, Advanced, Change, ChangeId, Fence, Gate, Lane, Ledger, LedgerError, Outcome,
        Position, Reserve, Stock, Terms, Truth,
        invariants::{self, Owing},
    },
    tiered::{Pumped, Resolution, Tiered, TieredOptions},
};

/// A store that can forget: what a gate is allowed to do to its tiers.
pub trait Forgetful: TestControl {
    /// The whole content as it is now.
    fn mark(&self) -> Box<dyn Any + Send>;

    /// Goes back to a mark.
    fn roll_back(&self, mark: &(dyn Any + Send));

    /// Forgets everything.
    fn wipe(&self);
}

/// A gate and a truth, fresh, whose stores tests can look into.
#[derive(Clone)]
pub struct Pair {
    /// The gate.
    pub gate: Arc<dyn Gate>,
    /// The gate's store.
    pub gate_store: Arc<dyn Forgetful>,
    /// The truth.
    pub truth: Arc<dyn Truth>,
    /// The truth's store.
    pub truth_store: Arc<dyn TestControl>,
}

/// What a run of [`storms`] did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weathered {
    /// Seeds.
    pub seeds: u64,
    /// Steps.
    pub steps: u64,
    /// Faults between the tiers.
    pub faults: u64,
    /// Times that the gate was rolled back or wiped.
    pub forgotten: u64,
    /// Futures that were dropped before they were ready.
    pub dropped: u64,
    /// Orders that the gate admitted.
    pub queued: u64,
    /// Of them, those that ended as refused.
    pub refused: u64,
}

/// Plays one storm for each seed: random steps against [`Tiered`] over a fresh pair.
///
/// # Errors
/// The first thing that went wrong, with the seed and the steps that led to it.
pub async fn storms(options: &Options, fresh: impl Fn() -> Pair) -> Result<Weathered, String> {
    let mut sum = Weathered::default();
    let seeds = options.seeds * u64::from(options.sequences);
    for seed in options.seed..options.seed + seeds {
        let mut storm = Storm::new(seed, fresh());
        let result = storm.play(options.steps).await;
        sum.seeds += 1;
        sum.steps += storm.done.steps;
        sum.faults += storm.faults.injected();
        sum.forgotten += storm.done.forgotten;
        sum.dropped += storm.done.dropped;
        sum.queued += storm.done.queued;
        sum.refused += storm.done.refused;
        if let Err(what) = result {
            let trail = storm.trail.iter().rev().take(60).rev().map(String::as_str).collect::<Vec<_>>();
            return Err(format!("tiers, seed {seed}: {what}\nafter:\n  {}", trail.join("\n  ")));
        }
    }
    Ok(sum)
}

const UNITS: [u32; 3] = [9, 6, 5];
const BUYERS: u64 = 12;
/// How often a call is polled at most: a paused pump may hold what it waits for.
const PATIENCE: u32 = 300;

type PausedRound = Pin<Box<dyn Future<Output = Result<Pumped, LedgerError>> + Send>>;

struct Storm {
    dice: fastrand::Rng,
    pair: Pair,
    /// Two processes over the same tiers. The second holds the newer lease or the same one.
    nodes: [Arc<Tiered>; 2],
    /// Rounds of the pump that stopped in the middle and may go on later, when everything has changed.
    paused: Vec<PausedRound>,
    faults: Arc<Faults>,
    terms: Arc<Terms>,
    now: Timestamp,
    ids: u64,
    mark: Option<Box<dyn Any + Send>>,
    /// Whether the gate may lose what it had. If not, no queued order may be lost either.
    forgetful: bool,
    /// Orders that were answered, with what their receipts say.
    receipts: Vec<(Order, Lane, Position)>,
    /// Orders that were seen persisted, with their last status.
    persisted: BTreeMap<OrderId, (OrderKey, OrderStatus)>,
    trail: Vec<String>,
    done: Weathered,
}

impl Storm {
    fn new(seed: u64, pair: Pair) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let faults = Faults::new(dice.u64(..));
        let gate = Faulty::new(Arc::clone(&pair.gate), Arc::clone(&faults));
        let truth = Faulty::new(Arc::clone(&pair.truth), Arc::clone(&faults));
        let options = TieredOptions { entries: dice.usize(1..6), content: dice.usize(1..5) };
        let newer = dice.u64(1..3);
        let forgetful = dice.u8(0..3) > 0;
        let nodes = [1, newer].map(|fence| {
            Arc::new(Tiered::new(Arc::clone(&gate) as _, Arc::clone(&truth) as _, Fence(fence), options))
        });
        let buckets = dice.u16(1..4);
        let rule = make::rule(Subject::User, Per::Offer, 3);
        let offers = make::STRATEGIES
            .iter()
            .zip(UNITS)
            .zip(1..)
            .map(|((strategy, units), sku)| {
                let late = if sku == 3 { LateCapture::Retake } else { LateCapture::Refund };
                make::limited(make::offer(sku, *strategy, units), &[rule]).with_late_capture(late)
            })
            .collect();
        Self {
            dice,
            pair,
            nodes,
            paused: Vec::new(),
            faults,
            terms: Arc::new(make::terms(1, buckets, make::START, offers)),
            now: make::START.after(make::seconds(1)),
            ids: 0,
            mark: None,
            forgetful,
            receipts: Vec::new(),
            persisted: BTreeMap::new(),
            trail: Vec::new(),
            done: Weathered::default(),
        }
    }

    async fn play(&mut self, steps: usize) -> Result<(), String> {
        self.raise_time().await;
        self.nodes[1].open(Arc::clone(&self.terms)).await.map_err(|error| error.to_string())?;
        let percent = self.dice.u32(0..30);
        self.faults.set_percent(percent);
        for _ in 0..steps {
            self.step().await?;
            self.done.steps += 1;
            self.check_steadily().await?;
        }
        self.faults.set_percent(0);
        self.paused.clear();
        self.calm().await
    }

    async fn step(&mut self) -> Result<(), String> {
        match self.dice.u8(0..100) {
            0..35 => self.reserve().await,
            35..60 => self.advance().await,
            60..67 => self.pump().await,
            67..70 => self.resume().await,
            70..75 => {
                let expired = give_up(self.expire(), PATIENCE).await;
                self.note(format!("expire -> {expired:?}"));
            }
            75..80 => {
                let seconds = self.dice.u64(1..40);
                self.now = self.now.after(make::seconds(seconds));
                self.note(format!("{seconds} s pass"));
                self.raise_time().await;
            }
            80..86 => self.adjust().await,
            86..90 => {
                give_up(self.transfer(), PATIENCE).await;
            }
            90..93 => {
                give_up(self.amend(), PATIENCE).await;
            }
            93.. if !self.forgetful => self.pump().await,
            93..96 => {
                self.note("the gate's store is copied".to_owned());
                self.mark = Some(self.pair.gate_store.mark());
            }
            96..98 => {
                if let Some(mark) = &self.mark {
                    self.pair.gate_store.roll_back(mark.as_ref());
                    self.done.forgotten += 1;
                    self.note("the gate goes back to the copy".to_owned());
                    self.raise_time().await;
                }
            }
            _ => {
                self.pair.gate_store.wipe();
                self.done.forgotten += 1;
                self.note("the gate forgets everything".to_owned());
            }
        }
        Ok(())
    }

    async fn reserve(&mut self) {
        let buyer = self.dice.u64(1..=BUYERS);
        self.ids += 1;
        // Few keys, so that buyers repeat themselves; a key names one offer and quantity.
        let key = self.dice.u64(1..4);
        let ask = Ask::new(self.ids, buyer)
            .of(1 + key % 3)
            .units(1 + u32::from(key == 3))
            .key(key.into())
            .nonce(key);
        let lane = Lane::of(self.activity(), make::user(buyer), self.terms.buckets());
        self.reserve_once(ask.0, lane).await;
    }

    async fn reserve_once(&mut self, request: Reserve, lane: Lane) {
        let turns = self.patience();
        let answer = give_up(self.node().reserve(lane, None, vec![request]), turns).await;
        self.note(format!("reserve {request:?} -> {answer:?}"));
        let Some(Ok(answer)) = answer else { return };
        if let Some(Outcome::Reserved { order, position }) = answer.outcomes.into_iter().next() {
            self.done.queued += 1;
            self.receipts.push((*order, lane, position));
        }
    }

    async fn advance(&mut self) {
        let Some((order, ..)) = self.receipts.get(self.dice.usize(0..self.receipts.len().max(1))).cloned()
        else {
            return;
        };
        self.ids += 1;
        let payment = self.payment_of(order.key).await;
        let step = match self.dice.u8(0..8) {
            0..3 => Advance::OpenPayment {
                order: order.key,
                payment: make::payment_id(self.ids),
                provider: make::provider("sandbox"),
            },
            3..5 => Advance::Capture {
                order: order.key,
                capture: make::capture_of(&order, payment.unwrap_or(self.ids), self.dice.u64(1..400)),
                replacement: make::order_id(1_000_000 + self.ids),
            },
            5 => Advance::PaymentFailed {
                order: order.key,
                payment: make::payment_id(payment.unwrap_or(self.ids)),
            },
            6 => Advance::Refund { order: order.key, units_returned: self.dice.bool(), by: make::by() },
            _ => Advance::Cancel { order: order.key, by: None },
        };
        let lane = Lane::of(self.activity(), order.key.user, self.terms.buckets());
        let turns = self.patience();
        let answer = give_up(self.node().advance(lane, vec![step.clone()]), turns).await;
        self.note(format!("advance {step:?} -> {answer:?}"));
        if let Some(Ok(answer)) = answer
            && let Some(Advanced::Done(order) | Advanced::Retaken(order)) = answer.outcomes.into_iter().next()
        {
            self.persisted.insert(order.key.id, (order.key, order.status));
        }
    }

    async fn payment_of(&self, key: OrderKey) -> Option<u64> {
        let order = self.pair.truth.order(key).await.ok()??;
        Some(order.payment()?.id.value())
    }

    async fn pump(&mut self) {
        if self.dice.u8(0..3) > 0 {
            let turns = self.patience();
            let node = self.node();
            let pumped = give_up(node.pump(self.activity()), turns).await;
            self.note(format!("pump -> {pumped:?}"));
            return;
        }
        let (node, activity) = (self.node(), self.activity());
        self.paused.push(Box::pin(async move { node.pump(activity).await }));
        self.resume().await;
    }

    /// Lets a paused round of the pump go on for a while.
    async fn resume(&mut self) {
        if self.paused.is_empty() {
            return;
        }
        let index = self.dice.usize(0..self.paused.len());
        let turns = self.dice.u32(1..5);
        let mut round = self.paused.swap_remove(index);
        match give_up(round.as_mut(), turns).await {
            Some(pumped) => self.note(format!("a paused pump -> {pumped:?}")),
            None => self.paused.push(round),
        }
    }

    async fn expire(&mut self) -> Result<(), LedgerError> {
        let due = self.node().expire_due(Lane::first(self.activity()), 4).await?;
        for closing in due.closing {
            let step = Advance::PaymentClosed { order: closing.order, payment: closing.payment };
            let lane = Lane::of(self.activity(), closing.order.user, self.terms.buckets());
            self.node().advance(lane, vec![step]).await?;
        }
        Ok(())
    }

    async fn adjust(&mut self) {
        let sku = self.dice.u64(1..4);
        let delta = self.dice.i64(-3..4);
        let id = format!("{sku}:{delta}:{}", self.dice.u8(0..3));
        let adjustment = Adjustment {
            activity: self.activity(),
            sku: make::sku(sku),
            id: make::adjustment_id(&id),
            delta,
            by: make::by(),
        };
        let turns = self.patience();
        let adjusted = give_up(self.node().adjust(adjustment), turns).await;
        self.note(format!("adjust {id} -> {adjusted:?}"));
    }

    async fn transfer(&mut self) {
        let buckets = self.terms.buckets().get();
        let (from, to) = (self.dice.u16(0..buckets), self.dice.u16(0..buckets));
        if from == to {
            return;
        }
        let lane = Lane { activity: self.activity(), bucket: from };
        let sku = make::sku(self.dice.u64(1..4));
        let sent = self.node().send(lane, to, sku, 2).await;
        self.note(format!("send from {from} to {to} -> {sent:?}"));
        for transfer in self.node().transfers(lane).await.unwrap_or_default() {
            if matches!(self.node().receive(transfer).await, Ok(true)) && self.dice.bool() {
                let _ = self.node().forget(transfer).await;
            }
        }
    }

    async fn amend(&mut self) {
        self.ids += 1;
        let selling = if self.dice.bool() { Selling::On } else { Selling::Paused };
        let amended = self
            .node()
            .amend(self.activity(), ChangeId(self.ids), Change::Selling(selling), make::by())
            .await;
        self.note(format!("amend {selling:?} -> {amended:?}"));
    }

    /// What holds at every moment, whatever was lost.
    async fn check_steadily(&mut self) -> Result<(), String> {
        let activity = self.activity();
        let truth = self.pair.truth_store.inspect(activity).await.ok_or("the truth is gone")?;
        let broken = invariants::check(&truth, Owing::Forbidden);
        if let Some(violation) = broken.into_iter().chain(invariants::check_limits_hold(&truth)).next() {
            return Err(format!("at the truth: {violation}"));
        }
        if let Some(gate) = self.pair.gate_store.inspect(activity).await
            && let Some(violation) = invariants::check(&gate, Owing::Allowed).into_iter().next()
        {
            return Err(format!("at the gate: {violation}"));
        }
        for order in truth.lanes.iter().flat_map(|lane| &lane.orders) {
            if let Some((_, before)) = self.persisted.get(&order.key.id)
                && *before != order.status
                && !before.is_open()
            {
                return Err(format!("I6: order {} was {before:?} and is {:?}", order.key.id, order.status));
            }
            self.persisted.insert(order.key.id, (order.key, order.status));
        }
        let known = truth.lanes.iter().flat_map(|lane| &lane.orders).count();
        if known < self.persisted.len() {
            return Err(format!("I9: {} orders were persisted, {known} are there", self.persisted.len()));
        }
        Ok(())
    }

    /// After the storm: everything settles, both tiers agree, and every receipt has a definite answer.
    async fn calm(&mut self) -> Result<(), String> {
        let activity = self.activity();
        let text = |error: LedgerError| format!("after the storm: {error}");
        self.nodes[1].settle(activity).await.map_err(text)?;
        for bucket in 0..self.terms.buckets().get() {
            for transfer in self.nodes[1].transfers(Lane { activity, bucket }).await.map_err(text)? {
                self.nodes[1].receive(transfer).await.map_err(text)?;
                self.nodes[1].forget(transfer).await.map_err(text)?;
            }
        }
        let mut keys: BTreeMap<_, OrderId> = BTreeMap::new();
        for (order, lane, position) in self.receipts.clone() {
            let resolved = self.nodes[1].resolve(order.key, lane, position).await.map_err(text)?;
            let status = match resolved {
                Resolution::Refused if !self.forgetful => {
                    return Err(format!(
                        "order {} was queued and is lost, though the gate forgot nothing",
                        order.key.id
                    ));
                }
                Resolution::Refused => OrderStatus::Refused,
                Resolution::Known(order) if !order.persisted => {
                    return Err(format!("L1: order {} is still queued", order.key.id));
                }
                Resolution::Known(order) => order.status,
            };
            if status == OrderStatus::Refused {
                self.done.refused += 1;
                continue;
            }
            let key = order.idempotency.map(|known| (order.key.user, known.key));
            if let Some(other) = keys.insert(key, order.key.id) {
                return Err(format!("I5: one key made the orders {other} and {}", order.key.id));
            }
        }
        self.nodes[1].settle(activity).await.map_err(text)?;
        self.check_steadily().await?;
        self.agree(activity).await
    }

    /// L4: at rest the gate holds what the truth holds.
    async fn agree(&self, activity: ActivityId) -> Result<(), String> {
        let truth = self.pair.truth_store.inspect(activity).await.ok_or("the truth is gone")?;
        let gate = self.pair.gate_store.inspect(activity).await.ok_or("the gate is gone")?;
        let orders = |lanes: &[crate::ledger::state_machine::LaneInspection]| -> BTreeMap<OrderId, (UserId, OrderStatus, bool)> {
            let orders = lanes.iter().flat_map(|lane| &lane.orders);
            orders.map(|order| (order.key.id, (order.key.user, order.status, order.persisted))).collect()
        };
        let (at_gate, at_truth) = (orders(&gate.lanes), orders(&truth.lanes));
        if at_gate != at_truth {
            let differs = at_truth.iter().find(|(id, order)| at_gate.get(id) != Some(order));
            let seen = differs.and_then(|(id, _)| at_gate.get(id));
            let extra = at_gate.iter().find(|(id, _)| !at_truth.contains_key(id));
            return Err(format!(
                "I3, L4: the truth has {differs:?}, the gate {seen:?}, and {extra:?} besides"
            ));
        }
        for offer in self.terms.offers() {
            let stock = |ledger: Arc<dyn Ledger>| async move { ledger.stock(activity, offer.sku()).await };
            let truth: Stock =
                stock(Arc::clone(&self.pair.truth) as _).await.ok().flatten().unwrap_or_default();
            let gate: Stock =
                stock(Arc::clone(&self.pair.gate) as _).await.ok().flatten().unwrap_or_default();
            if gate != truth {
                return Err(format!("L4: SKU {}: the gate has {gate:?}, the truth {truth:?}", offer.sku()));
            }
            if truth.available < 0 {
                return Err(format!("I1: SKU {}: {} available at the truth", offer.sku(), truth.available));
            }
        }
        Ok(())
    }

    fn activity(&self) -> ActivityId {
        self.terms.activity()
    }

    fn node(&mut self) -> Arc<Tiered> {
        Arc::clone(&self.nodes[self.dice.usize(0..2)])
    }

    /// How often a future is polled before it is dropped.
    fn patience(&mut self) -> u32 {
        if self.dice.u8(0..6) == 0 {
            self.done.dropped += 1;
            self.dice.u32(1..6)
        } else {
            PATIENCE
        }
    }

    async fn raise_time(&self) {
        for bucket in 0..self.terms.buckets().get() {
            let lane = Lane { activity: self.activity(), bucket };
            self.pair.gate_store.advance_time(lane, self.now).await;
            self.pair.truth_store.advance_time(lane, self.now).await;
        }
    }

    fn note(&mut self, what: String) {
        self.trail.push(what);
    }
}

/// Polls a future so many times and drops it if it is not ready by then: its caller died.
async fn give_up<T>(future: impl Future<Output = T>, mut turns: u32) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if turns == 0 {
            return Poll::Ready(None);
        }
        turns -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await
}
