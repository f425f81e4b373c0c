//! A scene with two tiers: the one under test, and the specification as the other.

use super::{
    Failure,
    make::{self, Ask},
    name,
    scene::{Check, Scene},
};
use crate::{
    domain::{OfferTerms, Order},
    ledger::{
        Advance, BatchId, Chunk, Consumer, Entry, Epoch, Lane, LedgerCalls as _, LedgerError, NextEpoch,
        Outcome, PersistMode, Position, Verdict,
    },
};

/// The consumer by which the truth reads its gate's outbox.
pub(super) fn by_truth() -> Consumer {
    Consumer::new("truth")
}

/// The consumer by which the gate reads its truth's outbox.
pub(super) fn by_gate() -> Consumer {
    Consumer::new("gate")
}

impl Scene {
    /// Opens an activity at the truth and warms up the gate.
    pub(super) async fn open_tiers(
        &mut self,
        buckets: u16,
        offers: Vec<OfferTerms>,
    ) -> Result<NextEpoch, Failure> {
        self.leave();
        let terms = std::sync::Arc::new(self.next_terms(buckets, offers));
        self.note("open at the truth, warm up the gate");
        self.ok("register", self.gate().register(&by_truth()).await)?;
        self.ok("register", self.truth().register(&by_gate()).await)?;
        self.ok("open", self.truth().open(terms.clone()).await)?;
        let activity = terms.activity();
        self.terms = Some(terms.clone());
        let epoch = self.rebuild_gate().await?;
        self.opened(terms).await?;
        self.same(
            "epoch of the gate",
            Some(epoch.epoch),
            self.ok("epoch", self.gate().open_epoch(activity).await)?,
        )?;
        Ok(epoch)
    }

    pub(super) fn activity(&self) -> crate::domain::ActivityId {
        self.terms.as_ref().expect("an activity is open").activity()
    }

    pub(super) async fn next_epoch(&mut self) -> Result<NextEpoch, Failure> {
        let expected = self.ok("epoch", self.truth().epoch(self.activity()).await)?;
        self.note(format!("take the next epoch after {expected:?}"));
        self.ok("next_epoch", self.truth().next_epoch(self.activity(), expected).await)
    }

    /// Reads the truth's content in chunks of at most `limit` orders.
    pub(super) async fn content(&self, limit: usize) -> Result<Vec<Chunk>, Failure> {
        let mut chunks = Vec::new();
        let mut after = None;
        loop {
            let chunk = self.ok("content", self.truth().content(self.activity(), after, limit).await)?;
            after = chunk.continues_after();
            chunks.push(chunk);
            if after.is_none() {
                return Ok(chunks);
            }
            self.holds("fewer than 1,000 chunks", chunks.len() < 1_000, chunks.len())?;
        }
    }

    pub(super) async fn load(&mut self, epoch: Epoch, chunk: Chunk, expected: &str) -> Check {
        self.note(format!("load the chunk after {:?} for {epoch:?}", chunk.after));
        let loaded = self.gate().load(self.activity(), epoch, chunk).await;
        self.same("load", expected, name::of_result(&loaded))
    }

    pub(super) async fn reopen(&mut self, epoch: Epoch, batch: BatchId, expected: &str) -> Check {
        self.note(format!("reopen in {epoch:?}"));
        let reopened = self.gate().reopen(self.activity(), epoch, batch).await;
        self.same("reopen", expected, name::of_result(&reopened))?;
        let now = self.now();
        self.time_at(now).await
    }

    /// Takes the next epoch and rebuilds the gate from the truth's content, in small chunks.
    pub(super) async fn rebuild_gate(&mut self) -> Result<NextEpoch, Failure> {
        let next = self.next_epoch().await?;
        for chunk in self.content(2).await? {
            self.load(next.epoch, chunk, "ok").await?;
        }
        self.reopen(next.epoch, next.batch, "ok").await?;
        Ok(next)
    }

