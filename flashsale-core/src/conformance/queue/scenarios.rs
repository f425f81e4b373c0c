//! Scenarios with hand-written expectations.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{BEGIN, Options, QueueUnderTest};
use crate::{
    conformance::{concurrency::poll_at_most, small_suite::SmallCase},
    domain::Timestamp,
    queue::{Claimed, Job, JobNumber, MAX_BATCH, NewJob, Put, Queue, QueueError, Settlement, Topic, Verdict},
};

/// Lists the scenarios. They panic when an expectation is not met. The compiler reports a scenario
/// that is not listed as dead code.
macro_rules! scenarios {
    ($($scenario:ident),+ $(,)?) => {
        pub(super) const SCENARIOS: &[SmallCase<QueueUnderTest>] = &[
            $(SmallCase {
                file: module_path!(),
                name: stringify!($scenario),
                is_random: false,
                play: |subject, steps| Box::pin(async move {
                    $scenario(subject, steps.options.clone()).await;
                    Ok(())
                }),
            }),+
        ];
    };
}

scenarios![
    a_job_is_not_put_twice_while_it_exists,
    a_finished_job_can_be_put_again,
    jobs_are_claimed_in_the_order_they_become_ready,
    a_delayed_job_waits_for_its_time,
    a_claimed_job_returns_when_its_lease_ends,
    a_superseded_claim_settles_nothing,
    a_claim_is_settled_once,
    a_retry_waits_and_counts_as_an_attempt,
    postponing_a_job_is_not_an_attempt,
    a_parked_job_can_be_listed_replayed_and_discarded,
    paging_through_dead_letters_skips_none,
    only_parked_jobs_are_dead_letters,
    oversized_calls_are_rejected_whole,
    topics_are_independent,
    each_job_is_handed_to_one_worker,
    concurrent_puts_make_one_job,
    dropped_calls_can_be_repeated,
    answered_calls_survive_a_crash,
];

const LEASE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn topic() -> Topic {
    "letters".parse().expect("valid topic")
}

fn job(id: &str) -> NewJob {
    NewJob::now(&topic(), id, &id).expect("valid job")
}

async fn put(queue: &Arc<dyn Queue>, id: &str) -> Put {
    queue.put(vec![job(id)]).await.expect("`put` succeeds")[0]
}

async fn claim(queue: &Arc<dyn Queue>, limit: usize) -> Claimed {
    queue.claim(&topic(), limit, LEASE).await.expect("`claim` succeeds")
}

async fn settle(queue: &Arc<dyn Queue>, job: &Job, verdict: Verdict) -> bool {
    let settlement = Settlement { claim: job.claim, verdict };
    queue.settle(vec![settlement]).await.expect("`settle` succeeds")[0]
}

fn ids(claimed: &Claimed) -> Vec<&str> {
    claimed.jobs.iter().map(|job| job.id.as_str()).collect()
}

fn park() -> Verdict {
    Verdict::Park { error: "it cannot be done".to_owned() }
}

async fn a_job_is_not_put_twice_while_it_exists(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    let Put::New(number) = put(&queue, "a").await else { panic!("`put` of a new job must answer `New`") };
    assert_eq!(put(&queue, "a").await, Put::Known(number), "put of a waiting job");
    let twice = queue.put(vec![job("b"), job("b")]).await.expect("`put` succeeds");
    assert!(matches!(twice[..], [Put::New(first), Put::Known(second)] if first == second), "{twice:?}");
    let claimed = claim(&queue, 1).await;
    assert_eq!(put(&queue, "a").await, Put::Known(number), "put of a claimed job");
    assert!(settle(&queue, &claimed.jobs[0], park()).await);
    assert_eq!(put(&queue, "a").await, Put::Known(number), "put of a parked job");
    assert_eq!(ids(&claim(&queue, 9).await), ["b"], "no job is put twice");
}

async fn a_finished_job_can_be_put_again(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    let first = put(&queue, "a").await;
    let claimed = claim(&queue, 1).await;
    assert!(settle(&queue, &claimed.jobs[0], Verdict::Done).await);
    let second = put(&queue, "a").await;
    let (Put::New(first), Put::New(second)) = (first, second) else { panic!("{first:?} {second:?}") };
    assert!(first < second, "numbers increase and are never reused");
    let claimed = claim(&queue, 1).await;
    assert!(settle(&queue, &claimed.jobs[0], park()).await);
    assert!(queue.discard(second).await.expect("`discard` succeeds"));
    assert!(matches!(put(&queue, "a").await, Put::New(third) if second < third));
}

