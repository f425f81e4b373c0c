//! The bit layout of an id.

use crate::domain::{Invalid, Timestamp};

/// The bits of an id, from the high end: milliseconds since an epoch, worker, sequence; at most 63
/// in total. All generators of a deployment must use the same layout for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    epoch: Timestamp,
    time_bits: u32,
    worker_bits: u32,
    sequence_bits: u32,
}

/// The parts of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The generator's logical time.
    pub time: Timestamp,
    /// The worker id.
    pub worker: u16,
    /// The sequence number within worker and millisecond.
    pub sequence: u64,
}

impl Default for Layout {
    /// Since 2024-01-01: 41 time bits (69 years), 10 worker (1,024), 12 sequence (4,096 per ms).
    fn default() -> Self {
        Self {
            epoch: Timestamp::from_millis(1_704_067_200_000),
            time_bits: 41,
            worker_bits: 10,
            sequence_bits: 12,
        }
    }
}

impl Layout {
    /// Creates a layout whose time starts at `epoch`.
    ///
    /// # Errors
    /// Without time bits, with over 16 worker bits or 31 sequence bits, or with over 63 in total.
    pub fn new(
        epoch: Timestamp,
        time_bits: u32,
        worker_bits: u32,
        sequence_bits: u32,
    ) -> Result<Self, Invalid> {
        let fits = time_bits >= 1
            && worker_bits <= 16
            && sequence_bits <= 31
            && time_bits.saturating_add(worker_bits + sequence_bits) <= 63;
        if !fits {
            return Err(Invalid::new(
                "layout",
                format!(
                    "{time_bits} + {worker_bits} + {sequence_bits} bits: needs at least 1 bit of time, at most 16 of \
                     worker, at most 31 of sequence, and at most 63 in total"
                ),
            ));
        }
        Ok(Self { epoch, time_bits, worker_bits, sequence_bits })
    }

    /// The time that ids count from.
    pub fn epoch(&self) -> Timestamp {
        self.epoch
    }

    /// The highest worker id.
    pub fn last_worker(&self) -> u16 {
        u16::try_from((1_u32 << self.worker_bits) - 1).unwrap_or(u16::MAX)
    }

    /// Splits an id of this layout into its parts.
    pub fn parts(&self, id: u64) -> Parts {
        let worker = id >> self.sequence_bits & u64::from(self.last_worker());
        Parts {
            time: Timestamp::from_millis(
                (id >> (self.worker_bits + self.sequence_bits)).saturating_add(self.epoch.as_millis()),
            ),
            worker: u16::try_from(worker).unwrap_or(u16::MAX),
            sequence: id & (self.per_tick() - 1),
        }
    }

    /// Ids per worker and millisecond.
    pub(super) fn per_tick(&self) -> u64 {
        1 << self.sequence_bits
    }

    /// The first position of `time`. Positions number the ids of one worker: time and sequence bits
    /// without a gap. `None` before the epoch; the end of the layout for times after it.
    pub(super) fn position(&self, time: Timestamp) -> Option<u64> {
        let tick = time.as_millis().checked_sub(self.epoch.as_millis())?;
        Some(tick.min(1 << self.time_bits) << self.sequence_bits)
    }

    /// The first position beyond the layout.
    pub(super) fn end(&self) -> u64 {
        1 << (self.time_bits + self.sequence_bits)
    }

    /// The millisecond that contains `position`.
    pub(super) fn time(&self, position: u64) -> Timestamp {
        Timestamp::from_millis((position >> self.sequence_bits).saturating_add(self.epoch.as_millis()))
    }

    /// The id of `worker` at `position`.
    pub(super) fn id(&self, position: u64, worker: u16) -> u64 {
        let sequence = position & (self.per_tick() - 1);
        (position - sequence) << self.worker_bits | u64::from(worker) << self.sequence_bits | sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_splits_into_the_parts_it_was_made_from() {
        let layout = Layout::default();
        let time = Timestamp::from_millis(1_790_000_000_123);
        let position = layout.position(time).unwrap() + 4_095;
        let id = layout.id(position, 1_023);
        assert_eq!(layout.parts(id), Parts { time, worker: 1_023, sequence: 4_095 });
        assert_eq!(id >> 22, 1_790_000_000_123 - 1_704_067_200_000);
        assert_eq!(layout.id(position + 1, 1_023) & 0xfff, 0, "the sequence carries into the time");
        assert_eq!(layout.parts(layout.id(position + 1, 1_023)).time.as_millis(), 1_790_000_000_124);
    }

    #[test]
    fn the_highest_id_fits_a_signed_integer() {
        for layout in [Layout::default(), Layout::new(Timestamp::EPOCH, 47, 0, 16).unwrap()] {
            let highest = layout.id(layout.end() - 1, layout.last_worker());
            assert_eq!(highest, i64::MAX as u64);
        }
    }

    #[test]
    fn layouts_that_do_not_fit_are_refused() {
        for (time, worker, sequence) in
            [(0, 10, 12), (42, 10, 12), (41, 17, 5), (20, 1, 32), (u32::MAX, 16, 31)]
        {
            assert!(
                Layout::new(Timestamp::EPOCH, time, worker, sequence).is_err(),
                "{time} {worker} {sequence}"
            );
        }
    }
}
