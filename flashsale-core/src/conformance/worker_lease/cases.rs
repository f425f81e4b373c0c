//! Cases with hand-written expectations, and random steps compared with [`InMemoryLease`].

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc};

use tokio::task::JoinSet;

use super::WorkerLeaseUnderTest;
use crate::{
    conformance::{
        concurrency::poll_at_most,
        failure::Failure,
        scene::Check,
        small_suite::{Steps, at, small_cases},
    },
    domain::Timestamp,
    snowflake::{HolderId, InMemoryLease, Lease, LeaseError, WorkerLease},
};

small_cases![
    WorkerLeaseUnderTest;
    holders_have_different_worker_ids,
    if_all_are_held_the_error_says_when_to_retry,
    an_ended_lease_is_handed_over_where_it_ended,
    a_released_worker_id_is_handed_over_where_it_was_used,
    a_lease_never_gets_shorter,
    an_ended_lease_can_be_renewed_until_somebody_has_it,
    the_worker_id_that_can_be_used_first_is_granted,
    a_released_worker_id_is_preferred_to_an_ended_lease,
    a_repeated_acquire_returns_the_same_lease,
    a_dropped_acquire_takes_one_worker_id,
    a_former_holder_is_refused,
    a_late_message_of_a_former_holder_changes_nothing,
    what_was_released_is_lost,
    leases_survive_a_restart,
    each_worker_id_has_one_of_many_holders,
    concurrent_holders_have_disjoint_spans;
    random: random_steps_answer_as_in_memory,
];

/// The worker ids in every case.
pub(super) const WORKERS: RangeInclusive<u16> = 3..=5;

const A: HolderId = HolderId(0xa);
const B: HolderId = HolderId(0xb);
const C: HolderId = HolderId(0xc);
const D: HolderId = HolderId(0xd);

/// The leases of a process, with the steps taken.
struct Process<'a> {
    leases: Arc<dyn WorkerLease>,
    steps: &'a mut Steps,
}

impl<'a> Process<'a> {
    fn new(subject: &WorkerLeaseUnderTest, steps: &'a mut Steps) -> Self {
        Self { leases: Arc::clone(&subject.leases), steps }
    }

    async fn try_acquire(&mut self, holder: HolderId, now: u64, until: u64) -> Result<Lease, LeaseError> {
        self.steps.step(format!("{:x} acquires at {:?} until {:?}", holder.0, at(now), at(until)));
        self.leases.acquire(holder, at(now), at(until)).await
    }

    async fn acquire(&mut self, holder: HolderId, now: u64, until: u64) -> Result<Lease, Failure> {
        let answer = self.try_acquire(holder, now, until).await;
        self.steps.ok(answer)
    }

    async fn try_renew(&mut self, lease: Lease, until: u64) -> Result<Lease, LeaseError> {
        self.steps.step(format!("{:x} renews {lease:?} until {:?}", lease.holder.0, at(until)));
        self.leases.renew(lease, at(until)).await
    }

    async fn renew(&mut self, lease: Lease, until: u64) -> Result<Lease, Failure> {
        let answer = self.try_renew(lease, until).await;
        self.steps.ok(answer)
    }

    async fn try_release(&mut self, lease: Lease, used_until: u64) -> Result<(), LeaseError> {
        self.steps.step(format!("{:x} releases {lease:?}, used until {:?}", lease.holder.0, at(used_until)));
        self.leases.release(lease, at(used_until)).await
    }

    async fn release(&mut self, lease: Lease, used_until: u64) -> Check {
        let answer = self.try_release(lease, used_until).await;
        self.steps.ok(answer)
    }

    /// Leases all worker ids to A, B and C, from [`at`]`(0)` until these times.
    async fn acquire_all(&mut self, untils: [u64; 3]) -> Result<[Lease; 3], Failure> {
        let [a, b, c] = untils;
        Ok([self.acquire(A, 0, a).await?, self.acquire(B, 0, b).await?, self.acquire(C, 0, c).await?])
    }

