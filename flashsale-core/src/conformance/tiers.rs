//! Two tiers on a scene: the one under test, and the specification as the other.

use super::{
    Failure,
    make::{self, Ask},
    scene::{Check, Scene},
    word,
};
use crate::{
    domain::{OfferTerms, Order},
    ledger::{
        Advance, BatchId, Chunk, Consumer, Entry, Epoch, Fence, Lane, LedgerError, NextEpoch, Outcome,
        PersistMode, Position, Verdict,
    },
};

/// Who reads the gate's outbox.
pub(super) fn by_truth() -> Consumer {
    Consumer::new("truth")
}

/// Who reads the truth's outbox.
pub(super) fn by_gate() -> Consumer {
    Consumer::new("gate")
}

impl Scene {
    /// Opens an activity at the truth and warms the gate up.
    pub(super) async fn open_tiers(
        &mut self,
        buckets: u16,
        offers: Vec<OfferTerms>,
    ) -> Result<NextEpoch, Failure> {
        self.leave();
        let terms = std::sync::Arc::new(self.next_terms(buckets, offers));
        self.note("open at the truth, warm the gate up");
        self.ok("registered", self.gate().register(&by_truth()).await)?;
        self.ok("registered", self.truth().register(&by_gate()).await)?;
        self.ok("opened", self.truth().open(terms.clone()).await)?;
        let activity = terms.activity();
        self.terms = Some(terms.clone());
        let epoch = self.rebuild_gate().await?;
        self.opened(terms).await?;
        self.same(
            "the gate's epoch",
            Some(epoch.epoch),
            self.ok("epoch", self.gate().epoch(activity).await)?,
        )?;
        Ok(epoch)
    }

    pub(super) fn activity(&self) -> crate::domain::ActivityId {
        self.terms.as_ref().expect("an activity is open").activity()
    }

    pub(super) async fn next_epoch(&mut self) -> Result<NextEpoch, Failure> {
        let expected = self.ok("epoch", self.truth().epoch(self.activity()).await)?;
        self.note(format!("take the epoch after {expected:?}"));
        self.ok("next epoch", self.truth().next_epoch(self.activity(), expected).await)
    }

    /// The truth's content in parts of at most so many orders.
    pub(super) async fn content(&self, limit: usize) -> Result<Vec<Chunk>, Failure> {
        let mut parts = Vec::new();
        let mut after = None;
        loop {
            let part = self.ok("content", self.truth().content(self.activity(), after, limit).await)?;
            after = part.next;
            parts.push(part);
            if after.is_none() {
                return Ok(parts);
            }
            self.holds("parts that end", parts.len() < 1_000, parts.len())?;
        }
    }

    pub(super) async fn load(&mut self, epoch: Epoch, part: Chunk, expected: &str) -> Check {
        self.note(format!("load the part after {:?} for {epoch:?}", part.after));
        let loaded = self.gate().load(self.activity(), epoch, part).await;
        self.same("loaded", expected, word::of_result(&loaded))
    }

    pub(super) async fn reopen(&mut self, epoch: Epoch, batch: BatchId, expected: &str) -> Check {
        self.note(format!("reopen in {epoch:?}"));
        let reopened = self.gate().reopen(self.activity(), epoch, batch).await;
        self.same("reopened", expected, word::of_result(&reopened))?;
        let now = self.now();
        self.time_at(now).await
    }

    /// Takes the next epoch and fills the gate with the truth's content, in small parts.
    pub(super) async fn rebuild_gate(&mut self) -> Result<NextEpoch, Failure> {
        let next = self.next_epoch().await?;
        for part in self.content(2).await? {
            self.load(next.epoch, part, "ok").await?;
        }
        self.reopen(next.epoch, next.batch, "ok").await?;
        Ok(next)
    }

    /// Lets the gate decide a request.
    pub(super) async fn admit(&mut self, ask: Ask, expected: &str) -> Result<Outcome, Failure> {
        self.note(format!("reserve at the gate {:?}", ask.0));
        let buckets = self.terms.as_ref().expect("an activity is open").buckets();
        let lane = Lane::of(self.activity(), ask.0.user, buckets);
        let answer = self.ok("reservations", self.gate().reserve(lane, None, vec![ask.0]).await)?;
        self.check().await?;
        let outcome = answer.outcomes.into_iter().next();
        let outcome = outcome.ok_or_else(|| self.failure("an outcome", "none".into()))?;
        self.same("outcome", expected, word::of_outcome(&outcome).as_str())?;
        Ok(outcome)
    }

    /// Lets the gate make an order.
    pub(super) async fn admitted(&mut self, ask: Ask) -> Result<Order, Failure> {
        let outcome = self.admit(ask, "reserved").await?;
        outcome.order().cloned().ok_or_else(|| self.failure("an order", format!("{outcome:?}")))
    }