async fn jobs_are_claimed_in_the_order_they_become_ready(subject: QueueUnderTest, _: Options) {
    let QueueUnderTest { queue, probe } = subject;
    let at = |seconds, id| {
        NewJob::at(BEGIN.after(Duration::from_secs(seconds)), &topic(), id, &()).expect("valid job")
    };
    let jobs = vec![at(3, "c"), at(1, "a"), at(3, "d"), at(2, "b"), job("now")];
    queue.put(jobs).await.expect("`put` succeeds");
    probe.set_time(BEGIN.after(Duration::from_secs(3))).await;
    assert_eq!(ids(&claim(&queue, 2).await), ["now", "a"]);
    assert_eq!(ids(&claim(&queue, 9).await), ["b", "c", "d"], "ties in the order of their puts");
}

async fn a_delayed_job_waits_for_its_time(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    let ready_at = BEGIN.after(SECOND);
    let late = NewJob::at(ready_at, &topic(), "late", &()).expect("valid job");
    queue.put(vec![late]).await.expect("`put` succeeds");
    let claimed = claim(&queue, 9).await;
    assert_eq!((claimed.jobs.len(), claimed.next, claimed.at), (0, Some(ready_at), BEGIN));
    probe.set_time(BEGIN.after(Duration::from_millis(999))).await;
    assert!(claim(&queue, 9).await.jobs.is_empty());
    probe.set_time(ready_at).await;
    assert_eq!(ids(&claim(&queue, 9).await), ["late"]);
}

async fn a_claimed_job_returns_when_its_lease_ends(subject: QueueUnderTest, _: Options) {
    let QueueUnderTest { queue, probe } = subject;
    put(&queue, "a").await;
    let first = claim(&queue, 9).await;
    assert_eq!(first.next, Some(BEGIN.after(LEASE)));
    assert!(claim(&queue, 9).await.jobs.is_empty());
    probe.set_time(BEGIN.after(LEASE)).await;
    let second = claim(&queue, 9).await;
    assert_eq!((second.jobs[0].attempt, first.jobs[0].attempt), (2, 1));
    assert_ne!(second.jobs[0].claim, first.jobs[0].claim);
}

async fn a_superseded_claim_settles_nothing(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    put(&queue, "a").await;
    let first = claim(&queue, 1).await;
    probe.set_time(BEGIN.after(LEASE)).await;
    let second = claim(&queue, 1).await;
    for verdict in [Verdict::Done, park(), Verdict::Postpone { wait: Duration::ZERO }] {
        assert!(!settle(&queue, &first.jobs[0], verdict).await, "another caller has claimed the job");
    }
    assert!(claim(&queue, 1).await.jobs.is_empty(), "the job is still claimed");
    assert!(settle(&queue, &second.jobs[0], Verdict::Done).await);
}

async fn a_claim_is_settled_once(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    put(&queue, "a").await;
    let claimed = claim(&queue, 1).await;
    // The lease has ended but nobody has claimed the job since, so the claim is still valid.
    probe.set_time(BEGIN.after(LEASE + SECOND)).await;
    let retry = || Verdict::Retry { wait: Duration::ZERO, error: "no".to_owned() };
    assert!(settle(&queue, &claimed.jobs[0], retry()).await);
    assert!(!settle(&queue, &claimed.jobs[0], Verdict::Done).await, "a repetition changes nothing");
    assert_eq!(claim(&queue, 1).await.jobs.len(), 1, "the retried job is ready");
}

async fn a_retry_waits_and_counts_as_an_attempt(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    put(&queue, "a").await;
    let mut now = BEGIN;
    for attempt in 1..=5 {
        let claimed = claim(&queue, 1).await;
        assert_eq!(claimed.jobs[0].attempt, attempt);
        assert_eq!(claimed.jobs[0].content::<String>().expect("content is a string"), "a");
        let retry = Verdict::Retry { wait: SECOND, error: format!("failure {attempt}") };
        assert!(settle(&queue, &claimed.jobs[0], retry).await);
        let waiting = claim(&queue, 1).await;
        assert_eq!((waiting.jobs.len(), waiting.next), (0, Some(now.after(SECOND))));
        now = now.after(SECOND);
        probe.set_time(now).await;
    }
}

async fn postponing_a_job_is_not_an_attempt(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    put(&queue, "a").await;
    let first = claim(&queue, 1).await;
    assert!(settle(&queue, &first.jobs[0], Verdict::Postpone { wait: SECOND }).await);
    assert!(claim(&queue, 1).await.jobs.is_empty());
    probe.set_time(BEGIN.after(SECOND)).await;
    let second = claim(&queue, 1).await;
    assert_eq!(second.jobs[0].attempt, 1);
    assert_ne!(second.jobs[0].claim, first.jobs[0].claim, "claims are never reused");
}

