//! Steps of the deciding clock: a jump of the wall clock that is believed moves the clock and the
//! deadlines of the ledger together.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, watch};

use super::{AuditRecorder, Sales};
use crate::{
    clock::{ClockState, Observation, SteeredClock},
    domain::{Attribution, Invalid, Text},
    interruptible_sleep::pause,
    ledger::{LedgerCalls as _, LedgerError, StepId, TimeStep},
};

/// How often the clock is compared with the wall.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Compares a [`SteeredClock`] with the wall, and takes the steps that it believes, in all lanes.
#[derive(Debug)]
pub struct Timekeeper {
    clock: Arc<SteeredClock>,
    sales: Arc<Sales>,
    recorder: Arc<AuditRecorder>,
    /// The step that is being taken; kept until its end is known.
    pending: Mutex<Option<Pending>>,
}

#[derive(Debug)]
struct Pending {
    step: TimeStep,
    /// Whether the clock itself has been stepped.
    clock_stepped: bool,
}

/// Why a step was not taken, or not to its end. The next look goes on with it.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The ledger did not take it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The wall is too far off to be believed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Timekeeper {
    /// Creates the keeper of the clock that decides about these sales.
    pub fn new(clock: Arc<SteeredClock>, sales: Arc<Sales>, recorder: Arc<AuditRecorder>) -> Self {
        Self { clock, sales, recorder, pending: Mutex::new(None) }
    }

    /// Returns what the clock shows.
    pub fn state(&self) -> ClockState {
        self.clock.state()
    }

    /// Runs until `stop` becomes true.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut doubted = false;
        while !*stop.borrow() {
            match self.look().await {
                Ok(Observation::Doubted(doubt)) if !doubted => {
                    doubted = true;
                    tracing::error!(
                        offset_ms = doubt.offset_ms,
                        believed_after_ms = u64::try_from(doubt.left.as_millis()).unwrap_or(u64::MAX),
                        "the wall clock has jumped; the server decides on its own time until the jump persists"
                    );
                }
                Ok(Observation::Steady { offset_ms }) if doubted => {
                    doubted = false;
                    tracing::warn!(offset_ms, "the wall clock is back");
                }
                Ok(Observation::Believed { .. }) => doubted = false,
                Ok(Observation::Doubted(_) | Observation::Steady { .. }) => {}
                Err(error) => tracing::error!(%error, "a step of the clock is not finished"),
            }
            pause(&mut stop, LOOK_EVERY).await;
        }
    }

    /// Compares the clock with the wall once, and takes the step that it believes.
    ///
    /// # Errors
    /// [`StepError`]. The next call goes on.
    pub async fn look(&self) -> Result<Observation, StepError> {
        let mut pending = self.pending.lock().await;
        self.finish(&mut pending).await?;
        let seen = self.clock.observe();
        if let Observation::Believed { by_ms } = seen {
            let reason: Text = format!("the wall clock stayed {} s off", seconds(by_ms)).parse()?;
            let by = Attribution { actor: "clock".parse()?, reason };
            self.take(&mut pending, by_ms, by).await?;
        }
        Ok(seen)
    }

    /// Believes the jump that is doubted now, and takes the step. Returns its length in
    /// milliseconds; `None` if no jump is doubted.
    ///
    /// # Errors
    /// [`StepError`]. [`Timekeeper::look`] goes on with it.
    pub async fn confirm(&self, by: Attribution) -> Result<Option<i64>, StepError> {
        let mut pending = self.pending.lock().await;
        self.finish(&mut pending).await?;
        if self.clock.confirm().is_none() {
            return Ok(None);
        }
        // The wall may have come back just now.
        let Observation::Believed { by_ms } = self.clock.observe() else { return Ok(None) };
        self.take(&mut pending, by_ms, by).await?;
        Ok(Some(by_ms))
    }

    async fn take(
        &self,
        pending: &mut Option<Pending>,
        by_ms: i64,
        by: Attribution,
    ) -> Result<(), StepError> {
        let step = TimeStep::new(StepId(fastrand::u64(..)), by_ms, by)?;
        *pending = Some(Pending { step, clock_stepped: false });
        self.finish(pending).await
    }

    /// Takes the rest of a step. Between clock and ledger, time must stand still rather than run
    /// ahead of the deadlines: back, the clock goes first; forward, it goes last.
    async fn finish(&self, pending: &mut Option<Pending>) -> Result<(), StepError> {
        let Some(Pending { step, clock_stepped }) = pending else { return Ok(()) };
        let by_ms = step.by_ms();
        if by_ms < 0 && !*clock_stepped {
            self.clock.step(by_ms);
            *clock_stepped = true;
        }
        self.sales.ledger().step_time(step.clone()).await?;
        if !*clock_stepped {
            self.clock.step(by_ms);
        }
        tracing::warn!(by_ms, actor = %step.by().actor, reason = %step.by().reason, "the clock was stepped");
        // Views of the time before are of no use.
        self.sales.renew_all().await;
        if let Err(error) = self.recorder.record_step(step).await {
            tracing::warn!(%error, "a step of the clock has no audit row yet");
        }
        *pending = None;
        Ok(())
    }
}

