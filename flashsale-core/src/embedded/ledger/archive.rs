//! Moves activities out of memory and back, and reads those that are out.

use std::sync::Arc;

use super::{archive_file::ArchiveFile, engine::EmbeddedLedger, error::EmbeddedError};
use crate::{
    domain::{ActivityId, Order, OrderId, OrderKey, UserId},
    ledger::{
        LedgerError,
        state_machine::{Batch, StateMachine},
    },
    panic_message::panic_message,
};

impl EmbeddedLedger {
    /// Moves an activity out of memory if it rests; see [`archive`](crate::ledger::LedgerCalls::archive).
    pub(super) async fn move_out(&self, activity: ActivityId) -> Result<bool, LedgerError> {
        let (archive, caller, moving) = (self.archived()?, self.caller(), Arc::clone(&self.moving));
        // A task of its own, because the caller may go: then nobody would finish the move.
        let moved = tokio::spawn(async move {
            let _moving = moving.lock().await;
            let leave = move |machine: &mut StateMachine, batch: Batch| {
                Ok(if machine.is_archived(activity) { Err(()) } else { Ok(machine.leave(batch, activity)) })
            };
            let leaving = match caller.call(leave).await? {
                Ok(Some(leaving)) => leaving,
                Ok(None) => return Ok(false),
                Err(()) => return Ok(true),
            };
            let stored = on_disk(move || archive.store(activity, &leaving)).await;
            match stored {
                // What it frees is freed outside the engine's thread.
                Ok(()) => drop(caller.call(move |machine, _| Ok(machine.left(activity))).await?),
                Err(_) => {
                    caller
                        .call(move |machine, _| {
                            machine.stay(activity);
                            Ok(())
                        })
                        .await?;
                }
            }
            stored.map(|()| true)
        });
        moved.await.unwrap_or_else(|error| Err(LedgerError::Unknown(error.to_string().into())))
    }

    /// Brings an activity back into memory, if it is out.
    async fn move_in(&self, activity: ActivityId) -> Result<(), LedgerError> {
        let _moving = self.moving.lock().await;
        if !self.call(move |machine, _| Ok(machine.is_archived(activity))).await? {
            return Ok(());
        }
        let archive = self.archived()?;
        let returning = on_disk(move || archive.returning(activity)).await?;
        self.call(move |machine, _| {
            machine.bring_back(returning);
            Ok(())
        })
        .await?;
        tracing::info!(%activity, "an archived activity is back in memory");
        Ok(())
    }

    /// Makes a call that may change an activity. Brings the activity back into memory first, if it is
    /// out.
    pub(super) async fn call_of<T, F>(&self, activity: ActivityId, step: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&mut StateMachine, Batch) -> Result<T, LedgerError> + Send + 'static,
    {
        let mut step = step;
        loop {
            let call = move |machine: &mut StateMachine, batch| match machine.is_archived(activity) {
                true => Ok(Err(step)),
                false => step(machine, batch).map(Ok),
            };
            match self.call(call).await? {
                Ok(answer) => return Ok(answer),
                Err(not_taken) => step = not_taken,
            }
            self.move_in(activity).await?;
        }
    }

    /// Reads an activity: with `there` if it is in memory, with `stored` if it is out.
    pub(super) async fn read_of<T, F, G>(
        &self,
        activity: ActivityId,
        there: F,
        stored: G,
    ) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&StateMachine) -> T + Send + 'static,
        G: FnOnce(&ArchiveFile) -> Result<T, EmbeddedError> + Send + 'static,
    {
        let read =
            move |machine: &mut StateMachine, _| Ok((!machine.is_stored(activity)).then(|| there(machine)));
        match self.call(read).await? {
            Some(answer) => Ok(answer),
            // If it comes back now, this is what it was when it was asked for.
            None => {
                let archive = self.archived()?;
                on_disk(move || stored(&archive)).await
            }
        }
    }

    /// Finds an order for an operator, in memory or out. Looks at one activity after another, so that buyers
    /// do not wait behind the search, and at memory first: what is there does not depend on the archive's
    /// disk.
    pub(super) async fn find(
        &self,
        activity: Option<ActivityId>,
        order: OrderId,
    ) -> Result<Option<OrderKey>, LedgerError> {
        let known =
            |machine: &mut StateMachine, _| Ok((machine.in_memory(), machine.archived().next().is_some()));
        let (activities, is_any_archived) = match activity {
            Some(activity) => (vec![activity], false),
            None => self.call(known).await?,
        };
        for activity in activities {
            let there = move |machine: &StateMachine| machine.locate(Some(activity), order);
            let stored = move |archive: &ArchiveFile| archive.locate(Some(activity), order);
            let found = self.read_of(activity, there, stored).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        if !is_any_archived {
            return Ok(None);
        }
        let archive = self.archived()?;
        on_disk(move || archive.locate(None, order)).await
    }

    /// A user's orders, in memory or out.
    pub(super) async fn all_orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, LedgerError> {
        let read = move |machine: &mut StateMachine, _| {
            Ok((machine.orders_of(user, after, limit), machine.archived().next().is_some()))
        };
        let (mut orders, any) = self.call(read).await?;
        if !any {
            return Ok(orders);
        }
        let archive = self.archived()?;
        let stored = on_disk(move || archive.orders_of(user, after, limit)).await?;
        // An activity that came back is also stored, as it was.
        let known: Vec<_> = orders.iter().map(|order| order.key.id).collect();
        orders.extend(stored.into_iter().filter(|order| !known.contains(&order.key.id)));
        orders.sort_unstable_by_key(|order| std::cmp::Reverse(order.key.id));
        orders.truncate(limit);
        Ok(orders)
    }
}

/// Runs work on the archive's file, on a thread for blocking work.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EmbeddedError> + Send + 'static,
) -> Result<T, LedgerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(LedgerError::Unavailable(error.to_string().into())),
        Err(error) => Err(LedgerError::Unavailable(match error.try_into_panic() {
            Ok(panic) => panic_message(&*panic).into(),
            Err(error) => error.to_string().into(),
        })),
    }
}
