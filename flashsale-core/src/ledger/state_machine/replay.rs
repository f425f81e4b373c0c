//! The journal of a state machine: recording and replaying it.

use super::{
    CorruptState,
    archive::ReturningActivity,
    journal_record::{Owned, Record, read},
    machine::StateMachine,
};
use crate::{
    domain::{ActivityId, Timestamp},
    ledger::{Event, Lane, LedgerError, Position},
};

impl StateMachine {
    /// Starts recording a journal; see [`StateMachine::take_journal`].
    pub fn journal(&mut self) {
        self.journal.turn_on();
    }

    /// The records of all changes since the last take, in wire format. Empty if nothing changed.
    pub fn journalled(&self) -> &[u8] {
        self.journal.bytes()
    }

    /// Takes the records of all changes since the last take. Later records are written into `room`,
    /// which must be empty and may have capacity.
    pub fn take_journal(&mut self, room: Vec<u8>) -> Vec<u8> {
        debug_assert!(room.is_empty());
        self.journal.take(room)
    }

    /// Replays a journal: records as they were taken, complete and in order. Call it before
    /// [`StateMachine::journal`]; after it, some of them would be recorded again.
    ///
    /// # Errors
    /// [`CorruptState`] if the records are damaged or contradict the current state.
    pub fn replay(&mut self, bytes: &[u8]) -> Result<(), CorruptState> {
        self.replay_with(bytes, &mut |_| Err(CorruptState("no activity is stored elsewhere")))
    }

    /// As [`StateMachine::replay`], for a ledger from which activities leave. `stored` reads one that
    /// left.
    ///
    /// # Errors
    /// Also errors of `stored`.
    pub fn replay_with(
        &mut self,
        bytes: &[u8],
        stored: &mut dyn FnMut(ActivityId) -> Result<ReturningActivity, CorruptState>,
    ) -> Result<(), CorruptState> {
        let mut header = None;
        for record in read(bytes) {
            match record? {
                Record::Returned(activity, left_in) if self.returns(activity, left_in) => {
                    self.bring_back(stored(activity)?);
                }
                record => self.replay_one(record, &mut header)?,
            }
        }
        Ok(())
    }

    fn replay_one(
        &mut self,
        record: Owned,
        header: &mut Option<(Lane, Timestamp, Position)>,
    ) -> Result<(), CorruptState> {
        const NOT_OPEN: CorruptState = CorruptState("a record concerns an activity that is not open");
        let misfit = |error: LedgerError| match error {
            LedgerError::NotOpen => NOT_OPEN,
            _ => CorruptState("a record cannot be replayed"),
        };
        let activity = record.activity().or(match &record {
            Record::Event(_) => header.as_ref().map(|(lane, ..)| lane.activity),
            _ => None,
        });
        if activity.is_some_and(|activity| self.is_archived(activity)) {
            self.skip(&record, header);
            return Ok(());
        }
        match record {
            Record::Header { lane, epoch, batch, at, sequence } => {
                *header = Some((lane, at, Position { epoch, sequence, batch }));
            }
            Record::Event(event) => {
                let (lane, at, position) = header.as_mut().ok_or(CorruptState("an event has no header"))?;
                let state = self.lane_mut(*lane).map_err(misfit)?;
                if position.sequence != state.head.sequence + 1 && !matches!(event, Event::Reopened) {
                    return Err(CorruptState("an event is missing or repeated"));
                }
                state.last = state.last.max(*at);
                self.enter(*lane, *at, *position, &event)?;
                position.sequence += 1;
            }
            Record::Opened(terms) => self.add_sale(&terms),
            Record::Unmatched(capture) => {
                self.unmatched.entry(capture.payment).or_default().push(capture);
            }
            Record::Kept(lane, capture) => self.lane_mut(lane).map_err(misfit)?.keep(capture),
            Record::Registered(consumer) => self.register(&consumer),
            Record::Retired(consumer) => self.retire(&consumer),
            Record::Acknowledged(consumer, lane, sequence) => self.acknowledge(&consumer, lane, sequence),
            Record::Closed(activity, epoch) => {
                let opened = self.sales.get(&activity).map_or(epoch, |sale| sale.lanes[0].epoch);
                self.close(activity, epoch.min(opened));
            }
            Record::ClosedForEver(activity, epoch) => self.close(activity, epoch),
            Record::Loaded(activity, epoch, chunk) => self.load(activity, epoch, *chunk).map_err(misfit)?,
            Record::Reopened(activity, epoch, _) => self.replay_reopened(activity, epoch).map_err(misfit)?,
            Record::Followed(lane, entries) => self.follow(lane, &entries).map_err(misfit)?,
            Record::Persisted(activity, bucket, _, position) => {
                let sale = self.sales.get_mut(&activity).ok_or(NOT_OPEN)?;
                *sale.persisted.get_mut(usize::from(bucket)).ok_or(NOT_OPEN)? = position;
            }
            Record::EpochTaken(activity, epoch, batch) => {
                self.sales.get_mut(&activity).ok_or(NOT_OPEN)?.take_epoch(epoch, batch);
            }
            Record::Left(activity, left_in) => self.replay_left(activity, left_in),
            Record::Returned(..) | Record::Format(_) => {}
        }
        Ok(())
    }

    /// Passes over a record whose effect on its activity is stored elsewhere.
    fn skip(&mut self, record: &Owned, header: &mut Option<(Lane, Timestamp, Position)>) {
        let Record::Event(event) = record else { return };
        self.forget_unmatched(event);
        if let Some((.., position)) = header {
            position.sequence += 1;
        }
    }
}
