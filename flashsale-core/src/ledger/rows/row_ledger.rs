//! The ledger on a store of rows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::Mutex as Turn;

use super::{
    Changes, Excerpt, Needs, RowKey, Rows,
    common::{self, Consumers},
};
use crate::{
    domain::{ActivityId, Clock, Order, OrderKey, Timestamp, UserId},
    ledger::{
        Answer, BatchId, Bounds, BuyerFilter, Chunk, Command, Consumer, Entry, Epoch, Lane, Ledger,
        LedgerError, LedgerRole, Opened, PaymentRef, Position, Query, Reply, Terms,
        state_machine::{Batch, Inspection, MAX_UNREAD, StateMachine},
        wire,
    },
};

/// How often a step is decided again because another one was faster.
const ATTEMPTS: usize = 64;

/// How many steps of different lanes one ledger takes side by side, at most.
const TURNS: usize = 64;

/// Rows read at once while all of a lane is gone through.
const PAGE: usize = 1_000;

/// A ledger that keeps its lanes in a store of rows. Any number of them, in any number of processes, may
/// use one store.
///
/// Each step reads the rows that it touches, decides on them by the specification, and writes what
/// changed if the lane is still as it was read; otherwise it decides again.
///
/// Steps of the clock, and limits of devices or addresses that nobody has counted before, read all orders
/// of a lane.
#[derive(Debug)]
pub struct RowLedger<R> {
    rows: Arc<R>,
    role: LedgerRole,
    clock: Arc<dyn Clock>,
    max_unread: u64,
    buyers: Mutex<HashMap<Lane, KnownBuyers>>,
    /// Steps of one ledger in one lane take turns, for only one of them could commit. Lanes share turns by
    /// their hash.
    turns: [Turn<()>; TURNS],
}

/// The buyers of a lane's orders up to a number. The numbers begin anew with each epoch.
#[derive(Clone, Debug, Default)]
struct KnownBuyers {
    epoch: Epoch,
    filter: BuyerFilter,
    number: u64,
    /// The order with that number.
    last: Option<OrderKey>,
}

impl<R: Rows> RowLedger<R> {
    /// Returns a ledger that decides everything.
    pub fn single(rows: Arc<R>, clock: Arc<dyn Clock>) -> Self {
        Self {
            rows,
            role: LedgerRole::Single,
            clock,
            max_unread: MAX_UNREAD,
            buyers: Mutex::default(),
            turns: [const { Turn::const_new(()) }; TURNS],
        }
    }

    /// Returns a ledger that decides what a gate admitted.
    pub fn truth(rows: Arc<R>, clock: Arc<dyn Clock>) -> Self {
        Self { role: LedgerRole::Truth, ..Self::single(rows, clock) }
    }

    /// Returns a ledger that admits orders and follows a truth.
    pub fn gate(rows: Arc<R>, clock: Arc<dyn Clock>) -> Self {
        Self { role: LedgerRole::Gate, ..Self::single(rows, clock) }
    }

    /// Sets how many entries of a lane a consumer may leave unread before the lane places no more orders;
    /// [`MAX_UNREAD`] without this call.
    #[must_use]
    pub fn with_max_unread(self, max_unread: u64) -> Self {
        Self { max_unread, ..self }
    }

    /// Returns the full state of an activity, which is not of one moment unless it rests.
    ///
    /// # Errors
    /// Errors of the store.
    pub async fn inspect(&self, activity: ActivityId) -> Result<Option<Inspection>, LedgerError> {
        let mut whole = StateMachine::new(self.role);
        for lane in self.lanes_of(activity).await? {
            let mut needs = Needs { all_buyers: true, ..head() };
            if let Some(terms) = self.lane_terms(lane).await? {
                needs.keys.extend(terms.offers().iter().map(|offer| RowKey::Units(offer.sku())));
            }
            let excerpt = self.rows.read(lane, &needs).await?;
            // The counters of devices and addresses are rows of the buyers' orders.
            let keys = StateMachine::of_excerpt(self.role, lane, &excerpt)?.counters_of_orders(lane);
            let excerpt = self
                .rows
                .read(lane, &Needs { keys: needs.keys.into_iter().chain(keys).collect(), ..needs })
                .await?;
            whole.join(StateMachine::of_excerpt(self.role, lane, &excerpt)?);
        }
        Ok(whole.inspect(activity))
    }