    /// Fails unless the answer is that the caller does not hold the worker id.
    fn is_lost<T: std::fmt::Debug>(&self, worker: u16, answer: Result<T, LeaseError>) -> Check {
        let is_lost = matches!(answer, Err(LeaseError::Lost { worker: lost }) if lost == worker);
        self.steps.holds(&format!("`Lost` of worker id {worker}"), is_lost, answer)
    }

    fn is_full<T: std::fmt::Debug>(&self, retry_at: u64, answer: Result<T, LeaseError>) -> Check {
        let expected = at(retry_at);
        let is_full = matches!(answer, Err(LeaseError::NoWorker { first: 3, last: 5, retry_at }) if retry_at == expected);
        self.steps.holds(&format!("`NoWorker` from 3 to 5, retry at {expected:?}"), is_full, answer)
    }
}

async fn holders_have_different_worker_ids(subject: WorkerLeaseUnderTest, steps: &mut Steps) -> Check {
    let mut process = Process::new(&subject, steps);
    let leases = process.acquire_all([100, 200, 300]).await?;
    for (lease, (holder, until)) in leases.into_iter().zip([(A, 100), (B, 200), (C, 300)]) {
        process.steps.same(
            "holder and end of the lease",
            (holder, at(until)),
            (lease.holder, lease.until),
        )?;
        process.steps.holds("a lease that was never held starts before now", lease.from <= at(0), lease)?;
    }
    let workers: BTreeSet<_> = leases.iter().map(|lease| lease.worker).collect();
    process.steps.same("the worker ids of three leases", WORKERS.collect(), workers)
}

async fn if_all_are_held_the_error_says_when_to_retry(
    subject: WorkerLeaseUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut process = Process::new(&subject, steps);
    let [a, b, _] = process.acquire_all([300, 200, 400]).await?;
    let refused = process.try_acquire(D, 100, 500).await;
    process.is_full(200, refused)?;
    let another = subject.probe.another_process().await;
    process.leases = Arc::clone(&another);
    let refused = process.try_acquire(D, 199, 500).await;
    process.is_full(200, refused)?;
    process.leases = Arc::clone(&subject.leases);
    process.renew(b, 350).await?;
    let refused = process.try_acquire(D, 200, 500).await;
    process.is_full(300, refused)?;
    let granted = process.acquire(D, 300, 500).await?;
    process.steps.same("the lease that ended first", a.worker, granted.worker)
}

async fn an_ended_lease_is_handed_over_where_it_ended(
    subject: WorkerLeaseUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut process = Process::new(&subject, steps);
    let [a, _, _] = process.acquire_all([200, 900, 900]).await?;
    let another = subject.probe.another_process().await;
    process.leases = Arc::clone(&another);
    let next = process.acquire(D, 250, 300).await?;
    let expected = Lease { worker: a.worker, holder: D, from: at(200), until: at(300) };
    process.steps.same("the lease of the successor", expected, next)?;
    // By a clock that is behind, the lease of D has not ended; by one that is ahead, it has.
    process.leases = Arc::clone(&subject.leases);
    let refused = process.try_acquire(A, 100, 900).await;
    process.is_full(300, refused)?;
    let again = process.acquire(A, 5_000, 5_100).await?;
    process.steps.holds("a mark never goes back", again.from >= at(300) || again.worker != a.worker, again)
}

async fn a_released_worker_id_is_handed_over_where_it_was_used(
    subject: WorkerLeaseUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut process = Process::new(&subject, steps);
    let [a, _, _] = process.acquire_all([200, 900, 900]).await?;
    process.release(a, 150).await?;
    let d = process.acquire(D, 100, 300).await?;
    let expected = Lease { worker: a.worker, holder: D, from: at(150), until: at(300) };
    process.steps.same("the lease after the release", expected, d)?;
    process.release(d, 100).await?;
    let a = process.acquire(A, 100, 300).await?;
    process.steps.same("nothing used: the start of the lease so far", at(150), a.from)?;
    process.release(a, 7_000).await?;
    let d = process.acquire(D, 100, 400).await?;
    process.steps.same("not more than was granted", at(300), d.from)
}