async fn a_parked_job_can_be_listed_replayed_and_discarded(subject: QueueUnderTest, _: Options) {
    let QueueUnderTest { queue, probe } = subject;
    let Put::New(number) = put(&queue, "a").await else { panic!("`put` of a new job must answer `New`") };
    let claimed = claim(&queue, 1).await;
    assert!(settle(&queue, &claimed.jobs[0], park()).await);
    probe.set_time(BEGIN.after(LEASE * 2)).await;
    assert!(claim(&queue, 1).await.jobs.is_empty(), "dead letters are not handed out");
    let letters = queue.dead_letters(None, 9).await.expect("`dead_letters` succeeds");
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.number, letter.id.as_str(), letter.attempts), (number, "a", 1));
    assert_eq!((letter.content.as_str(), letter.error.as_str()), ("\"a\"", "it cannot be done"));
    assert_eq!((letter.put_at, letter.parked_at), (BEGIN, BEGIN));
    assert_eq!(queue.dead_letter(number).await.expect("`dead_letter` succeeds").as_ref(), Some(letter));
    let depths = queue.depths().await.expect("`depths` succeeds");
    assert_eq!((depths[0].waiting, depths[0].dead, depths[0].first_ready), (0, 1, None));

    assert!(queue.replay(number).await.expect("`replay` succeeds"));
    assert!(!queue.replay(number).await.expect("`replay` succeeds"), "the job is no longer a dead letter");
    let again = claim(&queue, 1).await;
    assert_eq!((again.jobs[0].attempt, again.jobs[0].claim.number), (1, number));
    assert!(!settle(&queue, &claimed.jobs[0], Verdict::Done).await, "a replay does not revive an old claim");
    assert!(settle(&queue, &again.jobs[0], park()).await);
    let second = queue.dead_letter(number).await.expect("`dead_letter` succeeds").expect("parked again");
    assert_ne!(second.claims, letter.claims, "each time a job is parked, its number of claims differs");
    assert!(queue.discard(number).await.expect("`discard` succeeds"));
    assert!(!queue.discard(number).await.expect("`discard` succeeds"));
    assert_eq!(queue.dead_letters(None, 9).await.expect("`dead_letters` succeeds"), []);
}

async fn paging_through_dead_letters_skips_none(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    for number in 0..7 {
        put(&queue, &format!("job {number}")).await;
    }
    let claimed = claim(&queue, 7).await;
    let parked = claimed.jobs.iter().map(|job| Settlement { claim: job.claim, verdict: park() }).collect();
    assert_eq!(queue.settle(parked).await.expect("`settle` succeeds"), [true; 7]);
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = queue.dead_letters(after, 3).await.expect("`dead_letters` succeeds");
        let Some(last) = page.last() else { break };
        after = Some(last.number);
        seen.extend(page.iter().map(|letter| letter.id.to_string()));
    }
    assert_eq!(seen, (0..7).map(|number| format!("job {number}")).collect::<Vec<_>>());
}

async fn only_parked_jobs_are_dead_letters(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    let Put::New(waiting) = put(&queue, "a").await else { panic!("`put` of a new job must answer `New`") };
    for number in [waiting, JobNumber(0), JobNumber(99), JobNumber(u64::MAX)] {
        assert!(!queue.replay(number).await.expect("`replay` succeeds"));
        assert!(!queue.discard(number).await.expect("`discard` succeeds"));
        assert_eq!(queue.dead_letter(number).await.expect("`dead_letter` succeeds"), None);
    }
    assert_eq!(queue.dead_letters(Some(JobNumber(u64::MAX)), 9).await.expect("`dead_letters` succeeds"), []);
    assert_eq!(ids(&claim(&queue, 9).await), ["a"]);
}

async fn oversized_calls_are_rejected_whole(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    let jobs = |count: usize| (0..count).map(|number| job(&format!("job {number}"))).collect::<Vec<_>>();
    let refused = queue.put(jobs(MAX_BATCH + 1)).await;
    assert!(matches!(refused, Err(QueueError::TooMany(items)) if items == MAX_BATCH + 1), "{refused:?}");
    assert!(matches!(queue.claim(&topic(), MAX_BATCH + 1, LEASE).await, Err(QueueError::TooMany(_))));
    assert!(claim(&queue, MAX_BATCH).await.jobs.is_empty(), "a rejected call puts nothing");
    assert_eq!(queue.put(jobs(MAX_BATCH)).await.expect("`put` succeeds").len(), MAX_BATCH);
    let claimed = claim(&queue, MAX_BATCH).await;
    let done = |job: &Job| Settlement { claim: job.claim, verdict: Verdict::Done };
    let mut settlements: Vec<_> = claimed.jobs.iter().map(done).collect();
    settlements.push(done(&claimed.jobs[0]));
    assert!(matches!(queue.settle(settlements.clone()).await, Err(QueueError::TooMany(_))));
    settlements.pop();
    assert_eq!(queue.settle(settlements).await.expect("`settle` succeeds"), [true; MAX_BATCH]);
}