    /// Lets the truth take a step.
    pub(super) async fn decide(&mut self, step: Advance, expected: &str) -> Check {
        self.note(format!("at the truth {step:?}"));
        let lane = Lane::first(self.activity());
        let answer = self.ok("advances", self.truth().advance(lane, vec![step]).await)?;
        self.check().await?;
        self.same(
            "outcome",
            vec![expected.to_owned()],
            answer.outcomes.iter().map(word::of_advanced).collect(),
        )
    }

    /// What the gate has written and the truth not taken.
    pub(super) async fn unpersisted(&self, lane: Lane) -> Result<(Position, Vec<Entry>), Failure> {
        let position = self.ok("position", self.truth().position(lane).await)?;
        let entries =
            self.ok("events", self.gate().events(&by_truth(), lane, Some(position), 10_000).await)?;
        self.same("the entry at the position", Some(position), entries.first().map(|entry| entry.position))?;
        Ok((position, entries[1..].to_vec()))
    }

    pub(super) async fn persist_as(
        &mut self,
        lane: Lane,
        fence: u64,
        mode: PersistMode,
        entries: Vec<Entry>,
    ) -> Result<Vec<Verdict>, LedgerError> {
        self.note(format!(
            "persist {mode:?} {:?}",
            entries.iter().map(|entry| entry.position).collect::<Vec<_>>()
        ));
        self.truth().persist(lane, Fence(fence), mode, entries).await
    }

    /// Persists everything of a lane, and acknowledges it.
    pub(super) async fn persist(&mut self, lane: Lane) -> Result<Vec<Verdict>, Failure> {
        let (position, entries) = self.unpersisted(lane).await?;
        let last = entries.last().map_or(position, |entry| entry.position);
        let verdicts = self.persist_as(lane, 1, PersistMode::After(position), entries).await;
        let verdicts = self.ok("verdicts", verdicts)?;
        self.ok("acknowledged", self.gate().ack(&by_truth(), lane, last).await)?;
        self.check().await?;
        Ok(verdicts)
    }

    /// Persists everything of a lane, and compares the verdicts.
    pub(super) async fn persists(&mut self, lane: Lane, expected: Vec<Verdict>) -> Check {
        let verdicts = self.persist(lane).await?;
        self.same("verdicts", expected, verdicts)
    }

    /// What the truth has written since a gate's lane followed, that position included.
    pub(super) async fn unfollowed(&self, lane: Lane) -> Result<Vec<Entry>, Failure> {
        let followed = self.ok("followed", self.gate().followed(lane).await)?;
        let first = Lane::first(lane.activity);
        self.ok("events", self.truth().events(&by_gate(), first, Some(followed), 10_000).await)
    }

    pub(super) async fn follow_with(&mut self, lane: Lane, entries: Vec<Entry>, expected: &str) -> Check {
        self.note(format!(
            "follow {:?}",
            entries.iter().map(|entry| entry.position.sequence).collect::<Vec<_>>()
        ));
        let followed = self.gate().follow(lane, entries).await;
        self.same("followed", expected, word::of_result(&followed))?;
        self.check().await
    }

    /// Persists and follows in every lane.
    pub(super) async fn pump(&mut self) -> Check {
        for lane in self.lanes() {
            self.persist(lane).await?;
        }
        for lane in self.lanes() {
            let entries = self.unfollowed(lane).await?;
            self.follow_with(lane, entries, "ok").await?;
        }
        Ok(())
    }

    /// Compares (available, held, sold) of SKU 1 at the gate.
    pub(super) async fn gate_stock(&self, expected: [i64; 3]) -> Check {
        let stock = self.ok("stock", self.gate().stock(self.activity(), make::sku(1)).await)?;
        let observed = stock.map(|stock| [stock.available, stock.held, stock.sold]);
        self.same("the gate's [available, held, sold]", Some(expected), observed)
    }

    /// Compares (available, held, sold) of SKU 1 at the truth.
    pub(super) async fn truth_stock(&self, expected: [i64; 3]) -> Check {
        let stock = self.ok("stock", self.truth().stock(self.activity(), make::sku(1)).await)?;
        let observed = stock.map(|stock| [stock.available, stock.held, stock.sold]);
        self.same("the truth's [available, held, sold]", Some(expected), observed)
    }

    /// The order as the gate has it: status, and whether it is persisted.
    pub(super) async fn at_gate(&self, order: &Order) -> Result<(&'static str, bool), Failure> {
        let found = self.ok("an order", self.gate().order(order.key).await)?;
        let found = found.ok_or_else(|| self.failure("an order at the gate", "none".into()))?;
        Ok((word::of_status(found.status), found.persisted))
    }

    /// The status of the order at the truth; `None` if it is not there.
    pub(super) async fn at_truth(&self, order: &Order) -> Result<Option<&'static str>, Failure> {
        let found = self.ok("an order", self.truth().order(order.key).await)?;
        Ok(found.map(|order| word::of_status(order.status)))
    }
}