/// Milliseconds as signed seconds.
fn seconds(by_ms: i64) -> String {
    let (sign, ms) = (if by_ms < 0 { '-' } else { '+' }, by_ms.unsigned_abs());
    format!("{sign}{}.{:03}", ms / 1_000, ms % 1_000)
}

#[cfg(test)]
#[cfg(all(feature = "embedded", feature = "conformance"))]
mod tests {
    use std::num::NonZeroU16;

    use tokio::runtime::Handle;

    use super::*;
    use crate::{
        clock::{ManualTime, SteeringOptions},
        conformance::{Faults, Faulty},
        domain::{
            ActivityId, Clock, Idempotency, Key, Money, Nonce, OfferTerms, Order, OrderId, Quantity, SkuId,
            Strategy, Subjects, Timestamp, UserId, Window,
        },
        embedded::{EmbeddedCatalogue, EmbeddedLedger},
        ledger::{Lane, LedgerRole, Outcome, Reserve, ReserveMode, Terms, Timing},
        service::BatcherOptions,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const HOLD: Duration = Duration::from_secs(600);

    fn terms() -> Arc<Terms> {
        let price = Money::new(100, "CNY".parse().unwrap()).unwrap();
        let offer =
            OfferTerms::new(SkuId::new(2).unwrap(), price, 9, Strategy::PreDeduct, Some(HOLD)).unwrap();
        let day = Duration::from_secs(86_400);
        let window = Window::new(NOW.before(day), NOW.after(day)).unwrap();
        let activity = ActivityId::new(1).unwrap();
        Arc::new(Terms::new(activity, window, NonZeroU16::MIN, Timing::default(), vec![offer]).unwrap())
    }

    async fn place(ledger: &EmbeddedLedger, number: u64) -> Order {
        let reserve = Reserve {
            order: OrderId::new(number).unwrap(),
            user: UserId::new(number).unwrap(),
            sku: SkuId::new(2).unwrap(),
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key(number.into()), nonce: Nonce(number) },
            subjects: Subjects::default(),
            mode: ReserveMode::NewOrder,
        };
        let lane = Lane::first(terms().activity());
        let mut answer = ledger.reserve(lane, None, vec![reserve]).await.unwrap();
        let Some(Outcome::Reserved { order, .. }) = answer.outcomes.pop() else { panic!("there are units") };
        *order
    }

    /// Requests and replies of the ledger are lost, and calls arrive twice.
    #[tokio::test]
    async fn a_step_is_taken_once_whatever_becomes_of_its_calls() {
        for (seed, by_ms) in (0..).zip([3_600_000, -3_600_000, 120_000, -8_000].repeat(5)) {
            let time = Arc::new(ManualTime::new(NOW));
            let clock = Arc::new(SteeredClock::new(Arc::clone(&time) as _, SteeringOptions::default()));
            let engine = Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _));
            let faults = Faults::new(seed);
            let ledger = Faulty::new(Arc::clone(&engine), Arc::clone(&faults));
            let options = BatcherOptions::default();
            let sales = Arc::new(Sales::new(ledger, Arc::clone(&clock) as _, Handle::current(), options));
            let catalogue = Arc::new(EmbeddedCatalogue::in_memory(Arc::clone(&clock) as _).unwrap());
            let recorder = Arc::new(AuditRecorder::new(Arc::clone(&sales), catalogue));
            let keeper = Timekeeper::new(Arc::clone(&clock), Arc::clone(&sales), recorder);
            sales.open(terms()).await.unwrap();
            let before = place(&engine, 1).await;
            time.jump(by_ms);
            assert!(matches!(keeper.look().await.unwrap(), Observation::Doubted(_)));
            time.advance(Duration::from_secs(31));
            faults.set_percent(100);
            let mut looks = 0;
            // An unfinished step is gone on with at the next look, under the same id.
            while keeper.look().await.is_err() {
                looks += 1;
                assert!(looks < 200, "the step never ends");
            }
            faults.set_percent(0);
            assert_eq!((keeper.state().steps, keeper.state().offset_ms), (1, 0));
            let moved = engine.order(before.key).await.unwrap().unwrap();
            assert_eq!(moved.deadline, before.deadline.map(|deadline| deadline.moved(by_ms)));
            let next = place(&engine, 2).await;
            assert_eq!(next.placed_at, clock.now());
            assert_eq!(next.deadline, Some(clock.now().after(HOLD)));
        }
    }
}
