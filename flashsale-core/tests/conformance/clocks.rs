//! Rules of a steered clock, on readings that tests make up.

use std::time::Duration;

use flashsale_core::{
    clock::{Observation, SteeredTime, SteeringOptions},
    domain::Timestamp,
};

type Check = Result<(), String>;

/// A rule and its check.
type Rule = (&'static str, fn() -> Check);

/// All rules.
pub(crate) const RULES: &[Rule] = &[
    ("small_differences_are_made_up_for_gradually", small_differences_are_made_up_for_gradually),
    ("a_jump_that_vanishes_leaves_no_trace", a_jump_that_vanishes_leaves_no_trace),
    ("a_jump_that_persists_is_believed", a_jump_that_persists_is_believed),
    ("jumps_to_different_times_do_not_add_up", jumps_to_different_times_do_not_add_up),
    ("a_confirmed_jump_is_believed_at_once", a_confirmed_jump_is_believed_at_once),
    ("a_start_behind_goes_on_from_the_last_decision", a_start_behind_goes_on_from_the_last_decision),
    ("time_goes_back_only_by_a_step", time_goes_back_only_by_a_step),
];

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const JUMPS: [i64; 4] = [-3_600_000, -8_000, 120_000, 3_600_000];

/// A time with its clocks, which are observed four times a second.
struct Bench {
    time: SteeredTime,
    ms: u64,
    off_ms: i64,
    last: Timestamp,
}

impl Bench {
    fn new() -> Self {
        let time = SteeredTime::new(SteeringOptions::default(), Duration::ZERO, START);
        Self { time, ms: 0, off_ms: 0, last: START }
    }

    fn now(&self) -> Timestamp {
        self.time.line().at(Duration::from_millis(self.ms))
    }

    /// The time by the monotonic clock.
    fn right(&self) -> Timestamp {
        START.moved(self.ms.cast_signed())
    }

    /// Lets time pass. Returns the last observation.
    fn pass(&mut self, ms: u64) -> Result<Observation, String> {
        let end = self.ms + ms;
        loop {
            let (monotonic, wall) = (Duration::from_millis(self.ms), self.right().moved(self.off_ms));
            let seen = self.time.observe(monotonic, wall);
            if self.now() < self.last {
                return Err(format!("went back from {:?} to {:?}", self.last, self.now()));
            }
            self.last = self.now();
            if self.ms == end {
                return Ok(seen);
            }
            self.ms = end.min(self.ms + 250);
        }
    }

    fn step(&mut self, by_ms: i64) {
        self.time.step(Duration::from_millis(self.ms), by_ms);
        self.last = self.now();
    }
}

/// Fails unless `a` and `b` are within a millisecond or two of each other.
fn same(what: &str, a: Timestamp, b: Timestamp) -> Check {
    let apart = a.since(b).max(b.since(a));
    if apart <= Duration::from_millis(3) { Ok(()) } else { Err(format!("{what}: {a:?} is not {b:?}")) }
}

fn holds(what: &str, holds: bool) -> Check {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn small_differences_are_made_up_for_gradually() -> Check {
    for off_ms in [-2_000, -300, 300, 2_000] {
        let mut bench = Bench::new();
        bench.off_ms = off_ms;
        bench.pass(1_000)?;
        same("after a second", bench.now(), bench.right().moved(50 * off_ms.signum()))?;
        bench.pass(44_000)?;
        same("after three quarters of a minute", bench.now(), bench.right().moved(off_ms))?;
    }
    Ok(())
}

fn a_jump_that_vanishes_leaves_no_trace() -> Check {
    for off_ms in JUMPS {
        let mut bench = Bench::new();
        bench.pass(5_000)?;
        for _ in 0..10 {
            bench.off_ms = off_ms;
            for _ in 0..4 {
                let seen = bench.pass(7_000)?;
                let doubted =
                    matches!(seen, Observation::Doubted(doubt) if (doubt.offset_ms - off_ms).abs() <= 2);
                holds(&format!("the jump is doubted: {seen:?}"), doubted)?;
                same("while it is doubted", bench.now(), bench.right())?;
            }
            bench.off_ms = 0;
            let seen = bench.pass(250)?;
            holds("no jump is left", matches!(seen, Observation::Steady { .. }))?;
            same("afterwards", bench.now(), bench.right())?;
        }
    }
    Ok(())
}

fn a_jump_that_persists_is_believed() -> Check {
    for off_ms in JUMPS {
        let mut bench = Bench::new();
        bench.off_ms = off_ms;
        bench.pass(29_750)?;
        same("before it is believed", bench.now(), bench.right())?;
        let Observation::Believed { by_ms } = bench.pass(500)? else {
            return Err("30 s are enough".to_owned());
        };
        same("believed, and not stepped yet", bench.now(), bench.right())?;
        bench.step(by_ms);
        same("after the step", bench.now(), bench.right().moved(off_ms))?;
        same(
            "without the step",
            bench.time.line().steady_at(Duration::from_millis(bench.ms)),
            bench.right(),
        )?;
        let seen = bench.pass(250)?;
        holds("the step settles it", matches!(seen, Observation::Steady { .. }))?;
        // And back again.
        bench.off_ms = 0;
        let seen = bench.pass(29_750)?;
        holds("the way back is doubted as well", matches!(seen, Observation::Doubted(_)))?;
        let Observation::Believed { by_ms } = bench.pass(500)? else {
            return Err("30 s are enough on the way back".to_owned());
        };
        bench.step(by_ms);
        same("after both steps", bench.now(), bench.right())?;
    }
    Ok(())
}

fn jumps_to_different_times_do_not_add_up() -> Check {
    let mut bench = Bench::new();
    for round in 0..8 {
        bench.off_ms = if round % 2 == 0 { 120_000 } else { -3_600_000 };
        let seen = bench.pass(20_000)?;
        holds("each is watched for itself", matches!(seen, Observation::Doubted(_)))?;
    }
    same("none is believed", bench.now(), bench.right())
}

fn a_confirmed_jump_is_believed_at_once() -> Check {
    let mut bench = Bench::new();
    bench.pass(1_000)?;
    holds("nothing is doubted", bench.time.confirm().is_none())?;
    bench.off_ms = 3_600_000;
    bench.pass(1_000)?;
    holds("the jump is doubted", bench.time.confirm().is_some())?;
    bench.off_ms = -3_600_000;
    let seen = bench.pass(250)?;
    holds("another jump was not confirmed", matches!(seen, Observation::Doubted(_)))?;
    holds("this one is", bench.time.confirm().is_some())?;
    let seen = bench.pass(250)?;
    holds("believed", matches!(seen, Observation::Believed { .. }))
}

fn a_start_behind_goes_on_from_the_last_decision() -> Check {
    let mut bench = Bench::new();
    let last = START.moved(3_600_000);
    bench.time.start_at(Duration::ZERO, last);
    bench.last = last;
    let seen = bench.pass(10_000)?;
    holds(
        "the wall is doubted",
        matches!(seen, Observation::Doubted(doubt) if doubt.offset_ms < -3_000_000),
    )?;
    same("it goes on", bench.now(), last.moved(10_000))?;
    bench.time.start_at(Duration::from_millis(bench.ms), START);
    same("a last decision in the past changes nothing", bench.now(), last.moved(10_000))
}

/// Random walks of the wall: the time never goes back, and stays near the monotonic clock plus what
/// was stepped.
fn time_goes_back_only_by_a_step() -> Check {
    let mut dice = fastrand::Rng::with_seed(7);
    for _ in 0..50 {
        let mut bench = Bench::new();
        let mut stepped_ms = 0;
        for _ in 0..200 {
            match dice.u8(0..10) {
                0 => bench.off_ms += *dice.choice(&JUMPS).ok_or("no jump")?,
                1..4 => bench.off_ms += dice.i64(-1_900..=1_900),
                _ => {}
            }
            if let Observation::Believed { by_ms } = bench.pass(dice.u64(0..20_000))? {
                bench.step(by_ms);
                stepped_ms += by_ms;
                same("a step leads to the wall", bench.now(), bench.right().moved(bench.off_ms))?;
            }
            let expected = bench.right().moved(stepped_ms);
            let steady = bench.time.line().steady_at(Duration::from_millis(bench.ms));
            same("steady", steady.moved(stepped_ms), bench.now())?;
            holds(
                "slewing alone is bounded by what the wall drifted",
                expected.since(bench.now()) < Duration::from_secs(3_600),
            )?;
        }
    }
    Ok(())
}

#[test]
fn a_steered_clock_follows_its_rules() {
    for (name, check) in RULES {
        if let Err(what) = check() {
            panic!("{name}: {what}");
        }
    }
}