async fn a_lease_never_gets_shorter(subject: WorkerLeaseUnderTest, steps: &mut Steps) -> Check {
    let mut process = Process::new(&subject, steps);
    let [a, _, _] = process.acquire_all([200, 900, 900]).await?;
    for (until, expected) in [(400, 400), (300, 400), (500, 500)] {
        // The lease as it was acquired, as in a repeated message.
        let renewed = process.renew(a, until).await?;
        process.steps.same("the renewed lease", Lease { until: at(expected), ..a }, renewed)?;
    }
    let refused = process.try_acquire(D, 250, 900).await;
    process.is_full(500, refused)
}

async fn an_ended_lease_can_be_renewed_until_somebody_has_it(
    subject: WorkerLeaseUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut process = Process::new(&subject, steps);
    let [a, b, _] = process.acquire_all([200, 200, 900]).await?;
    let renewed = process.renew(a, 700).await?;
    process.steps.same("the renewed lease", Lease { until: at(700), ..a }, renewed)?;
    let next = process.acquire(D, 600, 800).await?;
    process.steps.same("the worker id of the ended lease", b.worker, next.worker)?;
    let refused = process.try_renew(b, 900).await;
    process.is_lost(b.worker, refused)
}

async fn the_worker_id_that_can_be_used_first_is_granted(
    subject: WorkerLeaseUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut process = Process::new(&subject, steps);
    let [a, b, c] = process.acquire_all([1_000, 1_000, 1_000]).await?;
    for (lease, used_until) in [(a, 700), (b, 50), (c, 600)] {
        process.release(lease, used_until).await?;
    }
    let first = process.acquire(A, 100, 200).await?;
    let expected = Lease { worker: b.worker, holder: A, from: at(50), until: at(200) };
    process.steps.same("the only mark that is not after now", expected, first)?;
    let second = process.acquire(B, 100, 800).await?;
    let expected = Lease { worker: c.worker, holder: B, from: at(600), until: at(800) };
    process.steps.same("the lowest mark", expected, second)?;
    let third = process.acquire(C, 100, 200).await?;
    let expected = Lease { worker: a.worker, holder: C, from: at(700), until: at(700) };
    process.steps.same("empty until renewed", expected, third)?;
    let renewed = process.renew(third, 900).await?;
    process.steps.same("the renewed lease", Lease { until: at(900), ..third }, renewed)
}

async fn a_released_worker_id_is_preferred_to_an_ended_lease(
    subject: WorkerLeaseUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut process = Process::new(&subject, steps);
    let [_, b, _] = process.acquire_all([200, 300, 400]).await?;
    process.release(b, 300).await?;
    let next = process.acquire(D, 500, 600).await?;
    process.steps.same("the worker id that nobody holds", b.worker, next.worker)
}

async fn a_repeated_acquire_returns_the_same_lease(
    subject: WorkerLeaseUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut process = Process::new(&subject, steps);
    let mut lease = process.acquire(A, 100, 200).await?;
    for (now, until, expected) in [(100, 200, 200), (150, 250, 250), (120, 220, 250), (300, 400, 400)] {
        lease.until = at(expected);
        let repeated = process.acquire(A, now, until).await?;
        process.steps.same("the lease of A, extended", lease, repeated)?;
    }
    process.acquire(B, 0, 500).await?;
    process.acquire(C, 0, 500).await?;
    let refused = process.try_acquire(D, 350, 900).await;
    process.is_full(400, refused)?;
    let next = process.acquire(D, 400, 900).await?;
    process.steps.same("the worker id of A, whose lease has ended", lease.worker, next.worker)?;
    let another = process.acquire(A, 500, 900).await?;
    process.steps.holds("another worker id", another.worker != lease.worker, another)
}