    /// Advances the time of a lane, never back. For tests.
    ///
    /// # Errors
    /// [`LedgerError::NotOpen`]; errors of the store.
    pub async fn advance_time(&self, lane: Lane, to: Timestamp) -> Result<(), LedgerError> {
        self.change(lane, |_| head(), |machine| machine.advance_time(lane, to)).await
    }

    fn batch(&self) -> Batch {
        Batch { id: BatchId(fastrand::u64(..)), now: self.clock.now() }
    }

    /// Takes a step in one lane.
    async fn step_lane(&self, lane: Lane, command: &Command) -> Result<Answer, LedgerError> {
        let step = |machine: &mut StateMachine| {
            machine.bound_outboxes(self.max_unread);
            machine.step(self.batch(), command)
        };
        self.change(lane, |machine| machine.needs(lane, command), step).await
    }

    /// Reads what a change of one lane needs, makes it, and writes it. Begins again if somebody else was
    /// faster.
    async fn change<T: Send>(
        &self,
        lane: Lane,
        needs: impl Fn(&mut StateMachine) -> Needs + Send,
        mut run: impl FnMut(&mut StateMachine) -> Result<T, LedgerError> + Send,
    ) -> Result<T, LedgerError> {
        let _turn = self.turns[turn_of(lane)].lock().await;
        let mut sent = None;
        for _ in 0..ATTEMPTS {
            let (mut machine, known, excerpt) = self.read_for(lane, &needs).await?;
            match sent {
                // The commit was delivered twice, and the second answer came back.
                Some((version, done)) if version == excerpt.version => return Ok(done),
                _ => {}
            }
            let done = run(&mut machine)?;
            let next = fastrand::u64(1..);
            let changes = Changes { next, ..machine.changes(lane, &known, &excerpt)? };
            if changes.is_empty() {
                return Ok(done);
            }
            match self.rows.commit(lane, &changes).await {
                Ok(true) => return Ok(done),
                Ok(false) => sent = Some((next, done)),
                Err(lost @ LedgerError::Unknown(_)) => {
                    let now = self.rows.read(lane, &Needs::default()).await.map_err(|_| lost.clone())?;
                    return if now.version == next { Ok(done) } else { Err(lost) };
                }
                Err(error) => return Err(error),
            }
        }
        Err(busy())
    }

    /// Reads what is needed, until nothing more is.
    async fn read_for(
        &self,
        lane: Lane,
        needs: impl Fn(&mut StateMachine) -> Needs,
    ) -> Result<(StateMachine, Needs, Excerpt), LedgerError> {
        let mut machine = StateMachine::new(self.role);
        let mut known = Needs::default();
        let mut excerpt = Excerpt::default();
        while known.add(needs(&mut machine)) {
            // Read again from the start, so that all rows are of one moment.
            excerpt = self.rows.read(lane, &known).await?;
            machine = StateMachine::of_excerpt(self.role, lane, &excerpt)?;
        }
        Ok((machine, known, excerpt))
    }

    /// Opens one lane after another, bucket 0 last: without it the activity is not open. A repeated call goes
    /// on where this one stopped.
    async fn open(&self, terms: &Arc<Terms>) -> Result<Opened, LedgerError> {
        let machine = StateMachine::new(self.role);
        machine.opened(terms)?;
        let command = Command::Open(Arc::clone(terms));
        let mut opened = Opened::Before;
        let lanes = machine.lane_count(terms);
        for bucket in (0..lanes).rev() {
            let has_begun = bucket + 1 < lanes;
            let lane = Lane { activity: terms.activity(), bucket };
            let open = |machine: &mut StateMachine, consumers: &[Consumer]| {
                machine.open_lane(self.batch(), terms, bucket, consumers.to_vec())
            };
            if self.make_lane(lane, &command, open).await.map_err(|error| in_part(has_begun, error))?
                == Opened::Now
            {
                opened = Opened::Now;
            }
        }
        Ok(opened)
    }

