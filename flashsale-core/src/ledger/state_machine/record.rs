//! Records: what a journal keeps, from which a book can be built again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::CorruptState;
use crate::{
    domain::{ActivityId, Capture, Timestamp},
    ledger::{BatchId, Bucket, Chunk, Consumer, Entry, Epoch, Event, Fence, Lane, Position, Terms},
};

/// One change of a book. The variants are part of the journal's format: new ones are only added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Record<E> {
    /// The following events belong to this lane and moment.
    Header {
        lane: Lane,
        epoch: Epoch,
        batch: BatchId,
        at: Timestamp,
        /// The sequence of the first of them.
        sequence: u64,
    },
    /// An event of the lane.
    Event(E),
    Opened(Arc<Terms>),
    Unmatched(Capture),
    Registered(Consumer),
    Retired(Consumer),
    Acknowledged(Consumer, Lane, u64),
    Closed(ActivityId, Epoch),
    Loaded(ActivityId, Epoch, Box<Chunk>),
    Reopened(ActivityId, Epoch, BatchId),
    Followed(Lane, Vec<Entry>),
    Persisted(ActivityId, Bucket, Fence, Position),
    EpochTaken(ActivityId, Epoch, BatchId),
}

/// A record as it is read back.
pub(super) type Owned = Record<Event>;

/// Records that were made and not taken yet, in their wire format: postcard, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    on: bool,
    bytes: Vec<u8>,
    /// Lane, moment and position of the event that would need no header of its own.
    next: Option<(Lane, Timestamp, Position)>,
}

impl Journal {
    pub(super) fn turn_on(&mut self) {
        self.on = true;
    }

    /// Writes an event, with a header unless the event before it was its predecessor.
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
            let bytes = std::mem::take(&mut self.bytes);
            self.bytes = postcard::to_extend(record, bytes).expect("a record is made of plain data");
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn take(&mut self, room: Vec<u8>) -> Vec<u8> {
        self.next = None;
        std::mem::replace(&mut self.bytes, room)
    }
}

/// Reads records back.
pub(super) fn read(mut bytes: &[u8]) -> impl Iterator<Item = Result<Owned, CorruptState>> + '_ {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        match postcard::take_from_bytes::<Owned>(bytes) {
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