async fn a_dropped_acquire_takes_one_worker_id(subject: WorkerLeaseUnderTest, steps: &mut Steps) -> Check {
    let mut process = Process::new(&subject, steps);
    for polls in 0..4 {
        let holders = [1, 2, 3].map(|number| HolderId(u128::from(polls * 10 + number)));
        process.steps.step(format!("{:x} acquires, and drops the future after {polls} polls", holders[0].0));
        poll_at_most(polls, process.leases.acquire(holders[0], at(0), at(100))).await;
        for holder in holders {
            let lease = process.acquire(holder, 0, 100).await?;
            process.steps.same("the holder", holder, lease.holder)?;
        }
        for holder in holders {
            let lease = process.acquire(holder, 0, 100).await?;
            process.release(lease, 0).await?;
        }
    }
    Ok(())
}

async fn a_former_holder_is_refused(subject: WorkerLeaseUnderTest, steps: &mut Steps) -> Check {
    let mut process = Process::new(&subject, steps);
    let [a, _, _] = process.acquire_all([200, 900, 900]).await?;
    let another = subject.probe.another_process().await;
    process.leases = Arc::clone(&another);
    let d = process.acquire(D, 300, 600).await?;
    process.leases = Arc::clone(&subject.leases);
    // Also with the times of the successor: only the holder counts.
    for former in [a, Lease { until: at(600), ..a }, Lease { holder: A, ..d }] {
        let refused = process.try_renew(former, 800).await;
        process.is_lost(a.worker, refused)?;
        let refused = process.try_release(former, 400).await;
        process.is_lost(a.worker, refused)?;
    }
    process.leases = another;
    let renewed = process.renew(d, 700).await?;
    process.steps.same("the lease of the successor", Lease { until: at(700), ..d }, renewed)?;
    process.release(d, 650).await?;
    let refused = process.try_renew(a, 900).await;
    process.is_lost(a.worker, refused)?;
    let next = process.acquire(HolderId(0xe), 300, 900).await?;
    process.steps.same("where the successor stopped", at(650), next.from)
}

async fn a_late_message_of_a_former_holder_changes_nothing(
    subject: WorkerLeaseUnderTest,
    steps: &mut Steps,
) -> Check {
    let mut process = Process::new(&subject, steps);
    let [a, _, _] = process.acquire_all([500, 900, 900]).await?;
    process.release(a, 150).await?;
    let d = process.acquire(D, 200, 400).await?;
    process.steps.same("the released worker id", a.worker, d.worker)?;
    let refused = process.try_renew(a, 950).await;
    process.is_lost(a.worker, refused)?;
    let refused = process.try_release(a, 150).await;
    process.is_lost(a.worker, refused)?;
    let refused = process.try_acquire(A, 300, 900).await;
    process.is_full(400, refused)
}

async fn what_was_released_is_lost(subject: WorkerLeaseUnderTest, steps: &mut Steps) -> Check {
    let mut process = Process::new(&subject, steps);
    let a = process.acquire(A, 0, 200).await?;
    process.release(a, 100).await?;
    let refused = process.try_release(a, 100).await;
    process.is_lost(a.worker, refused)?;
    let refused = process.try_renew(a, 300).await;
    process.is_lost(a.worker, refused)?;
    let never = Lease { worker: *WORKERS.end(), ..a };
    let refused = process.try_renew(never, 300).await;
    process.is_lost(never.worker, refused)
}