    /// Makes a change that may make a lane, with the present consumers.
    async fn make_lane<T: Send>(
        &self,
        lane: Lane,
        command: &Command,
        mut run: impl FnMut(&mut StateMachine, &[Consumer]) -> Result<T, LedgerError> + Send,
    ) -> Result<T, LedgerError> {
        let consumers = self.consumers().await?;
        let needs = |machine: &mut StateMachine| machine.needs(lane, command);
        let made = self.change(lane, needs, |machine| run(machine, &consumers)).await?;
        // Those that came or went meanwhile did not find this lane.
        let now = self.consumers().await.map_err(after_the_step)?;
        let came = now.iter().filter(|consumer| !consumers.contains(consumer));
        let went = consumers.iter().filter(|consumer| !now.contains(consumer));
        let came = came.cloned().map(Command::Register);
        for command in came.chain(went.cloned().map(Command::Retire)) {
            self.step_lane(lane, &command).await.map_err(after_the_step)?;
        }
        Ok(made)
    }

    /// Loads a part of a truth's content into one lane after another.
    async fn load(&self, activity: ActivityId, epoch: Epoch, chunk: &Chunk) -> Result<(), LedgerError> {
        StateMachine::new(self.role).check_loads(activity, chunk)?;
        let command = Command::Load { activity, epoch, chunk: Box::new(chunk.clone()) };
        for bucket in 0..chunk.terms.buckets().get() {
            let lane = Lane { activity, bucket };
            let load = |machine: &mut StateMachine, consumers: &[Consumer]| {
                machine.load_lane(lane, epoch, chunk, consumers.to_vec())
            };
            let loaded = self.make_lane(lane, &command, load).await;
            loaded.map_err(|error| in_part(bucket > 0, error))?;
        }
        Ok(())
    }

    /// Opens the loaded content of one lane after another, the first lane last: it has the note of what is
    /// free. A repeated call goes on where the first one stopped.
    async fn reopen(&self, activity: ActivityId, epoch: Epoch, batch: BatchId) -> Result<(), LedgerError> {
        let lanes = self.lanes_of(activity).await?;
        let command = Command::Reopen { activity, epoch, batch };
        let whole = self.whole(&lanes, |lane, machine| machine.needs(lane, &command)).await?;
        let Some(free) = whole.free_units(activity, epoch)? else { return Ok(()) };
        // What is free can be counted until the first lane opens, so it is noted before that.
        let first = Lane::first(activity);
        self.change(first, |_| head(), |machine| machine.note_free(first, epoch, &free)).await?;
        for lane in lanes.into_iter().rev() {
            let needs = |machine: &mut StateMachine| machine.needs(lane, &command);
            let reopen = |machine: &mut StateMachine| {
                machine.reopen_lane(Batch { id: batch, ..self.batch() }, lane, epoch, &free)
            };
            self.change(lane, needs, reopen).await.map_err(|error| in_part(true, error))?;
        }
        Ok(())
    }

    /// A part of each lane of an activity. They are not of one moment.
    async fn whole(
        &self,
        lanes: &[Lane],
        needs: impl Fn(Lane, &StateMachine) -> Needs + Send + Sync,
    ) -> Result<StateMachine, LedgerError> {
        let mut whole = StateMachine::new(self.role);
        for lane in lanes {
            whole.join(self.read_for(*lane, |machine| needs(*lane, machine)).await?.0);
        }
        Ok(whole)
    }

    /// Applies a command in every lane of an activity, or of the ledger. A repeated call goes on where the
    /// first one stopped.
    async fn step_lanes(&self, lanes: Vec<Lane>, command: &Command) -> Result<Answer, LedgerError> {
        if lanes.is_empty() {
            return StateMachine::new(self.role).step(self.batch(), command);
        }
        let mut has_begun = false;
        for lane in lanes {
            self.step_lane(lane, command).await.map_err(|error| in_part(has_begun, error))?;
            has_begun = true;
        }
        Ok(Answer::Done)
    }