async fn topics_are_independent(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    let other: Topic = "letter".parse().expect("valid topic");
    put(&queue, "a").await;
    let same_id = NewJob::now(&other, "a", &()).expect("valid job");
    assert!(matches!(queue.put(vec![same_id]).await.expect("`put` succeeds")[..], [Put::New(_)]));
    let claimed = queue.claim(&other, 9, LEASE).await.expect("`claim` succeeds");
    assert_eq!(claimed.jobs.len(), 1);
    let depths = queue.depths().await.expect("`depths` succeeds");
    let shown: Vec<_> =
        depths.iter().map(|depth| (depth.topic.as_str(), depth.waiting, depth.dead)).collect();
    assert_eq!(shown, [("letter", 1, 0), ("letters", 1, 0)]);
    assert!(
        queue.claim(&"none".parse().expect("a topic"), 9, LEASE).await.expect("an answer").jobs.is_empty()
    );
    assert_eq!(queue.depths().await.expect("`depths` succeeds").len(), 2, "claiming does not create a topic");
}

async fn each_job_is_handed_to_one_worker(QueueUnderTest { queue, .. }: QueueUnderTest, options: Options) {
    for _ in 0..options.rounds {
        let jobs = (0..200).map(|number| job(&format!("job {number}"))).collect();
        queue.put(jobs).await.expect("`put` succeeds");
        let mut workers = JoinSet::new();
        for _ in 0..8 {
            let queue = Arc::clone(&queue);
            workers.spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let claimed = claim(&queue, 7).await;
                    if claimed.jobs.is_empty() {
                        return mine;
                    }
                    let done = |job: &Job| Settlement { claim: job.claim, verdict: Verdict::Done };
                    let ended = queue.settle(claimed.jobs.iter().map(done).collect()).await;
                    assert!(ended.expect("`settle` succeeds").into_iter().all(|valid| valid));
                    mine.extend(claimed.jobs.into_iter().map(|job| job.id));
                }
            });
        }
        let handed: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
        assert_eq!(handed.len(), 200);
        assert_eq!(handed.into_iter().collect::<BTreeSet<_>>().len(), 200);
    }
}

async fn concurrent_puts_make_one_job(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let queue = Arc::clone(&queue);
        callers.spawn(async move { put(&queue, "a").await });
    }
    let answers = callers.join_all().await;
    let new: Vec<_> = answers.iter().filter(|answer| matches!(answer, Put::New(_))).collect();
    assert_eq!(new.len(), 1, "{answers:?}");
    assert_eq!(claim(&queue, 9).await.jobs.len(), 1);
}

async fn dropped_calls_can_be_repeated(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    for polls in 0..4 {
        let id = format!("job {polls}");
        poll_at_most(polls, put(&queue, &id)).await;
        put(&queue, &id).await;
    }
    let claimed = claim(&queue, 99).await;
    assert_eq!(claimed.jobs.len(), 4, "each job exists once");
    for (polls, job) in (0..).zip(&claimed.jobs) {
        poll_at_most(polls, settle(&queue, job, Verdict::Done)).await;
        settle(&queue, job, Verdict::Done).await;
    }
    assert_eq!(queue.depths().await.expect("`depths` succeeds")[0].waiting, 0);
}

async fn answered_calls_survive_a_crash(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    for id in ["done", "parked", "held", "waits"] {
        put(&queue, id).await;
    }
    let claimed = claim(&queue, 3).await;
    settle(&queue, &claimed.jobs[0], Verdict::Done).await;
    settle(&queue, &claimed.jobs[1], park()).await;
    let Some(QueueUnderTest { queue, probe }) = probe.restart().await else { return };
    assert_eq!(queue.dead_letters(None, 9).await.expect("`dead_letters` succeeds")[0].id.as_str(), "parked");
    assert_eq!(ids(&claim(&queue, 9).await), ["waits"]);
    assert!(
        settle(&queue, &claimed.jobs[2], Verdict::Postpone { wait: Duration::ZERO }).await,
        "claims survive a crash"
    );
    assert!(matches!(put(&queue, "new").await, Put::New(number) if number > claimed.jobs[2].claim.number));
    let later: Timestamp = BEGIN.after(LEASE);
    probe.set_time(later).await;
    assert_eq!(ids(&claim(&queue, 9).await), ["held", "new", "waits"]);
}
