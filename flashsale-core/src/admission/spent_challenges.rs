//! The memory of tried challenges.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use crate::domain::Timestamp;

/// Remembers tried challenges until they expire; about 50 bytes each.
///
/// Each process has its own memory, so a challenge can be tried once per process.
#[derive(Debug)]
pub struct SpentChallenges {
    room: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seeds: HashSet<u128>,
    by_expiry: BinaryHeap<Reverse<(Timestamp, u128)>>,
}

/// The answer to [`SpentChallenges::spend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendResult {
    /// The challenge was unspent and is spent now.
    First,
    /// The challenge was already tried.
    Again,
    /// The memory is full; try again when some challenges have expired.
    Full,
}

impl SpentChallenges {
    /// Creates a memory with room for this many unexpired challenges.
    pub fn new(room: NonZeroUsize) -> Self {
        Self { room: room.get(), state: Mutex::default() }
    }

    /// Spends the challenge with `seed`, which expires at `expires_at`.
    pub fn spend(&self, seed: u128, expires_at: Timestamp, now: Timestamp) -> SpendResult {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { seeds, by_expiry } = &mut *state;
        while let Some(Reverse((expiry, expired))) = by_expiry.peek().copied()
            && expiry <= now
        {
            by_expiry.pop();
            seeds.remove(&expired);
        }
        if seeds.contains(&seed) {
            return SpendResult::Again;
        }
        if seeds.len() >= self.room {
            return SpendResult::Full;
        }
        seeds.insert(seed);
        by_expiry.push(Reverse((expires_at, seed)));
        SpendResult::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn each_is_spent_once_and_room_comes_back() {
        let spent = SpentChallenges::new(NonZeroUsize::new(2).unwrap());
        assert_eq!(spent.spend(1, at(10), at(0)), SpendResult::First);
        assert_eq!(spent.spend(1, at(10), at(9)), SpendResult::Again);
        assert_eq!(spent.spend(2, at(5), at(0)), SpendResult::First);
        assert_eq!(spent.spend(3, at(10), at(4)), SpendResult::Full);
        assert_eq!(spent.spend(3, at(10), at(5)), SpendResult::First, "2 has expired");
        assert_eq!(spent.spend(1, at(10), at(9)), SpendResult::Again);
        assert_eq!(spent.state.lock().unwrap().by_expiry.len(), 2);
    }

    #[test]
    fn concurrent_spends_succeed_once() {
        let spent = SpentChallenges::new(NonZeroUsize::new(10).unwrap());
        let firsts: usize = std::thread::scope(|scope| {
            let spend = || (0..500).filter(|_| spent.spend(7, at(10), at(0)) == SpendResult::First).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(spend)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(firsts, 1);
    }
}