    async fn lanes_of(&self, activity: ActivityId) -> Result<Vec<Lane>, LedgerError> {
        let first = Lane::first(activity);
        let Some(terms) = self.lane_terms(first).await? else { return Ok(Vec::new()) };
        let lanes = StateMachine::new(self.role).lane_count(&terms);
        Ok((0..lanes).map(|bucket| Lane { activity, bucket }).collect())
    }

    async fn all_lanes(&self) -> Result<Vec<Lane>, LedgerError> {
        let mut lanes = self.rows.lanes().await?;
        lanes.retain(|lane| *lane != common::lane());
        Ok(lanes)
    }

    async fn lane_terms(&self, lane: Lane) -> Result<Option<Arc<Terms>>, LedgerError> {
        Ok(self.excerpt(lane, &head()).await?.terms(lane.activity))
    }

    async fn excerpt(&self, lane: Lane, needs: &Needs) -> Result<StateMachine, LedgerError> {
        StateMachine::of_excerpt(self.role, lane, &self.rows.read(lane, needs).await?)
    }

    /// The lane of a user.
    async fn lane_of(&self, activity: ActivityId, user: UserId) -> Result<Lane, LedgerError> {
        Ok(match self.role {
            LedgerRole::Truth => Lane::first(activity),
            LedgerRole::Single | LedgerRole::Gate => match self.lane_terms(Lane::first(activity)).await? {
                Some(terms) => Lane::of(activity, user, terms.buckets()),
                None => Lane::first(activity),
            },
        })
    }

    /// A state machine that knows a user's orders in one activity.
    async fn orders_in(&self, activity: ActivityId, user: UserId) -> Result<StateMachine, LedgerError> {
        let lane = self.lane_of(activity, user).await?;
        self.excerpt(lane, &Needs { buyers: BTreeSet::from([user]), ..head() }).await
    }

    async fn order(&self, key: OrderKey) -> Result<Option<Order>, LedgerError> {
        let machine = self.orders_in(key.activity, key.user).await?;
        // The excerpt has one lane; the order is in it or nowhere.
        Ok(machine.orders_of(key.user, None, usize::MAX).into_iter().find(|order| order.key == key))
    }

    async fn number_of(&self, lane: Lane, order: Option<OrderKey>) -> Result<u64, LedgerError> {
        let Some(key) = order else { return Ok(0) };
        let excerpt = self.rows.read(lane, &Needs { buyers: BTreeSet::from([key.user]), ..head() }).await?;
        for row in excerpt.orders.get(&key.user).into_iter().flatten() {
            if wire::decode::<Order>(&row.value)?.key == key {
                return Ok(row.number);
            }
        }
        Ok(0)
    }

    /// The epoch of a gate's content, if all lanes are open in it. A lane that was set back by itself has not
    /// sent what others have received: then the gate is not open either, and is loaded again.
    async fn open_epoch(&self, activity: ActivityId) -> Result<Option<Epoch>, LedgerError> {
        let lanes = self.lanes_of(activity).await?;
        let heads = async || self.whole(&lanes, |_, _| head()).await;
        let before = heads().await?;
        if before.has_sent_what_arrived(activity, &before) {
            return Ok(before.open_epoch(activity));
        }
        // Something may have been sent and received between two of these reads, so look again.
        let now = heads().await?;
        let epoch = now.open_epoch(activity);
        let is_other = before.open_epoch(activity) != epoch;
        Ok(epoch.filter(|_| is_other || now.has_sent_what_arrived(activity, &before)))
    }

