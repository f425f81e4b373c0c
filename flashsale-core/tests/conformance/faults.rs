//! Two tiers under faults: the pump is given up in the middle, the gate goes back to what it was or forgets everything.
//!
//! What has to hold all the time are the invariants of both tiers; in the end that both agree, that what was persisted
//! is there, and that whoever was told of an order gets a definite answer. An order that no fault has touched is not
//! lost.

use std::{collections::BTreeMap, future::Future, num::NonZeroU16, sync::Arc, task::Poll, time::Duration};

use flashsale_core::{
    domain::{
        ActivityId, By, Capture, Idempotency, Key, LimitRule, Nonce, OfferTerms, Order, OrderId, OrderKey,
        PaymentId, Per, Quantity, SkuId, Strategy, Subject, Subjects, SystemClock, Timestamp, UserId, Window,
    },
    embedded::Embedded,
    ledger::{
        Adjustment, AdjustmentId, Advance, Epoch, Fence, Gate, Lane, Ledger, LedgerError, Outcome, Position,
        Reserve, Terms, Truth,
        invariants::{self, Owing},
        spec::{Image, Role},
    },
    tiered::{Resolution, Tiered, TieredOptions},
};

const START: Timestamp = Timestamp::from_millis(4_102_444_800_000);
const USERS: u64 = 6;
const BUCKETS: NonZeroU16 = NonZeroU16::new(2).expect("is not 0");

/// Plays one random sequence of `steps`.
///
/// # Errors
/// What was expected, what was seen, and the steps.
pub(crate) async fn play(seed: u64, steps: usize) -> Result<(), String> {
    let mut story = Story::begin(seed).await.map_err(|error| error.to_string())?;
    for _ in 0..steps {
        let told = story.step().await;
        let told = told.and(story.check().await);
        told.map_err(|what| story.failure(seed, &what))?;
    }
    let told = story.end().await;
    told.map_err(|what| story.failure(seed, &what))
}

struct Story {
    rng: fastrand::Rng,
    gate: Arc<Embedded>,
    truth: Arc<Embedded>,
    tiered: Tiered,
    fence: u64,
    now: Timestamp,
    ids: u64,
    /// Orders that buyers were told of, with the number of losses before.
    receipts: BTreeMap<OrderKey, (Lane, Position, u32)>,
    /// Orders that were shown as persisted.
    persisted: BTreeMap<OrderKey, Order>,
    /// What the gate once was.
    before: Option<Image>,
    /// Whether the gate loses something at all. Where it does not, no order may be lost.
    forgetful: bool,
    /// How often the gate has lost something.
    losses: u32,
    log: Vec<String>,
}

fn activity() -> ActivityId {
    ActivityId::new(1).expect("is an id")
}

fn sku(n: u64) -> SkuId {
    SkuId::new(n).expect("is an id")
}

fn by() -> By {
    By { actor: "Li Na".parse().expect("is a name"), reason: "counted".parse().expect("is a text") }
}

fn tiered(gate: &Arc<Embedded>, truth: &Arc<Embedded>, fence: u64) -> Tiered {
    let options = TieredOptions { entries: 7, content: 3 };
    Tiered::new(Arc::clone(gate) as _, Arc::clone(truth) as _, Fence(fence), options)
}

