//! Plays one sale on a manual clock.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use flashsale_core::{
    admission::{Account, AccountRisk, GuardOptions, Guards, Ladder, Step},
    domain::{
        ActivityId, Capture, Idempotency, Key, LimitRule, ManualClock, Money, Nonce, OfferTerms, OrderId,
        OrderKey, PaymentId, Per, Provider, Quantity, SkuId, Strategy, Subject, SubjectId, Subjects,
        Timestamp, UserId, Window,
    },
    embedded::EmbeddedLedger,
    ledger::{
        Advance, Advanced, Lane, LedgerCalls as _, LedgerRole, Outcome as Reserved, Reserve, ReserveMode,
        Terms, Timing,
    },
    rate_limiter::Quota,
};

use super::{Scenario, Variant};
use crate::Failure;

/// The start of the sale, of challenges and of tickets, in milliseconds since 1970.
const START: u64 = 1_790_000_000_000;
const CHALLENGES: u64 = START - 600_000;
const TICKETS: u64 = START - 60_000;
/// The validity of a ticket, which counts from the start of the sale at the earliest.
const TICKET_LIFE: u64 = 300_000;
const DAY_MS: u64 = 86_400_000;
const PRICE: u64 = 9_900;

/// The result of a sale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The ordinary buyers together.
    pub people: Share,
    /// The actor.
    pub actor: Share,
}

/// The result of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Units paid.
    pub units: u64,
    /// Orders placed.
    pub orders: u64,
    /// The time for which orders held a unit unpaid, summed over all orders.
    pub hold_ms: u64,
    /// Accounts that had to solve a challenge.
    pub challenged: u64,
    /// Accounts that were denied a ticket.
    pub denied: u64,
    /// CPU time for proofs of work.
    pub work_ms: u64,
    /// Time for reading pictures.
    pub read_ms: u64,
}

/// The behaviour of one side.
#[derive(Clone, Copy)]
struct Habit {
    try_ms: u64,
    read_ms: u64,
    read_right: f64,
    look_ms: u64,
    pay: f64,
    pay_ms: u64,
    /// The maximum time from the ticket to the order.
    reaction_ms: u64,
}

struct Visitor {
    is_actor: bool,
    user: UserId,
    address: SubjectId,
    account: Account,
    /// The challenge that is solved but not used yet; a solution works once.
    solved: Step,
    challenged: bool,
    ticket_until: u64,
    gives_up_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Expires overdue orders.
    Expire,
    /// Asks for a challenge or a ticket.
    Ask(usize),
    /// Finishes work on a challenge, correctly or not.
    Solve(usize, Step, bool),
    /// Orders, or looks again later if nothing is available.
    Order(usize),
    /// Pays the order placed at this time.
    Pay(usize, OrderKey, u64),
    /// Loses an unpaid order to expiry.
    Lose(usize),
}

struct Sale<'a> {
    scenario: &'a Scenario,
    digits: [u32; 2],
    ledger: EmbeddedLedger,
    /// The units available; `None` after each change of the ledger. Cached, because a million looks
    /// for returned units read it.
    available: Option<i64>,
    clock: Arc<ManualClock>,
    guards: Guards,
    visitors: Vec<Visitor>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    random: Rng,
    /// When each of the actor's cores and readers is free.
    cores: BTreeSet<(u64, usize)>,
    readers: BTreeSet<(u64, usize)>,
    outcome: Outcome,
}

/// Plays a scenario.
///
/// # Errors
/// If the scenario's numbers are invalid, or the ledger gives an unexpected answer.
pub async fn play(scenario: &Scenario, variant: Variant) -> Result<Outcome, Failure> {
    let mut sale = Sale::open(scenario, variant).await?;
    sale.schedule_visitors(variant);
    let end = START + scenario.minutes * 60_000;
    while let Some(Reverse((at, _, event))) = sale.events.pop() {
        sale.clock.set(Timestamp::from_millis(at));
        sale.handle(at, event, end).await?;
    }
    Ok(sale.outcome)
}

