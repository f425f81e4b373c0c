//! The engine as a [`Ledger`]: each command and query is a step of the state machine.

use std::sync::Arc;

use async_trait::async_trait;

use super::engine::EmbeddedLedger;
use crate::{
    domain::Invalid,
    ledger::{Answer, Bounds, Command, Ledger, LedgerError, LedgerRole, Opened, Query, Reply, Terms},
};

#[async_trait]
impl Ledger for EmbeddedLedger {
    fn bounds(&self) -> Bounds {
        EmbeddedLedger::bounds(self)
    }

    fn role(&self) -> LedgerRole {
        EmbeddedLedger::role(self)
    }

    async fn step(&self, command: Command) -> Result<Answer, LedgerError> {
        self.check_batch(command.items())?;
        match command {
            Command::Open(terms) => self.open_prepared(terms).await.map(Answer::Opened),
            Command::Archive(activity) => self.move_out(activity).await.map(Answer::Archived),
            command => match command.activity() {
                Some(activity) => {
                    self.call_of(activity, move |machine, batch| machine.step(batch, &command)).await
                }
                None => self.call(move |machine, batch| machine.step(batch, &command)).await,
            },
        }
    }

    async fn read(&self, query: Query) -> Result<Reply, LedgerError> {
        match query {
            Query::Terms(activity) => self
                .read_of(
                    activity,
                    move |machine| machine.terms(activity),
                    move |archive| {
                        Ok(archive.content(activity)?.map(|(_, content)| Arc::clone(content.terms())))
                    },
                )
                .await
                .map(Reply::Terms),
            Query::Stock { activity, sku } => self
                .read_of(
                    activity,
                    move |machine| machine.stock(activity, sku),
                    move |archive| Ok(archive.content(activity)?.and_then(|(_, content)| content.stock(sku))),
                )
                .await
                .map(Reply::Stock),
            Query::Order(key) => self
                .read_of(key.activity, move |machine| machine.order(key), move |archive| archive.order(key))
                .await
                .map(Reply::Order),
            Query::OrdersOf { user, after, limit } => {
                self.all_orders_of(user, after, limit).await.map(Reply::Orders)
            }
            Query::OrderOfPayment(payment) => self
                .read_of(
                    payment.lane.activity,
                    move |machine| machine.order_of_payment(payment),
                    move |archive| archive.order_of_payment(payment),
                )
                .await
                .map(Reply::Located),
            Query::Locate { activity, order } => self.find(activity, order).await.map(Reply::Located),
            query => match query.activity() {
                Some(activity) => {
                    self.call_of(activity, move |machine, batch| machine.read(batch.now, &query)).await
                }
                None => self.call(move |machine, batch| machine.read(batch.now, &query)).await,
            },
        }
    }
}

impl EmbeddedLedger {
    /// Opens an activity whose lanes are prepared on another thread.
    async fn open_prepared(&self, terms: Arc<Terms>) -> Result<Opened, LedgerError> {
        let (known, activity) = (Arc::clone(&terms), terms.activity());
        if let Some(opened) = self.call_of(activity, move |machine, _| machine.opened(&known)).await? {
            return Ok(opened);
        }
        let prepared = self.prepare(terms).await?;
        self.call_of(activity, move |machine, batch| machine.open_prepared(batch, prepared)).await
    }

    fn check_batch(&self, items: usize) -> Result<(), LedgerError> {
        let most = EmbeddedLedger::bounds(self).max_batch;
        if items <= most {
            return Ok(());
        }
        Err(Invalid::new("batch", format!("has {items} items, but the ledger accepts at most {most}")).into())
    }
}
