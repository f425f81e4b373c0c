//! Two tiers under faults, shared by several nodes. Whatever is lost, delayed, repeated, rolled back or
//! wiped, the truth loses no order, no unit is sold twice, and every queued order gets a definite
//! answer. No node fails because of another: not at all while nothing is lost, and not for long
//! afterwards.

use std::{
    any::Any,
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use super::{
    Options, TestControl,
    faults::{Faults, Faulty},
    make::{self, Ask},
};
use crate::{
    domain::{
        ActivityId, LateCapture, Order, OrderId, OrderKey, OrderStatus, Per, RefundOrder, Selling, Subject,
        Timestamp, UserId,
    },
    ledger::{
        Adjusted, Adjustment, Advance, Advanced, Change, ChangeId, Consumer, Epoch, Event, Lane, Ledger,
        LedgerCalls as _, LedgerError, Outcome, Position, Reserve, Stock, Terms, Transfer,
        invariants::{self, OwedUnits},
    },
    tiered::{Pumped, Resolution, Tiered, TieredOptions},
};

/// A store that can lose content, as a gate's store may.
pub trait ForgettingStore: TestControl {
    /// Copies the whole content.
    fn mark(&self) -> Box<dyn Any + Send>;

    /// Restores a copy made by [`ForgettingStore::mark`].
    fn roll_back(&self, mark: &(dyn Any + Send));

    /// Deletes everything.
    fn wipe(&self);
}

/// An empty gate and an empty truth, with test access to their stores.
#[derive(Clone)]
pub struct Pair {
    /// The gate.
    pub gate: Arc<dyn Ledger>,
    /// The gate's store.
    pub gate_store: Arc<dyn ForgettingStore>,
    /// The truth.
    pub truth: Arc<dyn Ledger>,
    /// The truth's store.
    pub truth_store: Arc<dyn TestControl>,
    /// The faults of a storm, which makes them in front of both ledgers. A pair may use them behind its
    /// ledgers too.
    pub faults: Arc<Faults>,
}

/// Counts of what a run of [`storms`] did.
#[derive(Clone, Copy, Debug, Default)]
pub struct StormReport {
    /// Storms, one per seed.
    pub seeds: u64,
    /// Steps.
    pub steps: u64,
    /// Faults injected between the tiers.
    pub faults: u64,
    /// How often the gate was rolled back or wiped.
    pub forgotten: u64,
    /// Calls whose future was to be dropped after a few polls.
    pub dropped: u64,
    /// Orders that the gate admitted.
    pub queued: u64,
    /// Queued orders that ended as refused.
    pub refused: u64,
}

/// Runs `seeds` × `sequences` storms of `steps` random steps against two to five [`Tiered`] nodes over
/// a fresh pair.
///
/// # Errors
/// The first violation found, with its seed and the last 60 steps before it.
///
/// # Panics
/// Unless the runtime has one thread and its time is paused (`start_paused`): nobody waits for the
/// patience of nodes, time is advanced instead.
pub async fn storms(options: &Options, fresh: impl Fn() -> Pair) -> Result<StormReport, String> {
    let mut sum = StormReport::default();
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
            return Err(format!("tiers, seed {seed}: {what}\nafter these steps:\n  {}", trail.join("\n  ")));
        }
    }
    Ok(sum)
}

const UNITS: [u32; 3] = [9, 6, 5];
const BUYERS: u64 = 12;
/// The maximum number of polls of a call. A paused pump may hold the lock that it waits for.
const MAX_POLLS: u32 = 300;
/// How long some storms' nodes leave a gate to each other.
const PATIENCE: Duration = Duration::from_millis(20);
/// The number of attempts in which every call succeeds once nothing is lost any more.
const ATTEMPTS: usize = 3;

type PausedRound = Pin<Box<dyn Future<Output = Result<Pumped, LedgerError>> + Send>>;