impl<'a> Sale<'a> {
    async fn open(scenario: &'a Scenario, variant: Variant) -> Result<Self, Failure> {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(CHALLENGES)));
        let ledger = EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _);
        let hold = Some(Duration::from_secs(scenario.offer.hold_seconds));
        let price = Money::new(PRICE, "CNY".parse()?)?;
        let offer = OfferTerms::new(sku(), price, scenario.offer.units, Strategy::PreDeduct, hold)?
            .with_limits(vec![LimitRule::new(Subject::User, Per::Offer, 1)?])?;
        let end = START + scenario.minutes * 60_000;
        let window = Window::new(Timestamp::from_millis(START), Timestamp::from_millis(end))?;
        let terms = Terms::new(lane().activity, window, NonZeroU16::MIN, Timing::default(), vec![offer])?;
        ledger.open(Arc::new(terms)).await?;
        Ok(Self {
            scenario,
            digits: [
                scenario.guards.digits,
                scenario.guards.digits_instead_of_quiz + u32::from(variant.strict),
            ],
            ledger,
            available: None,
            guards: guards(scenario, variant)?,
            clock,
            visitors: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            random: Rng::with_seed(scenario.seed),
            cores: (0..scenario.actor.cores).map(|core| (CHALLENGES, core)).collect(),
            readers: (0..scenario.actor.readers).map(|reader| (CHALLENGES, reader)).collect(),
            outcome: Outcome::default(),
        })
    }

    /// Creates all visitors and schedules their arrival.
    fn schedule_visitors(&mut self, variant: Variant) {
        let Scenario { people, actor, .. } = self.scenario;
        for number in 0..people.count {
            let own = u64::MAX - number;
            let shared = self.random.f64() < people.shared;
            let address = if shared { 1_000_000 + self.random.u64(0..people.shared_addresses) } else { own };
            let days = self.random.u64(0..=people.oldest_days);
            let prepared = self.random.f64() < people.prepared;
            let comes_at = if prepared {
                START - self.random.u64(0..120_000)
            } else {
                // The keenest first: half of them arrive in the first quarter of the time.
                let share = self.random.f64();
                START + scaled(people.arrive_seconds * 1_000, share * share)
            };
            let level = u8::try_from((days / 60).min(5)).unwrap_or(5);
            let gives_up_at = comes_at.max(START) + people.patience_seconds * 1_000;
            self.add_visitor(variant, false, 1 + number, address, (days, level), comes_at, gives_up_at);
        }
        for number in 0..actor.accounts {
            let first = if variant.strict { START - 120_000 } else { CHALLENGES };
            let comes_at = first + 1_000 * number / actor.asks_per_second;
            let days = self.random.u64(0..=actor.oldest_days);
            let gives_up_at = START + actor.patience_seconds * 1_000;
            let address = 2_000_000 + number % actor.addresses;
            // With the guards off there are no challenges, so this only waits for tickets.
            self.add_visitor(variant, true, 1_000_000 + number, address, (days, 0), comes_at, gives_up_at);
        }
        self.at(START, Event::Expire);
    }

    #[expect(clippy::too_many_arguments, reason = "one caller for each side")]
    fn add_visitor(
        &mut self,
        variant: Variant,
        is_actor: bool,
        user: u64,
        address: u64,
        (days, level): (u64, u8),
        comes_at: u64,
        gives_up_at: u64,
    ) {
        let created_at = Timestamp::from_millis(START - days * DAY_MS - 3_600_000);
        let known = Account { created_at: Some(created_at), level: Some(level) };
        self.visitors.push(Visitor {
            is_actor,
            user: UserId::new(user).expect("not zero"),
            address: SubjectId(address),
            account: if variant.accounts_known { known } else { Account::default() },
            solved: Step::None,
            challenged: false,
            ticket_until: 0,
            gives_up_at,
        });
        self.at(comes_at, Event::Ask(self.visitors.len() - 1));
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    async fn handle(&mut self, at: u64, event: Event, end: u64) -> Result<(), Failure> {
        match event {
            Event::Expire => {
                self.available = None;
                self.ledger.expire_due(lane(), 10_000).await?;
                // Continue past the end, so that units held then are accounted for.
                if at < end + 1_000 * self.scenario.offer.hold_seconds {
                    self.at(at + 500, Event::Expire);
                }
            }
            Event::Ask(who) if at < self.visitors[who].gives_up_at.min(end) => self.ask(at, who).await,
            Event::Solve(who, step, right) => {
                if right {
                    self.visitors[who].solved = step;
                } else {
                    self.guards.failed(self.visitors[who].user, Timestamp::from_millis(at));
                }
                self.at(at + 100, Event::Ask(who));
            }
            Event::Order(who) if at < self.visitors[who].gives_up_at.min(end) => self.order(at, who).await?,
            Event::Pay(who, order, placed) => self.pay(at, who, order, placed).await?,
            Event::Lose(who) => {
                self.share(who).hold_ms += 1_000 * self.scenario.offer.hold_seconds;
                self.at(at + 600, Event::Order(who));
            }
            Event::Ask(_) | Event::Order(_) => {}
        }
        Ok(())
    }

    /// Asks for a challenge before tickets are issued, then for a ticket with the solved challenge.
    async fn ask(&mut self, at: u64, who: usize) {
        let Visitor { user, account, address, solved, is_actor, .. } = self.visitors[who];
        let now = Timestamp::from_millis(at);
        match self.guards.ask(user, account, address, None, now).await {
            Err(limited) => {
                let wait = u64::try_from(limited.retry_after.as_millis()).unwrap_or(u64::MAX);
                self.at(at + wait + 1, Event::Ask(who));
            }
            Ok(Step::Deny) => self.share(who).denied += 1,
            Ok(step) if step > solved => self.solve(at, who, step),
            Ok(_) if at < TICKETS => {
                let spread = self.random.u64(0..if is_actor { 5_000 } else { 20_000 });
                self.at(TICKETS + spread, Event::Ask(who));
            }
            Ok(_) => {
                let visitor = &mut self.visitors[who];
                visitor.solved = Step::None;
                visitor.ticket_until = at.max(START) + TICKET_LIFE;
                let reaction = self.random.u64(1..=self.habit(who).reaction_ms);
                self.at(at.max(START) + reaction, Event::Order(who));
            }
        }
    }

    /// Works on a challenge: each person alone, the actor with its cores and readers.
    fn solve(&mut self, at: u64, who: usize, step: Step) {
        let habit = self.habit(who);
        if !std::mem::replace(&mut self.visitors[who].challenged, true) {
            self.share(who).challenged += 1;
        }
        let digits = self.digits[usize::from(step == Step::Quiz)];
        // The number of tries is geometrically distributed.
        let tries = 1.0 - (1.0 - self.random.f64()).ln() * 16_f64.powi(i32::try_from(digits).unwrap_or(0));
        let work_ms = scaled(habit.try_ms, tries).max(1);
        let right = self.random.f64() < habit.read_right;
        if !self.visitors[who].is_actor {
            let (spent, right) = match step {
                Step::Quiz => (habit.read_ms, right),
                _ => (work_ms, true),
            };
            let share = self.share(who);
            if step == Step::Quiz {
                share.read_ms += spent
            } else {
                share.work_ms += spent
            }
            self.at(at + spent, Event::Solve(who, step, right));
            return;
        }
        let core = self.cores.first().copied().filter(|_| habit.try_ms > 0);
        let reader = self.readers.first().copied().filter(|_| step == Step::Quiz);
        let by_core = core.map(|(free, _)| free.max(at) + work_ms);
        let by_reader = reader.map(|(free, _)| free.max(at) + habit.read_ms);
        match (by_core, by_reader) {
            (core_end, Some(end)) if core_end.is_none_or(|core_end| end < core_end) => {
                let (_, reader) = self.readers.pop_first().expect("not empty");
                self.readers.insert((end, reader));
                self.share(who).read_ms += habit.read_ms;
                self.at(end, Event::Solve(who, step, right));
            }
            (Some(end), _) => {
                let (_, core) = self.cores.pop_first().expect("not empty");
                self.cores.insert((end, core));
                self.share(who).work_ms += work_ms;
                self.at(end, Event::Solve(who, step, true));
            }
            (None, _) => {}
        }
    }

    async fn order(&mut self, at: u64, who: usize) -> Result<(), Failure> {
        let Visitor { user, address, ticket_until, .. } = self.visitors[who];
        if self.available().await? <= 0 {
            // The status page says so; nobody orders then.
            let look = self.habit(who).look_ms;
            let pause = look / 2 + self.random.u64(0..=look);
            self.at(at + pause, Event::Order(who));
            return Ok(());
        }
        if at >= ticket_until {
            self.at(at, Event::Ask(who));
            return Ok(());
        }
        if let Err(limited) = self.guards.order(user, address, Timestamp::from_millis(at)) {
            let wait = u64::try_from(limited.retry_after.as_millis()).unwrap_or(u64::MAX);
            self.at(at + wait + 1, Event::Order(who));
            return Ok(());
        }
        self.sequence += 1;
        let reserve = Reserve {
            order: OrderId::new(self.sequence).ok_or("not zero")?,
            user,
            sku: sku(),
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key(self.sequence.into()), nonce: Nonce(self.sequence) },
            subjects: Subjects::default(),
            mode: ReserveMode::NewOrder,
        };
        self.available = None;
        let answer = self.ledger.reserve(lane(), None, vec![reserve]).await?;
        match &answer.outcomes[0] {
            Reserved::Reserved { order, .. } => {
                self.share(who).orders += 1;
                // A ticket makes one order.
                self.visitors[who].ticket_until = 0;
                let habit = self.habit(who);
                if self.random.f64() < habit.pay {
                    let later = self.random.u64(1_000..=habit.pay_ms);
                    self.at(at + later, Event::Pay(who, order.key, at));
                } else {
                    self.at(at + 1_000 * self.scenario.offer.hold_seconds, Event::Lose(who));
                }
            }
            Reserved::SoldOut { .. } => self.at(at + 100, Event::Order(who)),
            other => return Err(format!("unexpected answer to {user:?}: {other:?}").into()),
        }
        Ok(())
    }

    async fn available(&mut self) -> Result<i64, Failure> {
        if self.available.is_none() {
            let stock = self.ledger.stock(lane().activity, sku()).await?.ok_or("the SKU is not offered")?;
            self.available = Some(stock.available);
        }
        Ok(self.available.unwrap_or_default())
    }

    async fn pay(&mut self, at: u64, who: usize, order: OrderKey, placed: u64) -> Result<(), Failure> {
        let payment = PaymentId::new(order.id.value()).ok_or("not zero")?;
        let provider: Provider = "bank".parse()?;
        let text = format!("{payment}");
        let capture = Capture {
            provider: provider.clone(),
            event: text.parse()?,
            transaction: text.parse()?,
            payment,
            amount: PRICE,
            currency: "CNY".parse()?,
        };
        let steps = vec![
            Advance::OpenPayment { order, payment, provider, in_parts: false },
            Advance::Capture {
                in_parts: false,
                order,
                capture,
                replacement: OrderId::new(order.id.value() + (1 << 60)).ok_or("not zero")?,
            },
        ];
        self.available = None;
        let answer = self.ledger.advance(lane(), steps).await?;
        if !answer.outcomes.iter().all(|outcome| matches!(outcome, Advanced::Done(_))) {
            return Err(format!("unexpected answer to a payment: {:?}", answer.outcomes).into());
        }
        let share = self.share(who);
        share.units += 1;
        share.hold_ms += at - placed;
        Ok(())
    }

    fn habit(&self, who: usize) -> Habit {
        let Scenario { people, actor, .. } = self.scenario;
        if self.visitors[who].is_actor {
            Habit {
                try_ms: actor.try_ms,
                read_ms: actor.read_ms,
                read_right: actor.read_right,
                look_ms: 1_000 * actor.look_seconds,
                pay: actor.pay,
                pay_ms: 1_000 * actor.pay_seconds,
                reaction_ms: 200,
            }
        } else {
            Habit {
                try_ms: people.try_ms,
                read_ms: people.read_ms,
                read_right: people.read_right,
                look_ms: 1_000 * people.look_seconds,
                pay: people.pay,
                pay_ms: 1_000 * people.pay_seconds,
                reaction_ms: 2_000,
            }
        }
    }

    fn share(&mut self, who: usize) -> &mut Share {
        if self.visitors[who].is_actor { &mut self.outcome.actor } else { &mut self.outcome.people }
    }
}