    /// Sends a request to the gate and compares the outcome.
    pub(super) async fn admit(&mut self, ask: Ask, expected: &str) -> Result<Outcome, Failure> {
        self.note(format!("reserve at the gate {:?}", ask.0));
        let buckets = self.terms.as_ref().expect("an activity is open").buckets();
        let lane = Lane::of(self.activity(), ask.0.user, buckets);
        let answer = self.ok("reserve", self.gate().reserve(lane, None, vec![ask.0]).await)?;
        self.check().await?;
        let outcome = answer.outcomes.into_iter().next();
        let outcome = outcome.ok_or_else(|| self.failure("`reserve` returns an outcome", "none".into()))?;
        self.same("outcome", expected, name::of_outcome(&outcome).as_str())?;
        Ok(outcome)
    }

    /// Places an order at the gate.
    pub(super) async fn admitted(&mut self, ask: Ask) -> Result<Order, Failure> {
        let outcome = self.admit(ask, "reserved").await?;
        outcome.order().cloned().ok_or_else(|| self.failure("an order", format!("{outcome:?}")))
    }

    /// Advances an order at the truth and compares the outcome.
    pub(super) async fn decide(&mut self, step: Advance, expected: &str) -> Check {
        self.note(format!("at the truth {step:?}"));
        let lane = Lane::first(self.activity());
        let answer = self.ok("advance", self.truth().advance(lane, vec![step]).await)?;
        self.check().await?;
        self.same(
            "outcome",
            vec![expected.to_owned()],
            answer.outcomes.iter().map(name::of_advanced).collect(),
        )
    }

    /// Returns the truth's position and the entries that the gate wrote after it.
    pub(super) async fn unpersisted(&self, lane: Lane) -> Result<(Position, Vec<Entry>), Failure> {
        let position = self.ok("position", self.truth().position(lane).await)?;
        let entries =
            self.ok("events", self.gate().events(&by_truth(), lane, Some(position), 10_000).await)?;
        self.same("the entry at the position", Some(position), entries.first().map(|entry| entry.position))?;
        Ok((position, entries[1..].to_vec()))
    }

    pub(super) async fn persist_with(
        &mut self,
        lane: Lane,
        mode: PersistMode,
        entries: Vec<Entry>,
    ) -> Result<Vec<Verdict>, LedgerError> {
        self.note(format!(
            "persist {mode:?} {:?}",
            entries.iter().map(|entry| entry.position).collect::<Vec<_>>()
        ));
        self.truth().persist(lane, mode, entries).await
    }

    /// Persists all entries of a lane and acknowledges them at the gate.
    pub(super) async fn persist(&mut self, lane: Lane) -> Result<Vec<Verdict>, Failure> {
        let (position, entries) = self.unpersisted(lane).await?;
        let last = entries.last().map_or(position, |entry| entry.position);
        let verdicts = self.persist_with(lane, PersistMode::After(position), entries).await;
        let verdicts = self.ok("persist", verdicts)?;
        self.ok("ack", self.gate().ack(&by_truth(), lane, last).await)?;
        self.check().await?;
        Ok(verdicts)
    }

    /// Persists all entries of a lane and compares the verdicts.
    pub(super) async fn persists(&mut self, lane: Lane, expected: Vec<Verdict>) -> Check {
        let verdicts = self.persist(lane).await?;
        self.same("verdicts", expected, verdicts)
    }

    /// Returns the truth's entries from the last one that the gate's lane followed, inclusive.
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
        self.same("follow", expected, name::of_result(&followed))?;
        self.check().await
    }

    /// Persists and follows all entries in every lane.
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

    /// Returns an order's status at the gate, and whether it is persisted.
    pub(super) async fn at_gate(&self, order: &Order) -> Result<(&'static str, bool), Failure> {
        let found = self.ok("order", self.gate().order(order.key).await)?;
        let found = found.ok_or_else(|| self.failure("the gate has the order", "not found".into()))?;
        Ok((name::of_status(found.status), found.persisted))
    }

    /// Returns an order's status at the truth, or `None` if the truth does not have it.
    pub(super) async fn at_truth(&self, order: &Order) -> Result<Option<&'static str>, Failure> {
        let found = self.ok("order", self.truth().order(order.key).await)?;
        Ok(found.map(|order| name::of_status(order.status)))
    }
}