struct Storm {
    dice: fastrand::Rng,
    pair: Pair,
    /// Processes over the same tiers.
    nodes: Vec<Arc<Tiered>>,
    /// Pump rounds that stopped halfway and may resume later, when everything has changed.
    paused: Vec<PausedRound>,
    faults: Arc<Faults>,
    terms: Arc<Terms>,
    now: Timestamp,
    ids: u64,
    mark: Option<Box<dyn Any + Send>>,
    /// Whether the gate may lose content. If not, no queued order may be lost.
    forgetful: bool,
    /// Whether gates are rebuilt that lost nothing. The nodes are patient then: one that overtakes
    /// another cannot keep it from opening the gate for a moment, in which an order may be lost.
    rebuilds: bool,
    /// Whether nothing is lost, delayed or repeated, and only the nodes are in each other's way. Then
    /// every call succeeds.
    calm: bool,
    /// Orders that were answered as queued, with the lane and position in their receipts.
    receipts: Vec<(Order, Lane, Position)>,
    /// Persisted orders, with their last known status.
    persisted: BTreeMap<OrderId, (OrderKey, OrderStatus)>,
    trail: Vec<String>,
    done: StormReport,
}

impl Storm {
    fn new(seed: u64, pair: Pair) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let faults = Arc::clone(&pair.faults);
        faults.reseed(dice.u64(..));
        let gate = Faulty::new(Arc::clone(&pair.gate), Arc::clone(&faults));
        let truth = Faulty::new(Arc::clone(&pair.truth), Arc::clone(&faults));
        let patience = if dice.bool() { Duration::ZERO } else { PATIENCE };
        let options = TieredOptions { entries: dice.usize(1..6), content: dice.usize(1..5), patience };
        let calm = dice.u8(0..4) == 0;
        let forgetful = !calm && dice.u8(0..3) > 0;
        let node = || Arc::new(Tiered::new(Arc::clone(&gate) as _, Arc::clone(&truth) as _, options));
        let nodes = (0..dice.usize(2..6)).map(|_| node()).collect();
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
            rebuilds: !calm && !forgetful && !patience.is_zero(),
            calm,
            receipts: Vec::new(),
            persisted: BTreeMap::new(),
            trail: Vec::new(),
            done: StormReport::default(),
        }
    }

    async fn play(&mut self, steps: usize) -> Result<(), String> {
        self.raise_time().await;
        self.nodes[1].open(Arc::clone(&self.terms)).await.map_err(|error| error.to_string())?;
        let percent = if self.calm { 0 } else { self.dice.u32(0..30) };
        self.faults.set_percent(percent);
        self.faults.interleave();
        for _ in 0..steps {
            self.step().await?;
            self.done.steps += 1;
            self.check_always().await?;
        }
        self.faults.set_percent(0);
        self.paused.clear();
        self.check_after_storm().await
    }

    async fn step(&mut self) -> Result<(), String> {
        match self.dice.u8(0..100) {
            0..35 => self.reserve().await?,
            35..60 => self.advance().await?,
            60..67 => self.pump().await?,
            67..70 => self.resume().await?,
            70..75 => {
                let expired = poll_at_most(self.expire(), MAX_POLLS).await;
                self.note(format!("expire -> {expired:?}"));
                self.tolerate("expire_due", expired)?;
            }
            75..80 => {
                let seconds = self.dice.u64(1..40);
                self.now = self.now.after(make::seconds(seconds));
                self.note(format!("{seconds} s pass"));
                self.raise_time().await;
            }
            80..86 => self.adjust().await?,
            86..90 => {
                if let Some(moved) = poll_at_most(self.transfer(), MAX_POLLS).await {
                    moved?;
                }
            }
            90..93 => {
                if let Some(amended) = poll_at_most(self.amend(), MAX_POLLS).await {
                    amended?;
                }
            }
            93.. if self.rebuilds => self.rebuild().await?,
            93.. if !self.forgetful => self.pump().await?,
            93..96 => {
                self.note("copy the gate's store".to_owned());
                self.mark = Some(self.pair.gate_store.mark());
            }
            96..98 => {
                if let Some(mark) = &self.mark {
                    self.pair.gate_store.roll_back(mark.as_ref());
                    self.done.forgotten += 1;
                    self.note("roll the gate back to the copy".to_owned());
                    self.raise_time().await;
                }
            }
            _ => {
                self.pair.gate_store.wipe();
                self.done.forgotten += 1;
                self.note("wipe the gate".to_owned());
            }
        }
        Ok(())
    }

    async fn reserve(&mut self) -> Result<(), String> {
        let buyer = self.dice.u64(1..=BUYERS);
        self.ids += 1;
        // Few keys, so buyers repeat requests. Each key stands for one offer and quantity.
        let key = self.dice.u64(1..4);
        let ask = Ask::new(self.ids, buyer)
            .of(1 + key % 3)
            .units(1 + u32::from(key == 3))
            .key(key.into())
            .nonce(key);
        let lane = Lane::of(self.activity(), make::user(buyer), self.terms.buckets());
        self.reserve_once(ask.0, lane).await
    }

    async fn reserve_once(&mut self, request: Reserve, lane: Lane) -> Result<(), String> {
        let polls = self.max_polls();
        let answer = poll_at_most(self.node().reserve(lane, None, vec![request]), polls).await;
        self.note(format!("reserve {request:?} -> {answer:?}"));
        let Some(answer) = self.tolerate("reserve", answer)? else { return Ok(()) };
        match answer.outcomes.into_iter().next() {
            Some(Outcome::Reserved { order, position }) => {
                self.done.queued += 1;
                self.receipts.push((*order, lane, position));
            }
            Some(Outcome::NotReady) if self.calm => {
                return Err("a buyer was declined as not ready, although the gate lost nothing".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    async fn advance(&mut self) -> Result<(), String> {
        let Some((order, ..)) = self.receipts.get(self.dice.usize(0..self.receipts.len().max(1))).cloned()
        else {
            return Ok(());
        };
        self.ids += 1;
        let payment = self.payment_of(order.key).await;
        let step = match self.dice.u8(0..8) {
            0..3 => Advance::OpenPayment {
                order: order.key,
                payment: make::payment_id(self.ids),
                provider: make::provider("sandbox"),
                in_parts: true,
            },
            3..5 => Advance::Capture {
                order: order.key,
                capture: make::capture_of(&order, payment.unwrap_or(self.ids), self.dice.u64(1..400)),
                in_parts: true,
                replacement: make::order_id(1_000_000 + self.ids),
            },
            5 => Advance::PaymentFailed {
                order: order.key,
                payment: make::payment_id(payment.unwrap_or(self.ids)),
            },
            6 => Advance::Refund {
                order: order.key,
                refund: RefundOrder { units: Some(self.dice.u32(0..2)), ..make::whole_refund(self.ids) },
                by: make::by(),
            },
            _ => Advance::Cancel { order: order.key, by: None },
        };
        let lane = Lane::of(self.activity(), order.key.user, self.terms.buckets());
        let polls = self.max_polls();
        let answer = poll_at_most(self.node().advance(lane, vec![step.clone()]), polls).await;
        self.note(format!("advance {step:?} -> {answer:?}"));
        if let Some(answer) = self.tolerate("advance", answer)?
            && let Some(Advanced::Done(order) | Advanced::Retaken(order)) = answer.outcomes.into_iter().next()
        {
            self.persisted.insert(order.key.id, (order.key, order.status));
        }
        Ok(())
    }

    async fn payment_of(&self, key: OrderKey) -> Option<u64> {
        let order = self.pair.truth.order(key).await.ok()??;
        Some(order.payment()?.id.value())
    }

    async fn pump(&mut self) -> Result<(), String> {
        if self.dice.u8(0..3) > 0 {
            let polls = self.max_polls();
            let node = self.node();
            let pumped = poll_at_most(node.pump(self.activity()), polls).await;
            self.note(format!("pump -> {pumped:?}"));
            return self.tolerate("pump", pumped).map(drop);
        }
        let (node, activity) = (self.node(), self.activity());
        self.paused.push(Box::pin(async move { node.pump(activity).await }));
        self.resume().await
    }

    /// Rebuilds an open gate, as an operator may. Nothing may be lost by that.
    async fn rebuild(&mut self) -> Result<(), String> {
        let activity = self.activity();
        let open = self.pair.gate.open_epoch(activity).await.ok().flatten();
        let epoch = self.pair.truth.epoch(activity).await.ok();
        if let Some(epoch) = epoch.filter(|epoch| open == Some(*epoch)) {
            let rebuilt = poll_at_most(self.node().rebuild(activity, epoch), MAX_POLLS).await;
            self.note(format!("rebuild -> {rebuilt:?}"));
            self.tolerate("rebuild", rebuilt)?;
        }
        Ok(())
    }

    /// Resumes a paused pump round for a few polls.
    async fn resume(&mut self) -> Result<(), String> {
        if self.paused.is_empty() {
            return Ok(());
        }
        let index = self.dice.usize(0..self.paused.len());
        let polls = self.dice.u32(1..5);
        let mut round = self.paused.swap_remove(index);
        match poll_at_most(round.as_mut(), polls).await {
            Some(pumped) => {
                self.note(format!("resumed pump -> {pumped:?}"));
                self.tolerate("pump", Some(pumped))?;
            }
            None => self.paused.push(round),
        }
        Ok(())
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

    async fn adjust(&mut self) -> Result<(), String> {
        let sku = self.dice.u64(1..4);
        let delta = match self.dice.i64(-3..3) {
            added @ 0.. => added + 1,
            removed => removed,
        };
        let id = format!("{sku}:{delta}:{}", self.dice.u8(0..3));
        let adjustment = Adjustment {
            activity: self.activity(),
            sku: make::sku(sku),
            id: make::adjustment_id(&id),
            delta,
            by: make::by(),
        };
        let polls = self.max_polls();
        let adjusted = poll_at_most(self.node().adjust(adjustment), polls).await;
        self.note(format!("adjust {id} -> {adjusted:?}"));
        self.tolerate("adjust", adjusted).map(drop)
    }

    async fn transfer(&mut self) -> Result<(), String> {
        let buckets = self.terms.buckets().get();
        let (from, to) = (self.dice.u16(0..buckets), self.dice.u16(0..buckets));
        if from == to {
            return Ok(());
        }
        let lane = Lane { activity: self.activity(), bucket: from };
        let sku = make::sku(self.dice.u64(1..4));
        let sent = self.node().send(lane, to, sku, 2).await;
        self.note(format!("send from {from} to {to} -> {sent:?}"));
        self.tolerate("send", Some(sent))?;
        let transfers = self.node().transfers(lane).await;
        for transfer in self.tolerate("transfers", Some(transfers))?.unwrap_or_default() {
            let received = self.node().receive(transfer).await;
            if self.tolerate("receive", Some(received))? == Some(true) && self.dice.bool() {
                let forgotten = self.node().forget(transfer).await;
                self.tolerate("forget", Some(forgotten))?;
                self.check_arrival(transfer).await?;
            }
        }
        Ok(())
    }

    /// Checks that a transfer is not forgotten before the truth has persisted its arrival.
    async fn check_arrival(&self, transfer: Transfer) -> Result<(), String> {
        let source = Lane { activity: transfer.activity, bucket: transfer.from };
        let destination = Lane { bucket: transfer.to, ..source };
        let Ok(listed) = self.pair.gate.transfers(source).await else { return Ok(()) };
        let Ok(position) = self.pair.truth.position(destination).await else { return Ok(()) };
        let persist = Consumer::new("persist");
        let entries = self.pair.gate.events(&persist, destination, Some(position), 10_000).await;
        let entries = entries.unwrap_or_default();
        let waits = entries.first().is_some_and(|first| first.position == position)
            && entries[1..].iter().any(|entry| entry.event == Event::Received(transfer));
        if waits && !listed.contains(&transfer) {
            return Err(format!("{transfer:?} was forgotten before its arrival was persisted"));
        }
        Ok(())
    }

    async fn amend(&mut self) -> Result<(), String> {
        self.ids += 1;
        let selling = if self.dice.bool() { Selling::On } else { Selling::Paused };
        let amended = self
            .node()
            .amend(self.activity(), ChangeId(self.ids), Change::Selling(selling), make::by())
            .await;
        self.note(format!("amend {selling:?} -> {amended:?}"));
        self.tolerate("amend", Some(amended)).map(drop)
    }

    /// Returns the answer of a call that was not dropped, if it succeeded. A node may only fail if
    /// something was lost, and never in a way that a repetition cannot mend.
    fn tolerate<T>(&self, what: &str, answer: Option<Result<T, LedgerError>>) -> Result<Option<T>, String> {
        match answer {
            Some(Ok(answer)) => Ok(Some(answer)),
            None => Ok(None),
            Some(Err(error)) => {
                let hopeless = match error {
                    LedgerError::Stopped(_) | LedgerError::NotDeciding(_) => true,
                    // A gate that was wiped knows neither consumers nor parts of its content.
                    LedgerError::Invalid(_) => !self.forgetful,
                    _ => self.calm,
                };
                if hopeless {
                    Err(format!("{what} failed because of another node: {error}"))
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// Checks what must hold at every moment, whatever was lost.
    async fn check_always(&mut self) -> Result<(), String> {
        let activity = self.activity();
        let truth = self.pair.truth_store.inspect(activity).await.ok_or("the truth lost the activity")?;
        let broken = invariants::check(&truth, OwedUnits::Forbidden);
        if let Some(violation) = broken.into_iter().chain(invariants::check_limits_hold(&truth)).next() {
            return Err(format!("at the truth: {violation}"));
        }
        if let Some(gate) = self.pair.gate_store.inspect(activity).await
            && let Some(violation) = invariants::check(&gate, OwedUnits::Allowed).into_iter().next()
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
            return Err(format!("I9: {} orders were persisted, {known} are left", self.persisted.len()));
        }
        Ok(())
    }

    /// Checks that both tiers settle and agree, and that every receipt gets a definite answer.
    async fn check_after_storm(&mut self) -> Result<(), String> {
        let activity = self.activity();
        let node = self.node();
        retried("settle", || node.settle(activity)).await?;
        if self.calm && retried("epoch", || self.pair.truth.epoch(activity)).await? != Epoch(1) {
            return Err("the gate was rebuilt, although it lost nothing".to_owned());
        }
        for bucket in 0..self.terms.buckets().get() {
            let lane = Lane { activity, bucket };
            for transfer in retried("transfers", || node.transfers(lane)).await? {
                retried("receive", || node.receive(transfer)).await?;
            }
        }
        let mut keys: BTreeMap<_, OrderId> = BTreeMap::new();
        for (order, lane, position) in self.receipts.clone() {
            let node = self.node();
            let resolved = retried("resolve", || node.resolve(order.key, lane, position)).await?;
            let status = match resolved {
                Resolution::Refused if !self.forgetful => {
                    return Err(format!(
                        "order {} was queued and then lost, although the gate lost no content",
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
                return Err(format!("I5: one key made orders {other} and {}", order.key.id));
            }
        }
        retried("settle", || node.settle(activity)).await?;
        self.check_always().await?;
        self.agree(activity).await?;
        for index in 0..self.nodes.len() {
            self.check_node(index).await.map_err(|what| format!("node {index}: {what}"))?;
        }
        self.check_always().await?;
        self.agree(activity).await
    }

    /// Checks that a node can sell, adjust and collect, whatever the others did, and that another
    /// node persists what it sold.
    async fn check_node(&mut self, index: usize) -> Result<(), String> {
        let (activity, sku, buckets) = (self.activity(), make::sku(1), self.terms.buckets());
        let node = Arc::clone(&self.nodes[index]);
        let other = Arc::clone(&self.nodes[(index + 1) % self.nodes.len()]);
        let adjust = async |name: &str, delta: i64| {
            let id = make::adjustment_id(&format!("{name} by node {index}"));
            let adjustment = Adjustment { activity, sku, id, delta, by: make::by() };
            let adjusted = retried(name, || node.adjust(adjustment.clone())).await?;
            if adjusted == Adjusted::Done { Ok(()) } else { Err(format!("{name} -> {adjusted:?}")) }
        };
        self.ids += 1;
        let change = Change::Selling(Selling::On);
        retried("amend", || node.amend(activity, ChangeId(self.ids), change.clone(), make::by())).await?;
        adjust("two more", 2).await?;
        retried("settle", || other.settle(activity)).await?;

        let buyer = BUYERS + 1 + self.dice.u64(1..1_000) * 10 + index as u64;
        let lane = Lane::of(activity, make::user(buyer), buckets);
        self.collect(&node, lane).await?;
        self.ids += 1;
        let ask = Ask::new(self.ids, buyer).of(1);
        let mut outcome = None;
        for _ in 0..ATTEMPTS {
            let answer = retried("reserve", || node.reserve(lane, None, vec![ask.0])).await?;
            outcome = answer.outcomes.into_iter().next();
            if outcome != Some(Outcome::NotReady) {
                break;
            }
            tokio::time::advance(PATIENCE).await;
        }
        let Some(Outcome::Reserved { order, .. }) = outcome else {
            return Err(format!("there are units, but its buyer got {outcome:?}"));
        };
        retried("settle", || other.settle(activity)).await?;
        let order = retried("order", || node.order(order.key)).await?;
        if !order.as_ref().is_some_and(|order| order.persisted) {
            return Err(format!("no other node persisted its order: {order:?}"));
        }

        self.collect(&node, Lane::first(activity)).await?;
        adjust("one less", -1).await?;
        let mut left = Vec::new();
        for _ in 0..ATTEMPTS {
            retried("settle", || other.settle(activity)).await?;
            left = self.forget_all(&node).await?;
        }
        if left.is_empty() { Ok(()) } else { Err(format!("transfers are never forgotten: {left:?}")) }
    }

    /// Makes all lanes forget their transfers. Returns those that have to wait until the truth has
    /// persisted more of their destination.
    async fn forget_all(&self, node: &Tiered) -> Result<Vec<Transfer>, String> {
        let mut left = Vec::new();
        for bucket in 0..self.terms.buckets().get() {
            let lane = Lane { activity: self.activity(), bucket };
            for transfer in retried("transfers", || node.transfers(lane)).await? {
                retried("forget", || node.forget(transfer)).await?;
            }
            left.extend(retried("transfers", || node.transfers(lane)).await?);
        }
        Ok(left)
    }

    /// Moves all available units of SKU 1 to one lane.
    async fn collect(&self, node: &Tiered, to: Lane) -> Result<(), String> {
        for bucket in (0..self.terms.buckets().get()).filter(|bucket| *bucket != to.bucket) {
            let lane = Lane { bucket, ..to };
            retried("send", || node.send(lane, to.bucket, make::sku(1), u32::MAX)).await?;
            for transfer in retried("transfers", || node.transfers(lane)).await? {
                retried("receive", || node.receive(transfer)).await?;
            }
        }
        Ok(())
    }

    /// Checks L4: at rest, the gate holds what the truth holds.
    async fn agree(&self, activity: ActivityId) -> Result<(), String> {
        let truth = self.pair.truth_store.inspect(activity).await.ok_or("the truth lost the activity")?;
        let gate = self.pair.gate_store.inspect(activity).await.ok_or("the gate lost the activity")?;
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
                "I3, L4: the truth has {differs:?}, the gate has {seen:?}; only the gate has {extra:?}"
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
        Arc::clone(&self.nodes[self.dice.usize(0..self.nodes.len())])
    }

    /// Chooses how often a future is polled before it is dropped.
    fn max_polls(&mut self) -> u32 {
        if self.dice.u8(0..6) == 0 {
            self.done.dropped += 1;
            self.dice.u32(1..6)
        } else {
            MAX_POLLS
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

/// Repeats a call a few times until it succeeds.
async fn retried<T, F>(what: &str, call: impl Fn() -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, LedgerError>>,
{
    let mut failed = None;
    for _ in 0..ATTEMPTS {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => failed = Some(error),
        }
        tokio::time::advance(PATIENCE).await;
    }
    Err(format!("after the storm, {what} keeps failing: {failed:?}"))
}

/// Polls a future at most `polls` times, then drops it, as if its caller had died.
async fn poll_at_most<T>(future: impl Future<Output = T>, mut polls: u32) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
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