fn guards(scenario: &Scenario, variant: Variant) -> Result<Guards, Failure> {
    let numbers = &scenario.guards;
    let quota = |burst: u32, seconds: u64| -> Result<Quota, Failure> {
        Ok(Quota::new(NonZeroU32::try_from(burst)?, Duration::from_secs(seconds))?)
    };
    let (mode, many) = (variant.mode, NonZeroU32::new(1 << 20).unwrap_or(NonZeroU32::MIN));
    let options = GuardOptions {
        user_orders: quota(30, 10)?,
        user_orders_mode: mode,
        address_orders: quota(20_000, 10)?,
        address_orders_mode: mode,
        user_tickets: quota(numbers.user_tickets, numbers.tickets_seconds)?,
        user_tickets_mode: mode,
        busy_address: quota(
            numbers.busy_address / if variant.strict { 3 } else { 1 },
            numbers.tickets_seconds,
        )?,
        busy_address_mode: mode,
        risk_mode: mode,
        ladder: Ladder::default(),
        failures: quota(numbers.failures, numbers.failures_seconds)?,
        // Large enough that no keys share a slot, since the table's hash seed is random.
        users: many,
        addresses: many,
    };
    Ok(Guards::new(&options, Arc::new(AccountRisk), Timestamp::from_millis(CHALLENGES)))
}

fn lane() -> Lane {
    Lane::first(ActivityId::new(1).expect("not zero"))
}

fn sku() -> SkuId {
    SkuId::new(1).expect("not zero")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "milliseconds of a sale, never negative"
)]
fn scaled(ms: u64, factor: f64) -> u64 {
    (ms as f64 * factor) as u64
}
