//! Pseudorandom numbers from a seed, unpredictable without knowing it.

use std::ops::Range;

use blake3::OutputReader;

const CONTEXT: &str = "flashsale server v1: what a quiz asks for and looks like";

/// A deterministic sequence of numbers.
pub(super) struct KeyedRandom(OutputReader);

impl KeyedRandom {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(blake3::Hasher::new_derive_key(CONTEXT).update(bytes).finalize_xof())
    }

    /// Returns a number below `end`, which is from 1 to 2³².
    pub(super) fn below(&mut self, end: usize) -> usize {
        let number = (u128::from(self.next()) * end as u128) >> 32;
        usize::try_from(number).unwrap_or(0)
    }

    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "24 bits are exact")]
        let share = (self.next() >> 8) as f32 / 16_777_216.0;
        low + (high - low) * share
    }

    pub(super) fn shade(&mut self, shades: Range<u8>) -> u8 {
        shades.start + u8::try_from(self.below(shades.len().max(1))).unwrap_or(0)
    }

    fn next(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }
}
