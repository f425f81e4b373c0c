//! Journal records, from which the state machine can be rebuilt.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::CorruptState;
use crate::{
    domain::{ActivityId, Capture, Timestamp},
    ledger::{BatchId, Bucket, Chunk, Consumer, Entry, Epoch, Event, Lane, Position, Terms},
};

/// One change of the state. The variants are part of the journal's format: add new ones at the end
/// only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Record<E> {
    /// The header of the events that follow: their lane and time.
    Header {
        lane: Lane,
        epoch: Epoch,
        batch: BatchId,
        at: Timestamp,
        /// The sequence of the first event.
        sequence: u64,
    },
    /// An event of that lane.
    Event(E),
    Opened(Arc<Terms>),
    /// Only in journals of versions that knew no lane of it; now [`Kept`](Self::Kept).
    Unmatched(Capture),
    Registered(Consumer),
    Retired(Consumer),
    Acknowledged(Consumer, Lane, u64),
    /// Only in journals of versions that could open an epoch again; now
    /// [`ClosedForEver`](Self::ClosedForEver).
    Closed(ActivityId, Epoch),
    Loaded(ActivityId, Epoch, Box<Chunk>),
    Reopened(ActivityId, Epoch, BatchId),
    Followed(Lane, Vec<Entry>),
    /// The number was a fencing token and means nothing now; it is written as 0.
    Persisted(ActivityId, Bucket, u64, Position),
    EpochTaken(ActivityId, Epoch, BatchId),
    /// The activity left memory in this batch.
    Left(ActivityId, BatchId),
    /// The activity that left in this batch came back.
    Returned(ActivityId, BatchId),
    /// The format of the records that follow. First in what is taken from a journal; format 1 has none.
    Format(u8),
    /// The content of this epoch and of older ones is closed.
    ClosedForEver(ActivityId, Epoch),
    /// The lane keeps a capture until its payment opens.
    Kept(Lane, Capture),
}

/// The format of records that this version writes. It changes when a type in a record does.
const FORMAT: u8 = 3;

impl<E> Record<E> {
    /// The activity that it changes. An event's is in its header.
    pub(super) fn activity(&self) -> Option<ActivityId> {
        match self {
            Self::Opened(terms) => Some(terms.activity()),
            Self::Acknowledged(_, lane, _) | Self::Followed(lane, _) | Self::Kept(lane, _) => {
                Some(lane.activity)
            }
            Self::Closed(activity, ..)
            | Self::Loaded(activity, ..)
            | Self::Reopened(activity, ..)
            | Self::Persisted(activity, ..)
            | Self::EpochTaken(activity, ..)
            | Self::Left(activity, ..)
            | Self::Returned(activity, ..)
            | Self::ClosedForEver(activity, ..) => Some(*activity),
            Self::Header { .. }
            | Self::Format(_)
            | Self::Event(_)
            | Self::Unmatched(_)
            | Self::Registered(_)
            | Self::Retired(_) => None,
        }
    }
}

/// A record as it is read back.
pub(super) type Owned = Record<Event>;

/// Records that were not taken yet, in wire format: postcard, one after another.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    on: bool,
    bytes: Vec<u8>,
    /// The lane, time and position with which the next event needs no header.
    next: Option<(Lane, Timestamp, Position)>,
}

impl Journal {
    pub(super) fn turn_on(&mut self) {
        self.on = true;
    }

    /// Writes an event, with a header unless it directly follows the previous one.
    pub(super) fn push_event(&mut self, lane: Lane, at: Timestamp, position: Position, event: &Event) {
        if self.next != Some((lane, at, position)) {
            let Position { epoch, sequence, batch } = position;
            self.push(&Record::Header { lane, epoch, batch, at, sequence });
        }
        self.push(&Record::Event(event));
        self.next = Some((lane, at, Position { sequence: position.sequence + 1, ..position }));
    }

    pub(super) fn push(&mut self, record: &Record<&Event>) {
        if self.on {
            if self.bytes.is_empty() {
                self.append(&Record::Format(FORMAT));
            }
            self.append(record);
        }
    }

    fn append(&mut self, record: &Record<&Event>) {
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes =
            postcard::to_extend(record, bytes).expect("records are plain data and can always be serialized");
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn take(&mut self, room: Vec<u8>) -> Vec<u8> {
        self.next = None;
        std::mem::replace(&mut self.bytes, room)
    }
}

/// Reads records from their wire format.
pub(super) fn read(mut bytes: &[u8]) -> impl Iterator<Item = Result<Owned, CorruptState>> + '_ {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        match postcard::take_from_bytes::<Owned>(bytes) {
            Ok((Record::Format(format), _)) if format > FORMAT => {
                bytes = &[];
                Some(Err(CorruptState("a newer version wrote a record; use that version")))
            }
            Ok((record, rest)) => {
                bytes = rest;
                Some(Ok(record))
            }
            Err(_) => {
                bytes = &[];
                Some(Err(CorruptState("a record cannot be read")))
            }
        }
    })
}