    /// The buyers of a lane. Only those since the last call are read, unless the lane has lost orders since.
    async fn buyers(&self, lane: Lane, epoch: Epoch) -> Result<BuyerFilter, LedgerError> {
        let known = self.buyers.lock().unwrap_or_else(PoisonError::into_inner).get(&lane).cloned();
        let mut known = known.filter(|known| known.epoch == epoch).unwrap_or_default();
        known.epoch = epoch;
        if let Some(last) = known.last {
            let again = self.rows.orders(lane, false, known.number - 1, 1).await?;
            let again = again.first().map(|(_, row)| wire::decode::<Order>(&row.value)).transpose()?;
            if again.is_none_or(|order| order.key != last) {
                known = KnownBuyers { epoch, ..KnownBuyers::default() };
            }
        }
        loop {
            let page = self.rows.orders(lane, false, known.number, PAGE).await?;
            let Some((_, last)) = page.last() else { break };
            known.last = Some(wire::decode::<Order>(&last.value)?.key);
            known.number = last.number;
            let skipped = usize::from(mutant!("row-view-cursor-skipped"));
            page.iter().skip(skipped).for_each(|(user, _)| known.filter.insert(*user));
        }
        let filter = known.filter.clone();
        self.buyers.lock().unwrap_or_else(PoisonError::into_inner).insert(lane, known);
        Ok(filter)
    }

    async fn events(
        &self,
        consumer: &Consumer,
        lane: Lane,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        let machine = self.excerpt(lane, &head()).await?;
        let acknowledged = machine.acknowledged(consumer, lane)?;
        let from = from.map_or(acknowledged, |position| position.sequence);
        let entries = self.rows.entries(lane, from, limit).await?;
        entries.iter().map(|entry| Ok(wire::decode(entry)?)).collect()
    }

    async fn content(
        &self,
        activity: ActivityId,
        after: Option<OrderKey>,
        limit: usize,
    ) -> Result<Chunk, LedgerError> {
        let lane = Lane::first(activity);
        let limit = limit.max(1);
        // The position comes first: what happens after it is followed.
        let machine = self.excerpt(lane, &head()).await?;
        let number = self.number_of(lane, after).await?;
        let mut page = self.rows.orders(lane, false, number, limit.saturating_add(1)).await?;
        let more = page.len() > limit;
        page.truncate(limit);
        let orders =
            page.iter().map(|(_, row)| wire::decode::<Order>(&row.value)).collect::<Result<Vec<_>, _>>()?;
        let adjustments = self.rows.adjustments(lane).await?;
        let chunk = machine.content(activity, None, 1)?;
        Ok(Chunk {
            after: after.map(|after| after.id),
            next: orders.last().filter(|_| more).map(|order| order.key.id),
            adjustments: StateMachine::adjustments_of(&adjustments)?,
            orders,
            ..chunk
        })
    }

    // What belongs to no lane.

    /// The consumers of lanes that open, and the version of the lane that keeps them.
    async fn kept_consumers(&self) -> Result<(u64, Consumers), LedgerError> {
        let needs = Needs { keys: BTreeSet::from([RowKey::Consumers]), ..Needs::default() };
        let excerpt = self.rows.read(common::lane(), &needs).await?;
        let row = excerpt.rows.get(&RowKey::Consumers).map(|row| wire::decode::<Consumers>(row));
        Ok((excerpt.version, row.transpose()?.unwrap_or_default()))
    }

    async fn consumers(&self) -> Result<Vec<Consumer>, LedgerError> {
        let (_, Consumers(known)) = self.kept_consumers().await?;
        Ok(known.into_keys().collect())
    }