async fn leases_survive_a_restart(subject: WorkerLeaseUnderTest, steps: &mut Steps) -> Check {
    let mut process = Process::new(&subject, steps);
    let [a, b, c] = process.acquire_all([200, 300, 400]).await?;
    let c = process.renew(c, 500).await?;
    process.release(b, 150).await?;
    process.steps.step("crash and restart");
    let Some(again) = subject.probe.restart().await else { return Ok(()) };
    process.leases = again.leases;
    let repeated = process.acquire(A, 100, 200).await?;
    process.steps.same("the lease of A", a, repeated)?;
    let renewed = process.renew(c, 450).await?;
    process.steps.same("the lease of C", c, renewed)?;
    let refused = process.try_renew(b, 900).await;
    process.is_lost(b.worker, refused)?;
    let d = process.acquire(D, 160, 600).await?;
    let expected = Lease { worker: b.worker, holder: D, from: at(150), until: at(600) };
    process.steps.same("the released worker id", expected, d)?;
    let refused = process.try_acquire(B, 160, 600).await;
    process.is_full(200, refused)
}

async fn each_worker_id_has_one_of_many_holders(subject: WorkerLeaseUnderTest, steps: &mut Steps) -> Check {
    let another = subject.probe.another_process().await;
    for round in 0..u64::from(steps.options.rounds) {
        let (now, until) = (round * 100, round * 100 + 100);
        steps.step(format!("16 holders acquire at {:?}, each of them twice", at(now)));
        let mut calls = JoinSet::new();
        for call in 0..32 {
            let leases = Arc::clone(if call % 4 < 2 { &subject.leases } else { &another });
            let holder = HolderId((round * 16 + call / 2).into());
            calls.spawn(async move { leases.acquire(holder, at(now), at(until)).await });
        }
        let mut granted = Vec::new();
        for answer in calls.join_all().await {
            match answer {
                Ok(lease) => granted.push((lease.worker, lease.holder)),
                Err(LeaseError::NoWorker { .. }) => {}
                Err(error) => return Err(steps.failure("a lease or `NoWorker`", error.to_string())),
            }
        }
        granted.sort_unstable();
        let once: BTreeSet<_> = granted.iter().copied().collect();
        steps.holds("three holders, each with two equal answers", granted.len() == 6, &granted)?;
        let workers: Vec<_> = once.into_iter().map(|(worker, _)| worker).collect();
        steps.same("one holder for each worker id", WORKERS.collect(), workers)?;
    }
    Ok(())
}

/// The times in which a holder may have made ids of a worker id.
#[derive(Clone, Copy, Debug)]
struct Span {
    lease: Lease,
    used_until: Timestamp,
}

/// Returns whether it is one lease, perhaps with another end.
fn is_same(a: Lease, b: Lease) -> bool {
    Lease { until: b.until, ..a } == b
}

/// Fails if two spans of a worker id overlap (I12).
fn are_disjoint(steps: &Steps, spans: &[Span]) -> Check {
    let mut spans: Vec<_> = spans.iter().filter(|span| span.lease.from < span.used_until).collect();
    spans.sort_by_key(|span| (span.lease.worker, span.lease.from));
    let overlap = spans
        .windows(2)
        .find(|pair| pair[0].lease.worker == pair[1].lease.worker && pair[0].used_until > pair[1].lease.from);
    steps.holds("no time of a worker id is granted twice", overlap.is_none(), overlap)
}

async fn concurrent_holders_have_disjoint_spans(subject: WorkerLeaseUnderTest, steps: &mut Steps) -> Check {
    let another = subject.probe.another_process().await;
    let turns = u64::from(steps.options.rounds) * 5;
    steps.step(format!("8 holders acquire, renew and release or disappear, {turns} times each"));
    let mut holders = JoinSet::new();
    for number in 0..8_u64 {
        let leases = Arc::clone(if number % 2 == 0 { &subject.leases } else { &another });
        holders.spawn(async move {
            let mut spans = Vec::new();
            for turn in 0..turns {
                let (holder, now) = (HolderId((number * 1_000 + turn).into()), turn * 20 + number);
                let Ok(lease) = leases.acquire(holder, at(now), at(now + 30)).await else { continue };
                let renewed = leases.renew(lease, at(now + 50)).await.unwrap_or(lease);
                let releases = (turn + number) % 3 > 0;
                let used_until = at(now + 10).max(lease.from);
                if releases && leases.release(renewed, used_until).await.is_ok() {
                    spans.push(Span { lease, used_until: used_until.min(renewed.until) });
                } else {
                    spans.push(Span { lease, used_until: renewed.until });
                }
            }
            spans
        });
    }
    let spans: Vec<_> = holders.join_all().await.into_iter().flatten().collect();
    steps.holds("some leases are granted", spans.len() > 3, spans.len())?;
    are_disjoint(steps, &spans)
}