impl Story {
    async fn begin(seed: u64) -> Result<Self, LedgerError> {
        let engine = |role| Arc::new(Embedded::in_memory(role, Arc::new(SystemClock)));
        let (gate, truth) = (engine(Role::Gate), engine(Role::Truth));
        let tiered = tiered(&gate, &truth, 1);
        let mut story = Self {
            rng: fastrand::Rng::with_seed(seed),
            gate,
            truth,
            tiered,
            fence: 1,
            now: START,
            ids: 0,
            receipts: BTreeMap::new(),
            persisted: BTreeMap::new(),
            before: None,
            forgetful: seed.is_multiple_of(2),
            losses: 0,
            log: Vec::new(),
        };
        let price = "{\"amount\":100,\"currency\":\"CNY\"}";
        let price = serde_json::from_str(price).expect("is an amount");
        let user = LimitRule::new(Subject::User, Per::Offer, 4)?;
        let hold = Some(Duration::from_secs(60));
        let offers = [(1, Strategy::PreDeduct), (2, Strategy::OrderTime), (3, Strategy::PayTime)];
        let offers = offers
            .map(|(n, strategy)| OfferTerms::new(sku(n), price, 9, strategy, hold)?.with_limits(vec![user]));
        let offers: Result<Vec<_>, _> = offers.into_iter().collect();
        let window = Window::new(START, START.after(Duration::from_secs(86_400)))?;
        let terms =
            Terms::new(activity(), window, BUCKETS, flashsale_core::ledger::Timing::default(), offers?)?;
        story.tiered.open(Arc::new(terms)).await?;
        story.set_time(Duration::ZERO).await;
        Ok(story)
    }

    fn failure(&self, seed: u64, what: &str) -> String {
        let last = self.log.len().saturating_sub(40);
        format!("{what}\n  seed {seed}, the last steps:\n  {}", self.log[last..].join("\n  "))
    }

