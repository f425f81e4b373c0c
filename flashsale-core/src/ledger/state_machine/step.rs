//! Commands and queries of the state machine: which of its methods each one is.

use super::{batch::Batch, machine::StateMachine};
use crate::{
    domain::Timestamp,
    ledger::{Answer, Command, LedgerError, Query, Reply},
};

impl StateMachine {
    /// Takes a step. Never archives, since it has no place to move an activity to.
    ///
    /// # Errors
    /// Those of the command's call in [`LedgerCalls`](crate::ledger::LedgerCalls).
    pub fn step(&mut self, batch: Batch, command: &Command) -> Result<Answer, LedgerError> {
        Ok(match command {
            Command::Open(terms) => Answer::Opened(self.open(batch, terms)?),
            Command::Amend { activity, id, change, by } => {
                self.amend(batch, *activity, *id, change, by)?;
                Answer::Done
            }
            Command::Adjust(adjustment) => Answer::Adjusted(self.adjust(batch, adjustment)?),
            Command::StepTime(step) => {
                self.step_time(batch, step)?;
                Answer::Done
            }
            Command::Reserve { lane, epoch, requests } => {
                Answer::Reserved(self.reserve(batch, *lane, *epoch, requests)?)
            }
            Command::Advance { lane, steps } => Answer::Advanced(self.advance(batch, *lane, steps)?),
            Command::ExpireDue { lane, limit } => Answer::Due(self.expire_due(batch, *lane, *limit)?),
            Command::Send { lane, to, sku, units } => {
                Answer::Sent(self.send(batch, *lane, *to, *sku, *units)?)
            }
            Command::Receive(transfer) => Answer::Received(self.receive(batch, *transfer)?),
            Command::Forget(transfer) => {
                self.forget(batch, *transfer)?;
                Answer::Done
            }
            Command::KeepUnmatched { lane, capture } => Answer::Kept(self.keep_unmatched(*lane, capture)?),
            Command::Archive(_) => Answer::Archived(false),
            Command::Register(consumer) => {
                self.register(consumer);
                Answer::Done
            }
            Command::Retire(consumer) => {
                self.retire(consumer);
                Answer::Done
            }
            Command::Ack { consumer, lane, position } => {
                self.ack(consumer, *lane, *position)?;
                Answer::Done
            }
            Command::Close { activity, epoch } => {
                self.close(*activity, *epoch);
                Answer::Done
            }
            Command::Load { activity, epoch, chunk } => {
                self.load(*activity, *epoch, Clone::clone(chunk))?;
                Answer::Done
            }
            Command::Reopen { activity, epoch, batch: id } => {
                self.reopen(Batch { id: *id, ..batch }, *activity, *epoch)?;
                Answer::Done
            }
            Command::Follow { lane, entries } => {
                self.follow(*lane, entries)?;
                Answer::Done
            }
            Command::Persist { lane, mode, entries } => {
                Answer::Persisted(self.persist(batch, *lane, *mode, entries)?)
            }
            Command::NextEpoch { activity, expected } => {
                Answer::NextEpoch(self.next_epoch(batch, *activity, *expected)?)
            }
        })
    }

    /// Answers a question at the time `now`.
    ///
    /// # Errors
    /// Those of the query's call in [`LedgerCalls`](crate::ledger::LedgerCalls).
    pub fn read(&self, now: Timestamp, query: &Query) -> Result<Reply, LedgerError> {
        Ok(match query {
            Query::Transfers(lane) => Reply::Transfers(self.transfers(*lane)?),
            Query::Activities => Reply::Activities(self.activities()),
            Query::Terms(activity) => Reply::Terms(self.terms(*activity)),
            Query::Stock { activity, sku } => Reply::Stock(self.stock(*activity, *sku)),
            Query::View(lane) => Reply::View(self.view(now, *lane)?),
            Query::Order(key) => Reply::Order(self.order(*key)),
            Query::OrdersOf { user, after, limit } => Reply::Orders(self.orders_of(*user, *after, *limit)),
            Query::OrderOfPayment(payment) => Reply::Located(self.order_of_payment(*payment)),
            Query::Locate { activity, order } => Reply::Located(self.locate(*activity, *order)),
            Query::Adjustment { activity, id } => Reply::Adjustment(self.adjustment(*activity, id)?),
            Query::RefundsDue { lane, after, limit } => {
                Reply::RefundsDue(self.refunds_due(*lane, *after, *limit))
            }
            Query::Events { consumer, lane, from, limit } => {
                Reply::Events(self.events(consumer, *lane, *from, *limit)?)
            }
            Query::OpenEpoch(activity) => Reply::OpenEpoch(self.open_epoch(*activity)),
            Query::Followed(lane) => Reply::Position(self.followed(*lane)?),
            Query::Position(lane) => Reply::Position(self.position(*lane)?),
            Query::Epoch(activity) => Reply::Epoch(self.epoch(*activity)?),
            Query::Content { activity, after, limit } => {
                Reply::Content(self.content(*activity, *after, *limit)?)
            }
        })
    }
}