/// A step of a random sequence. Times are in milliseconds after the start.
#[derive(Clone, Copy)]
enum Step {
    Acquire(HolderId, u64, u64),
    Renew(Lease, u64),
    Release(Lease, u64),
}

impl Process<'_> {
    /// Takes a step. Returns the lease, if the answer has one, and the answer as text.
    async fn take(&mut self, step: Step) -> (Option<Lease>, String) {
        let answer = match step {
            Step::Acquire(holder, now, until) => self.try_acquire(holder, now, until).await,
            Step::Renew(lease, until) => self.try_renew(lease, until).await,
            Step::Release(lease, used_until) => {
                let released = self.try_release(lease, used_until).await;
                return (None, released.map_or_else(|error| error.to_string(), |()| "released".to_owned()));
            }
        };
        match answer {
            Ok(lease) => (Some(lease), format!("{lease:?}")),
            Err(error) => (None, error.to_string()),
        }
    }
}

async fn random_steps_answer_as_in_memory(subject: WorkerLeaseUnderTest, steps: &mut Steps) -> Check {
    let model: Arc<dyn WorkerLease> = Arc::new(InMemoryLease::new(WORKERS));
    let (mut now, mut known, mut spans) = (100, Vec::<Lease>::new(), Vec::<Span>::new());
    // Each draws another id when it has released or lost a lease.
    let (mut holders, mut drawn) = ([0, 1, 2, 3, 4, 5].map(HolderId), 6);
    for _ in 0..steps.rng.usize(1..steps.options.steps.max(2)) {
        let (ms, back) = (steps.rng.u64(0..60), steps.rng.u64(0..40));
        now += steps.rng.u64(0..20);
        let lease = steps.rng.choice(&known).copied();
        let step = match (steps.rng.u8(0..10), lease) {
            (4..7, Some(lease)) => Step::Renew(lease, now + ms),
            (7.., Some(lease)) => Step::Release(lease, now + ms - back),
            _ => Step::Acquire(holders[steps.rng.usize(0..holders.len())], now - back, now + ms),
        };
        let mut unseen = Steps::new(&steps.options);
        let of_model = Process { leases: Arc::clone(&model), steps: &mut unseen }.take(step).await;
        let (granted, observed) = Process::new(&subject, steps).take(step).await;
        steps.same("the answer of `InMemoryLease`", of_model.1.as_str(), observed.as_str())?;
        match (step, granted) {
            (_, Some(lease)) => {
                // Whoever is granted another lease does not know of the former one.
                known.retain(|known| known.holder != lease.holder || is_same(*known, lease));
                known.push(lease);
                spans.retain(|span| !is_same(span.lease, lease));
                spans.push(Span { lease, used_until: lease.until });
            }
            (Step::Acquire(..), None) => {}
            (Step::Renew(lease, _) | Step::Release(lease, _), None) => {
                if let Some(holder) = holders.iter_mut().find(|holder| **holder == lease.holder) {
                    *holder = HolderId(drawn);
                    drawn += 1;
                }
            }
        }
        if let (Step::Release(lease, used_until), "released") = (step, observed.as_str()) {
            for span in spans.iter_mut().filter(|span| is_same(span.lease, lease)) {
                span.used_until = span.used_until.min(at(used_until));
            }
        }
        are_disjoint(steps, &spans)?;
    }
    Ok(())
}
