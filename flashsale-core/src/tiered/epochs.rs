//! What a node knows about the epochs of activities, and when it may rebuild a gate.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{domain::ActivityId, ledger::Epoch};

/// How long the truth is not asked for an epoch again, however many requests find the gate not ready.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// How often the patience doubles at most.
const DOUBLINGS: u32 = 6;

/// The epochs of all activities, as far as this node knows.
#[derive(Debug)]
pub(super) struct Epochs {
    known: Mutex<HashMap<ActivityId, Known>>,
    patience: Duration,
}

/// What one look at both tiers says about a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is open in the truth's epoch.
    Open,
    /// It has no content of the truth's epoch, and nobody is loading it.
    Lost,
    /// Another node has taken the truth's epoch and may be loading the gate.
    Taken,
}

#[derive(Debug)]
struct Known {
    /// The truth's epoch.
    epoch: Epoch,
    /// When the truth was last asked for it.
    asked_at: Instant,
    /// The newest epoch that this node took or saw open. A gate opens at most once in an epoch, so if
    /// it is not open in this one, it has lost it.
    reached: Epoch,
    /// The epoch that another node took, and when this node first saw that the gate is not open in it.
    taken: Option<(Epoch, Instant)>,
    /// How many epochs in a row were taken and did not open.
    abandoned: u32,
}

impl Epochs {
    /// Starts without knowledge. `patience` is how long an epoch is left to the node that took it.
    pub(super) fn new(patience: Duration) -> Self {
        Self { known: Mutex::default(), patience }
    }

    /// Returns the truth's epoch, as last seen.
    pub(super) fn current(&self, activity: ActivityId) -> Option<Epoch> {
        self.all().get(&activity).map(|known| known.epoch)
    }

    /// Returns whether the truth may be asked for the epoch again. The caller then asks.
    pub(super) fn may_ask(&self, activity: ActivityId) -> bool {
        let now = Instant::now();
        let mut all = self.all();
        let Some(known) = all.get_mut(&activity) else { return true };
        let may_ask = now.saturating_duration_since(known.asked_at) >= ASK_AGAIN;
        if may_ask {
            known.asked_at = now;
        }
        may_ask
    }

    /// Notes the truth's epoch. An answer that was overtaken by a newer one changes nothing.
    pub(super) fn saw(&self, activity: ActivityId, epoch: Epoch) {
        Known::of(&mut self.all(), activity).saw(epoch);
    }

    /// Notes that this node took an epoch.
    pub(super) fn took(&self, activity: ActivityId, epoch: Epoch) {
        let mut all = self.all();
        let known = Known::of(&mut all, activity);
        known.saw(epoch);
        known.reached = known.reached.max(epoch);
        known.taken = None;
    }

    /// Notes that another node took a newer epoch before the gate opened in this node's.
    pub(super) fn overtaken(&self, activity: ActivityId) {
        Known::of(&mut self.all(), activity).abandoned += 1;
    }

    /// Judges a gate by its epoch and the truth's, which must have been read after the gate's.
    pub(super) fn judge(&self, activity: ActivityId, gate: Option<Epoch>, truth: Epoch) -> Standing {
        let now = Instant::now();
        let mut all = self.all();
        let known = Known::of(&mut all, activity);
        known.saw(truth);
        if truth == Epoch(0) {
            return Standing::Lost;
        }
        if gate == Some(truth) {
            (known.reached, known.taken, known.abandoned) = (known.reached.max(truth), None, 0);
            return Standing::Open;
        }
        // An epoch is taken before a gate opens in it: only another truth's gate could be ahead.
        if known.reached == truth || gate > Some(truth) {
            return Standing::Lost;
        }
        let since = match known.taken {
            Some((taken, since)) if taken == truth => since,
            before => {
                known.abandoned += u32::from(before.is_some());
                known.taken = Some((truth, now));
                now
            }
        };
        // Doubled, so that nodes that overtake each other give one of them the time that it needs.
        let patience = self.patience * 2_u32.pow(known.abandoned.min(DOUBLINGS));
        if now.saturating_duration_since(since) >= patience { Standing::Lost } else { Standing::Taken }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ActivityId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn of(all: &mut HashMap<ActivityId, Self>, activity: ActivityId) -> &mut Self {
        all.entry(activity).or_insert_with(|| Self {
            epoch: Epoch(0),
            asked_at: Instant::now(),
            reached: Epoch(0),
            taken: None,
            abandoned: 0,
        })
    }

    fn saw(&mut self, epoch: Epoch) {
        self.epoch = self.epoch.max(epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn activity() -> ActivityId {
        ActivityId::new(1).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_epoch_is_left_to_the_node_that_took_it_for_a_while() {
        let epochs = Epochs::new(PATIENCE);
        let judge = |gate: Option<u64>, truth| epochs.judge(activity(), gate.map(Epoch), Epoch(truth));
        assert_eq!(judge(None, 0), Standing::Lost, "nobody has opened it yet");
        assert_eq!(judge(None, 1), Standing::Taken);
        assert_eq!(judge(Some(1), 1), Standing::Open);
        assert_eq!(judge(None, 1), Standing::Lost, "it was open");
        assert_eq!(judge(Some(1), 2), Standing::Taken, "another node begins to rebuild");
        for wait in [PATIENCE, 2 * PATIENCE, 4 * PATIENCE] {
            tokio::time::advance(wait - Duration::from_millis(1)).await;
            let truth = 2 + u64::from(wait > PATIENCE) + u64::from(wait > 2 * PATIENCE);
            assert_eq!(judge(None, truth), Standing::Taken, "{wait:?}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(judge(None, truth), Standing::Lost, "{wait:?}");
            assert_eq!(judge(None, truth + 1), Standing::Taken, "yet another node takes it");
        }
        epochs.took(activity(), Epoch(9));
        assert_eq!(judge(None, 9), Standing::Lost, "its own epoch is left to nobody");
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_answer_changes_nothing_and_the_truth_is_asked_seldom() {
        let epochs = Epochs::new(PATIENCE);
        assert!(epochs.may_ask(activity()));
        epochs.saw(activity(), Epoch(3));
        epochs.saw(activity(), Epoch(2));
        assert_eq!(epochs.current(activity()), Some(Epoch(3)));
        assert!(!epochs.may_ask(activity()));
        tokio::time::advance(ASK_AGAIN).await;
        assert!(epochs.may_ask(activity()));
        assert!(!epochs.may_ask(activity()));
    }
}