    async fn change_consumers(
        &self,
        mut change: impl FnMut(&mut BTreeMap<Consumer, bool>) + Send,
    ) -> Result<(), LedgerError> {
        for _ in 0..ATTEMPTS {
            let (version, before) = self.kept_consumers().await?;
            let mut now = before.clone();
            change(&mut now.0);
            if now == before {
                return Ok(());
            }
            let rows = [(RowKey::Consumers, Some(wire::encode(&now)))].into();
            let changes = Changes { version, next: fastrand::u64(1..), rows, ..Changes::default() };
            if self.rows.commit(common::lane(), &changes).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Registers a consumer in all lanes, unless all of them know it: callers repeat this often.
    async fn register(&self, consumer: &Consumer) -> Result<Answer, LedgerError> {
        let (_, Consumers(known)) = self.kept_consumers().await?;
        if known.get(consumer) == Some(&true) {
            return Ok(Answer::Done);
        }
        self.change_consumers(|known| {
            known.entry(consumer.clone()).or_default();
        })
        .await?;
        let lanes = self.all_lanes().await.map_err(after_the_step)?;
        self.step_lanes(lanes, &Command::Register(consumer.clone())).await.map_err(after_the_step)?;
        // It may be retired by now.
        let note = |known: &mut BTreeMap<Consumer, bool>| {
            known.get_mut(consumer).into_iter().for_each(|is_everywhere| *is_everywhere = true);
        };
        self.change_consumers(note).await.map_err(after_the_step)?;
        Ok(Answer::Done)
    }
}

#[async_trait]
impl<R: Rows + 'static> Ledger for RowLedger<R> {
    fn bounds(&self) -> Bounds {
        self.rows.bounds()
    }

    fn role(&self) -> LedgerRole {
        self.role
    }

    async fn step(&self, command: Command) -> Result<Answer, LedgerError> {
        let lane = match &command {
            Command::Open(terms) => return Ok(Answer::Opened(self.open(terms).await?)),
            Command::Amend { activity, .. } => {
                return self.step_lanes(self.lanes_of(*activity).await?, &command).await;
            }
            Command::StepTime(_) => return self.step_lanes(self.all_lanes().await?, &command).await,
            Command::Register(consumer) => return self.register(consumer).await,
            Command::Retire(consumer) => {
                self.change_consumers(|known| known.retain(|known, _| known != consumer)).await?;
                let lanes = self.all_lanes().await.map_err(after_the_step)?;
                return self.step_lanes(lanes, &command).await.map_err(after_the_step);
            }
            Command::Archive(_) => return Ok(Answer::Archived(false)),
            Command::Adjust(adjustment) => Lane::first(adjustment.activity),
            Command::Receive(transfer) => Lane { activity: transfer.activity, bucket: transfer.to },
            Command::Forget(transfer) => Lane { activity: transfer.activity, bucket: transfer.from },
            Command::Persist { lane, .. } => Lane::first(lane.activity),
            Command::Reserve { lane, .. }
            | Command::Advance { lane, .. }
            | Command::ExpireDue { lane, .. }
            | Command::Send { lane, .. }
            | Command::KeepUnmatched { lane, .. }
            | Command::Ack { lane, .. }
            | Command::Follow { lane, .. } => *lane,
            // Its first lane may be lost, and others not.
            Command::Close { activity, .. } => {
                let mut lanes = self.all_lanes().await?;
                lanes.retain(|lane| lane.activity == *activity);
                return self.step_lanes(lanes, &command).await;
            }
            Command::Load { activity, epoch, chunk } => {
                self.load(*activity, *epoch, chunk).await?;
                return Ok(Answer::Done);
            }
            Command::Reopen { activity, epoch, batch } => {
                self.reopen(*activity, *epoch, *batch).await?;
                return Ok(Answer::Done);
            }
            Command::NextEpoch { activity, .. } => Lane::first(*activity),
        };
        self.step_lane(lane, &command).await
    }

    async fn read(&self, query: Query) -> Result<Reply, LedgerError> {
        let now = self.clock.now();
        let needs = match &query {
            Query::Activities => {
                let lanes = self.all_lanes().await?;
                let activities: BTreeSet<_> = lanes.iter().map(|lane| lane.activity).collect();
                return Ok(Reply::Activities(activities.into_iter().collect()));
            }
            Query::Stock { activity, sku } => {
                let mut needs = head();
                needs.keys.insert(RowKey::Units(*sku));
                let lanes = self.lanes_of(*activity).await?;
                return self.whole(&lanes, |_, _| needs.clone()).await?.read(now, &query);
            }
            Query::OpenEpoch(activity) => return Ok(Reply::OpenEpoch(self.open_epoch(*activity).await?)),
            Query::View(lane) => {
                let mut needs = head();
                if let Some(terms) = self.lane_terms(*lane).await? {
                    needs.keys.extend(terms.offers().iter().map(|offer| RowKey::Units(offer.sku())));
                }
                let mut view = self.excerpt(*lane, &needs).await?.view(now, *lane)?;
                if view.buyers.is_some() {
                    view.buyers = Some(self.buyers(*lane, view.epoch).await?);
                }
                return Ok(Reply::View(view));
            }
            Query::Order(key) => return Ok(Reply::Order(self.order(*key).await?)),
            Query::OrdersOf { user, after, limit } => {
                let lanes = self.all_lanes().await?;
                let activities: BTreeSet<_> = lanes.iter().map(|lane| lane.activity).collect();
                let mut orders = Vec::new();
                for activity in activities {
                    let machine = self.orders_in(activity, *user).await?;
                    orders.extend(machine.orders_of(*user, *after, *limit));
                }
                orders.sort_unstable_by_key(|order| std::cmp::Reverse(order.key.id));
                orders.truncate(*limit);
                return Ok(Reply::Orders(orders));
            }
            Query::Locate { activity, order } => {
                let found = self.rows.find(*activity, *order).await?;
                let key = |(lane, user): (Lane, _)| OrderKey { activity: lane.activity, user, id: *order };
                return Ok(Reply::Located(found.map(key)));
            }
            Query::RefundsDue { lane, after, limit } => {
                let after = self.number_of(*lane, *after).await?;
                let page = self.rows.orders(*lane, true, after, *limit).await?;
                let buyers = page.iter().map(|(user, _)| *user).collect();
                let machine = self.excerpt(*lane, &Needs { buyers, ..head() }).await?;
                let mut tasks = Vec::new();
                for (_, row) in page {
                    tasks.extend(machine.refund_tasks_in(*lane, wire::decode::<Order>(&row.value)?.key));
                }
                return Ok(Reply::RefundsDue(tasks));
            }
            Query::Events { consumer, lane, from, limit } => {
                return Ok(Reply::Events(self.events(consumer, *lane, *from, *limit).await?));
            }
            Query::Content { activity, after, limit } => {
                return Ok(Reply::Content(self.content(*activity, *after, *limit).await?));
            }
            Query::Adjustment { id, .. } => {
                let mut needs = head();
                needs.keys.insert(RowKey::Adjustment(id.clone()));
                needs
            }
            Query::OrderOfPayment(PaymentRef { payment, .. }) => {
                let mut needs = head();
                needs.keys.insert(RowKey::Payment(*payment));
                needs
            }
            Query::Transfers(_)
            | Query::Terms(_)
            | Query::Followed(_)
            | Query::Position(_)
            | Query::Epoch(_) => head(),
        };
        let lane = match &query {
            Query::Transfers(lane) | Query::Followed(lane) => *lane,
            Query::OrderOfPayment(payment) => payment.lane,
            Query::Position(lane) => Lane::first(lane.activity),
            _ => Lane::first(query.activity().ok_or(LedgerError::NotOpen)?),
        };
        self.excerpt(lane, &needs).await?.read(now, &query)
    }
}

fn head() -> Needs {
    Needs { keys: BTreeSet::from([RowKey::Head, RowKey::Terms]), ..Needs::default() }
}

/// The turn of a lane: lanes of one activity have different ones.
fn turn_of(lane: Lane) -> usize {
    let activities = usize::try_from(lane.activity.value() % TURNS as u64).unwrap_or(0);
    (activities + usize::from(lane.bucket)) % TURNS
}

fn busy() -> LedgerError {
    LedgerError::Unavailable("other steps of the lane were faster each time".into())
}

/// An error of a step over several lanes. If it `has_begun`, some have taken it.
fn in_part(has_begun: bool, error: LedgerError) -> LedgerError {
    match error {
        // The caller reads again and begins anew, whatever was done.
        LedgerError::Moved { .. } => error,
        error if has_begun => after_the_step(error),
        error => error,
    }
}

/// An error of what follows a step that was taken. The caller must not conclude that nothing happened.
fn after_the_step(error: LedgerError) -> LedgerError {
    LedgerError::Unknown(format!("the step was taken, but not all that follows it: {error}").into())
}