    async fn set_time(&mut self, span: Duration) {
        self.now = self.now.after(span);
        for bucket in 0..BUCKETS.get() {
            // A gate without content has no time.
            let _ = self.gate.advance_time(Lane { activity: activity(), bucket }, self.now).await;
        }
        self.truth.advance_time(Lane::first(activity()), self.now).await.expect("the truth is open");
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn note(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }

    async fn step(&mut self) -> Result<(), String> {
        match self.rng.u32(0..100) {
            0..35 => self.reserve().await,
            35..55 => self.advance().await,
            55..75 => {
                let polls = [self.rng.u32(1..14), self.rng.u32(1..40)][self.rng.usize(..2)];
                self.note(format!("pump, given up after {polls} polls"));
                let pumped = given_up(polls, self.tiered.pump(activity())).await;
                expected(pumped.transpose().map(drop))?;
                self.set_time(Duration::ZERO).await;
                Ok(())
            }
            75..80 => self.transfer().await,
            80..84 => self.adjust().await,
            84..88 => {
                self.note("time goes on, and what is due expires");
                let span = Duration::from_secs(self.rng.u64(1..200));
                self.set_time(span).await;
                expected(self.tiered.expire_due(Lane::first(activity()), 5).await.map(drop))
            }
            88..90 => {
                self.note("another process takes over");
                self.fence += 1;
                self.tiered = tiered(&self.gate, &self.truth, self.fence);
                Ok(())
            }
            90..92 => {
                self.note("an operator rebuilds the gate");
                let epoch =
                    Truth::epoch(&*self.truth, activity()).await.map_err(|error| error.to_string())?;
                expected(self.tiered.rebuild(activity(), epoch).await)?;
                self.set_time(Duration::ZERO).await;
                Ok(())
            }
            92..95 => {
                self.note("the gate is copied");
                self.before = Some(self.gate.image().await.map_err(|error| error.to_string())?);
                Ok(())
            }
            95..98 if self.forgetful => {
                let Some(image) = self.before.clone() else { return Ok(()) };
                self.note("the gate goes back to its copy");
                self.losses += 1;
                self.gate.replace(image).await.map_err(|error| error.to_string())?;
                self.set_time(Duration::ZERO).await;
                Ok(())
            }
            98..99 if self.forgetful => {
                self.note("the gate forgets everything");
                self.losses += 1;
                self.gate.wipe().await.map_err(|error| error.to_string())
            }
            _ => self.remember().await,
        }
    }

    async fn reserve(&mut self) -> Result<(), String> {
        let user = UserId::new(self.rng.u64(1..=USERS)).expect("is an id");
        let lane = Lane::of(activity(), user, BUCKETS);
        let request = Reserve {
            order: OrderId::new(self.id()).expect("is an id"),
            user,
            sku: sku(self.rng.u64(1..=3)),
            quantity: Quantity::try_from(self.rng.u32(1..=2)).expect("is a quantity"),
            idempotency: Idempotency { key: Key(self.id().into()), nonce: Nonce(self.ids) },
            subjects: Subjects::default(),
            replay_only: false,
        };
        self.note(format!("reserve {} for {user}, SKU {}", request.order, request.sku));
        let Ok(answer) = self.tiered.reserve(lane, None, vec![request]).await else { return Ok(()) };
        if let Outcome::Reserved { order, position } = &answer.outcomes[0] {
            self.receipts.insert(order.key, (lane, *position, self.losses));
        }
        Ok(())
    }

    async fn advance(&mut self) -> Result<(), String> {
        let known: Vec<_> = self.receipts.keys().copied().collect();
        if known.is_empty() {
            return Ok(());
        }
        let order = known[self.rng.usize(..known.len())];
        let payment = PaymentId::new(order.id.value()).expect("is an id");
        let provider = "sandbox".parse().map_err(|_| "a provider")?;
        let step = match self.rng.u32(0..4) {
            0 => Advance::Cancel { order },
            1 => Advance::OpenPayment { order, payment, provider },
            2 => Advance::PaymentFailed { order, payment },
            _ => {
                let Ok(Some(there)) = self.truth.order(order).await else { return Ok(()) };
                let capture = Capture {
                    provider,
                    event: format!("evt-{payment}").parse().map_err(|_| "an event")?,
                    transaction: format!("txn-{payment}").parse().map_err(|_| "a transaction")?,
                    payment,
                    amount: there.amount.amount(),
                    currency: there.amount.currency(),
                };
                let replacement = OrderId::new(self.id()).expect("is an id");
                Advance::Capture { order, capture, replacement }
            }
        };
        self.note(format!("{step:?}"));
        let lane = Lane::of(activity(), order.user, BUCKETS);
        expected(self.tiered.advance(lane, vec![step]).await.map(drop))
    }

    async fn transfer(&mut self) -> Result<(), String> {
        let lane = Lane { activity: activity(), bucket: self.rng.u16(0..BUCKETS.get()) };
        let (sku, units) = (sku(self.rng.u64(1..=3)), self.rng.u32(1..4));
        self.note(format!("send {units} of {sku} from bucket {}", lane.bucket));
        let _ = self.tiered.send(lane, 1 - lane.bucket, sku, units).await;
        for transfer in self.tiered.transfers(lane).await.unwrap_or_default() {
            match self.rng.u32(0..4) {
                0 => {}
                1 => {
                    let _ = self.tiered.receive(transfer).await;
                }
                _ => {
                    if matches!(self.tiered.receive(transfer).await, Ok(true)) {
                        let _ = self.tiered.forget(transfer).await;
                    }
                }
            }
        }
        self.set_time(Duration::ZERO).await;
        Ok(())
    }

    async fn adjust(&mut self) -> Result<(), String> {
        let n = self.rng.u32(0..1_000);
        let adjustment = Adjustment {
            activity: activity(),
            sku: sku(self.rng.u64(1..=3)),
            id: AdjustmentId::new(&format!("adj-{n}")).expect("is an id"),
            delta: [-3, -2, -1, 1, 2][self.rng.usize(..5)],
            by: by(),
        };
        let polls = self.rng.u32(1..60);
        self.note(format!("adjust {} by {}, given up after {polls} polls", adjustment.sku, adjustment.delta));
        let adjusted = given_up(polls, self.tiered.adjust(adjustment)).await;
        self.set_time(Duration::ZERO).await;
        expected(adjusted.transpose().map(drop))
    }

    /// Remembers which orders are shown as persisted.
    async fn remember(&mut self) -> Result<(), String> {
        for key in self.receipts.keys() {
            if let Ok(Some(order)) = self.tiered.order(*key).await
                && order.persisted
            {
                self.persisted.insert(*key, order);
            }
        }
        Ok(())
    }

    /// The invariants of both tiers.
    async fn check(&self) -> Result<(), String> {
        for (engine, owing) in [(&self.truth, Owing::Forbidden), (&self.gate, Owing::Allowed)] {
            let inspection = engine.inspect(activity()).await.map_err(|error| error.to_string())?;
            let broken = inspection.iter().flat_map(|inspection| invariants::check(inspection, owing));
            let broken: Vec<_> = broken.map(|violation| violation.to_string()).collect();
            if !broken.is_empty() {
                return Err(format!("expected the invariants, observed {}", broken.join("; ")));
            }
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), String> {
        self.note("at rest");
        self.remember().await?;
        self.settle().await?;
        let receipts: Vec<_> = self.receipts.iter().map(|(key, receipt)| (*key, *receipt)).collect();
        for (key, (lane, position, losses)) in receipts {
            let resolved = self.tiered.resolve(key, lane, position).await;
            let resolved =
                resolved.map_err(|error| format!("order {} has no definite answer: {error}", key.id))?;
            let untouched = losses == self.losses;
            if resolved == Resolution::Refused && (untouched || self.persisted.contains_key(&key)) {
                return Err(format!("expected order {}, observed that it is lost", key.id));
            }
        }
        self.settle().await?;
        for (key, before) in &self.persisted {
            let after = self.truth.order(*key).await.map_err(|error| error.to_string())?;
            let after = after.ok_or_else(|| format!("the persisted order {} is gone", key.id))?;
            if !before.status.is_open() && before.status != after.status {
                return Err(format!("order {} was {:?} and is {:?}", key.id, before.status, after.status));
            }
        }
        self.agree().await?;
        self.check().await
    }

    async fn settle(&mut self) -> Result<(), String> {
        self.fence += 1;
        self.tiered = tiered(&self.gate, &self.truth, self.fence);
        let settled = tokio::time::timeout(Duration::from_secs(20), self.tiered.settle(activity())).await;
        settled.map_err(|_| "expected rest, the pump goes on and on")?.map_err(|error| error.to_string())?;
        self.set_time(Duration::ZERO).await;
        Ok(())
    }

    /// Units and orders of both tiers are the same.
    async fn agree(&self) -> Result<(), String> {
        let error = |error: LedgerError| error.to_string();
        let epoch = Gate::epoch(&*self.gate, activity()).await.map_err(error)?;
        if epoch != Some(Truth::epoch(&*self.truth, activity()).await.map_err(error)?)
            || epoch == Some(Epoch(0))
        {
            return Err(format!("the gate is at rest in {epoch:?}"));
        }
        for n in 1..=3 {
            let ours = self.gate.stock(activity(), sku(n)).await.map_err(error)?.unwrap_or_default();
            let theirs = self.truth.stock(activity(), sku(n)).await.map_err(error)?.unwrap_or_default();
            let same = (ours.available + ours.transit, ours.held, ours.sold)
                == (theirs.available, theirs.held, theirs.sold);
            if !same {
                return Err(format!("SKU {n}: the gate has {ours:?}, the truth {theirs:?}"));
            }
        }
        for key in self.receipts.keys() {
            let ours =
                self.gate.order(*key).await.map_err(error)?.map(|order| (order.status, order.persisted));
            let theirs =
                self.truth.order(*key).await.map_err(error)?.map(|order| (order.status, order.persisted));
            if ours != theirs {
                return Err(format!("order {}: the gate has {ours:?}, the truth {theirs:?}", key.id));
            }
        }
        Ok(())
    }
}

/// What a fault may be answered with.
fn expected(result: Result<(), LedgerError>) -> Result<(), String> {
    match result {
        Err(error @ (LedgerError::Stopped(_) | LedgerError::Invalid(_))) => {
            Err(format!("expected no such error: {error}"))
        }
        _ => Ok(()),
    }
}

/// Polls a future at most so many times: a crash between any two of its steps, with its last reply lost.
async fn given_up<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => {
            left -= 1;
            if left == 0 { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}
