//! Stories with their expectations.

use std::{collections::BTreeSet, future::Future, sync::Arc, task::Poll, time::Duration};

use tokio::task::JoinSet;

use super::{BEGIN, Options, QueueUnderTest, Scenario};
use crate::{
    domain::Timestamp,
    queue::{Claimed, Job, JobNumber, MAX_BATCH, NewJob, Put, Queue, QueueError, Settlement, Topic, Verdict},
};

/// The table of the scenarios. One that stands in no table is dead code, which the compiler reports.
macro_rules! scenarios {
    ($($story:ident),+ $(,)?) => {
        pub(super) const SCENARIOS: &[Scenario] = &[
            $(Scenario { name: concat!("scenarios::", stringify!($story)), play: |subject, options| Box::pin($story(subject, options)) }),+
        ];
    };
}

scenarios![
    a_job_is_put_once_while_it_is_there,
    a_job_that_was_done_can_be_put_again,
    jobs_come_in_the_order_in_which_they_are_ready,
    a_delayed_job_comes_at_its_time,
    a_claimed_job_comes_back_when_its_lease_ends,
    a_claim_that_ended_settles_nothing,
    a_claim_is_settled_once,
    a_retried_job_waits_and_counts,
    a_postponed_job_was_not_tried,
    a_parked_job_is_listed_replayed_and_discarded,
    pages_of_dead_letters_leave_none_out,
    what_is_there_no_more_is_not_found,
    calls_that_are_too_large_are_refused_whole,
    topics_do_not_meet,
    a_job_is_handed_to_one_of_many,
    one_of_many_puts_is_the_first,
    a_put_that_was_given_up_is_repeated,
    what_was_answered_survives_a_crash,
];

const LEASE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn topic() -> Topic {
    "letters".parse().expect("it is a topic")
}

fn job(id: &str) -> NewJob {
    NewJob::now(&topic(), id, &id).expect("it is a job")
}

async fn put(queue: &Arc<dyn Queue>, id: &str) -> Put {
    queue.put(vec![job(id)]).await.expect("the queue answers")[0]
}

async fn claim(queue: &Arc<dyn Queue>, limit: usize) -> Claimed {
    queue.claim(&topic(), limit, LEASE).await.expect("the queue answers")
}

async fn settle(queue: &Arc<dyn Queue>, job: &Job, verdict: Verdict) -> bool {
    let settlement = Settlement { claim: job.claim, verdict };
    queue.settle(vec![settlement]).await.expect("the queue answers")[0]
}

fn ids(claimed: &Claimed) -> Vec<&str> {
    claimed.jobs.iter().map(|job| job.id.as_str()).collect()
}

fn park() -> Verdict {
    Verdict::Park { error: "it cannot be done".to_owned() }
}

async fn a_job_is_put_once_while_it_is_there(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    let Put::New(number) = put(&queue, "a").await else { panic!("it is new") };
    assert_eq!(put(&queue, "a").await, Put::Known(number), "waiting");
    let twice = queue.put(vec![job("b"), job("b")]).await.expect("the queue answers");
    assert!(matches!(twice[..], [Put::New(first), Put::Known(second)] if first == second), "{twice:?}");
    let claimed = claim(&queue, 1).await;
    assert_eq!(put(&queue, "a").await, Put::Known(number), "claimed");
    assert!(settle(&queue, &claimed.jobs[0], park()).await);
    assert_eq!(put(&queue, "a").await, Put::Known(number), "parked");
    assert_eq!(ids(&claim(&queue, 9).await), ["b"], "nothing was put twice");
}

async fn a_job_that_was_done_can_be_put_again(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    let first = put(&queue, "a").await;
    let claimed = claim(&queue, 1).await;
    assert!(settle(&queue, &claimed.jobs[0], Verdict::Done).await);
    let second = put(&queue, "a").await;
    let (Put::New(first), Put::New(second)) = (first, second) else { panic!("{first:?} {second:?}") };
    assert!(first < second, "numbers rise, and none is given twice");
    let claimed = claim(&queue, 1).await;
    assert!(settle(&queue, &claimed.jobs[0], park()).await);
    assert!(queue.discard(second).await.expect("the queue answers"));
    assert!(matches!(put(&queue, "a").await, Put::New(third) if second < third));
}

async fn jobs_come_in_the_order_in_which_they_are_ready(subject: QueueUnderTest, _: Options) {
    let QueueUnderTest { queue, probe } = subject;
    let at = |seconds, id| {
        NewJob::at(BEGIN.after(Duration::from_secs(seconds)), &topic(), id, &()).expect("it is a job")
    };
    let jobs = vec![at(3, "c"), at(1, "a"), at(3, "d"), at(2, "b"), job("now")];
    queue.put(jobs).await.expect("the queue answers");
    probe.set_time(BEGIN.after(Duration::from_secs(3))).await;
    assert_eq!(ids(&claim(&queue, 2).await), ["now", "a"]);
    assert_eq!(ids(&claim(&queue, 9).await), ["b", "c", "d"], "of two at one moment the first that was put");
}

async fn a_delayed_job_comes_at_its_time(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    let ready_at = BEGIN.after(SECOND);
    let late = NewJob::at(ready_at, &topic(), "late", &()).expect("it is a job");
    queue.put(vec![late]).await.expect("the queue answers");
    let claimed = claim(&queue, 9).await;
    assert_eq!((claimed.jobs.len(), claimed.next, claimed.at), (0, Some(ready_at), BEGIN));
    probe.set_time(BEGIN.after(Duration::from_millis(999))).await;
    assert!(claim(&queue, 9).await.jobs.is_empty());
    probe.set_time(ready_at).await;
    assert_eq!(ids(&claim(&queue, 9).await), ["late"]);
}

async fn a_claimed_job_comes_back_when_its_lease_ends(subject: QueueUnderTest, _: Options) {
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

async fn a_claim_that_ended_settles_nothing(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    put(&queue, "a").await;
    let first = claim(&queue, 1).await;
    probe.set_time(BEGIN.after(LEASE)).await;
    let second = claim(&queue, 1).await;
    for verdict in [Verdict::Done, park(), Verdict::Postpone { wait: Duration::ZERO }] {
        assert!(!settle(&queue, &first.jobs[0], verdict).await, "somebody else has it");
    }
    assert!(claim(&queue, 1).await.jobs.is_empty(), "it is not free");
    assert!(settle(&queue, &second.jobs[0], Verdict::Done).await);
}

async fn a_claim_is_settled_once(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    put(&queue, "a").await;
    let claimed = claim(&queue, 1).await;
    // The lease has ended, and nobody has claimed it since: the result counts.
    probe.set_time(BEGIN.after(LEASE + SECOND)).await;
    let retry = || Verdict::Retry { wait: Duration::ZERO, error: "no".to_owned() };
    assert!(settle(&queue, &claimed.jobs[0], retry()).await);
    assert!(!settle(&queue, &claimed.jobs[0], Verdict::Done).await, "a repetition changes nothing");
    assert_eq!(claim(&queue, 1).await.jobs.len(), 1, "it is there");
}

async fn a_retried_job_waits_and_counts(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    put(&queue, "a").await;
    let mut now = BEGIN;
    for attempt in 1..=5 {
        let claimed = claim(&queue, 1).await;
        assert_eq!(claimed.jobs[0].attempt, attempt);
        assert_eq!(claimed.jobs[0].content::<String>().expect("it is a text"), "a");
        let retry = Verdict::Retry { wait: SECOND, error: format!("failure {attempt}") };
        assert!(settle(&queue, &claimed.jobs[0], retry).await);
        let waiting = claim(&queue, 1).await;
        assert_eq!((waiting.jobs.len(), waiting.next), (0, Some(now.after(SECOND))));
        now = now.after(SECOND);
        probe.set_time(now).await;
    }
}

async fn a_postponed_job_was_not_tried(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    put(&queue, "a").await;
    let first = claim(&queue, 1).await;
    assert!(settle(&queue, &first.jobs[0], Verdict::Postpone { wait: SECOND }).await);
    assert!(claim(&queue, 1).await.jobs.is_empty());
    probe.set_time(BEGIN.after(SECOND)).await;
    let second = claim(&queue, 1).await;
    assert_eq!(second.jobs[0].attempt, 1);
    assert_ne!(second.jobs[0].claim, first.jobs[0].claim, "a claim is never given twice");
}

async fn a_parked_job_is_listed_replayed_and_discarded(subject: QueueUnderTest, _: Options) {
    let QueueUnderTest { queue, probe } = subject;
    let Put::New(number) = put(&queue, "a").await else { panic!("it is new") };
    let claimed = claim(&queue, 1).await;
    assert!(settle(&queue, &claimed.jobs[0], park()).await);
    probe.set_time(BEGIN.after(LEASE * 2)).await;
    assert!(claim(&queue, 1).await.jobs.is_empty(), "a dead letter is not handed out");
    let letters = queue.dead_letters(None, 9).await.expect("the queue answers");
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.number, letter.id.as_str(), letter.attempts), (number, "a", 1));
    assert_eq!((letter.content.as_str(), letter.error.as_str()), ("\"a\"", "it cannot be done"));
    assert_eq!((letter.put_at, letter.parked_at), (BEGIN, BEGIN));
    assert_eq!(queue.dead_letter(number).await.expect("the queue answers").as_ref(), Some(letter));
    let depths = queue.depths().await.expect("the queue answers");
    assert_eq!((depths[0].waiting, depths[0].dead, depths[0].first_ready), (0, 1, None));

    assert!(queue.replay(number).await.expect("the queue answers"));
    assert!(!queue.replay(number).await.expect("the queue answers"), "it is none any more");
    let again = claim(&queue, 1).await;
    assert_eq!((again.jobs[0].attempt, again.jobs[0].claim.number), (1, number));
    assert!(!settle(&queue, &claimed.jobs[0], Verdict::Done).await, "the old claim is not valid again");
    assert!(settle(&queue, &again.jobs[0], park()).await);
    let second = queue.dead_letter(number).await.expect("the queue answers").expect("it is parked again");
    assert_ne!(second.claims, letter.claims, "two parkings can be told apart");
    assert!(queue.discard(number).await.expect("the queue answers"));
    assert!(!queue.discard(number).await.expect("the queue answers"));
    assert_eq!(queue.dead_letters(None, 9).await.expect("the queue answers"), []);
}

async fn pages_of_dead_letters_leave_none_out(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    for number in 0..7 {
        put(&queue, &format!("job {number}")).await;
    }
    let claimed = claim(&queue, 7).await;
    let parked = claimed.jobs.iter().map(|job| Settlement { claim: job.claim, verdict: park() }).collect();
    assert_eq!(queue.settle(parked).await.expect("the queue answers"), [true; 7]);
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = queue.dead_letters(after, 3).await.expect("the queue answers");
        let Some(last) = page.last() else { break };
        after = Some(last.number);
        seen.extend(page.iter().map(|letter| letter.id.to_string()));
    }
    assert_eq!(seen, (0..7).map(|number| format!("job {number}")).collect::<Vec<_>>());
}

async fn what_is_there_no_more_is_not_found(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    let Put::New(waiting) = put(&queue, "a").await else { panic!("it is new") };
    for number in [waiting, JobNumber(0), JobNumber(99), JobNumber(u64::MAX)] {
        assert!(!queue.replay(number).await.expect("the queue answers"));
        assert!(!queue.discard(number).await.expect("the queue answers"));
        assert_eq!(queue.dead_letter(number).await.expect("the queue answers"), None);
    }
    assert_eq!(queue.dead_letters(Some(JobNumber(u64::MAX)), 9).await.expect("the queue answers"), []);
    assert_eq!(ids(&claim(&queue, 9).await), ["a"]);
}

async fn calls_that_are_too_large_are_refused_whole(
    QueueUnderTest { queue, .. }: QueueUnderTest,
    _: Options,
) {
    let jobs = |count: usize| (0..count).map(|number| job(&format!("job {number}"))).collect::<Vec<_>>();
    let refused = queue.put(jobs(MAX_BATCH + 1)).await;
    assert!(matches!(refused, Err(QueueError::TooMany(items)) if items == MAX_BATCH + 1), "{refused:?}");
    assert!(matches!(queue.claim(&topic(), MAX_BATCH + 1, LEASE).await, Err(QueueError::TooMany(_))));
    assert!(claim(&queue, MAX_BATCH).await.jobs.is_empty(), "nothing was put");
    assert_eq!(queue.put(jobs(MAX_BATCH)).await.expect("the queue answers").len(), MAX_BATCH);
    let claimed = claim(&queue, MAX_BATCH).await;
    let done = |job: &Job| Settlement { claim: job.claim, verdict: Verdict::Done };
    let mut settlements: Vec<_> = claimed.jobs.iter().map(done).collect();
    settlements.push(done(&claimed.jobs[0]));
    assert!(matches!(queue.settle(settlements.clone()).await, Err(QueueError::TooMany(_))));
    settlements.pop();
    assert_eq!(queue.settle(settlements).await.expect("the queue answers"), [true; MAX_BATCH]);
}

async fn topics_do_not_meet(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    let other: Topic = "letter".parse().expect("it is a topic");
    put(&queue, "a").await;
    let same_id = NewJob::now(&other, "a", &()).expect("it is a job");
    assert!(matches!(queue.put(vec![same_id]).await.expect("the queue answers")[..], [Put::New(_)]));
    let claimed = queue.claim(&other, 9, LEASE).await.expect("the queue answers");
    assert_eq!(claimed.jobs.len(), 1);
    let depths = queue.depths().await.expect("the queue answers");
    let shown: Vec<_> =
        depths.iter().map(|depth| (depth.topic.as_str(), depth.waiting, depth.dead)).collect();
    assert_eq!(shown, [("letter", 1, 0), ("letters", 1, 0)]);
    assert!(
        queue.claim(&"none".parse().expect("a topic"), 9, LEASE).await.expect("it answers").jobs.is_empty()
    );
    assert_eq!(queue.depths().await.expect("the queue answers").len(), 2, "asking makes no topic");
}

async fn a_job_is_handed_to_one_of_many(QueueUnderTest { queue, .. }: QueueUnderTest, options: Options) {
    for _ in 0..options.rounds {
        let jobs = (0..200).map(|number| job(&format!("job {number}"))).collect();
        queue.put(jobs).await.expect("the queue answers");
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
                    assert!(ended.expect("the queue answers").into_iter().all(|valid| valid));
                    mine.extend(claimed.jobs.into_iter().map(|job| job.id));
                }
            });
        }
        let handed: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
        assert_eq!(handed.len(), 200);
        assert_eq!(handed.into_iter().collect::<BTreeSet<_>>().len(), 200);
    }
}

async fn one_of_many_puts_is_the_first(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
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

async fn a_put_that_was_given_up_is_repeated(QueueUnderTest { queue, .. }: QueueUnderTest, _: Options) {
    for polls in 0..4 {
        let id = format!("job {polls}");
        given_up(polls, put(&queue, &id)).await;
        put(&queue, &id).await;
    }
    let claimed = claim(&queue, 99).await;
    assert_eq!(claimed.jobs.len(), 4, "each is there once");
    for (polls, job) in (0..).zip(&claimed.jobs) {
        given_up(polls, settle(&queue, job, Verdict::Done)).await;
        settle(&queue, job, Verdict::Done).await;
    }
    assert_eq!(queue.depths().await.expect("the queue answers")[0].waiting, 0);
}

async fn what_was_answered_survives_a_crash(QueueUnderTest { queue, probe }: QueueUnderTest, _: Options) {
    for id in ["done", "parked", "held", "waits"] {
        put(&queue, id).await;
    }
    let claimed = claim(&queue, 3).await;
    settle(&queue, &claimed.jobs[0], Verdict::Done).await;
    settle(&queue, &claimed.jobs[1], park()).await;
    let Some(QueueUnderTest { queue, probe }) = probe.restart().await else { return };
    assert_eq!(queue.dead_letters(None, 9).await.expect("the queue answers")[0].id.as_str(), "parked");
    assert_eq!(ids(&claim(&queue, 9).await), ["waits"]);
    assert!(
        settle(&queue, &claimed.jobs[2], Verdict::Postpone { wait: Duration::ZERO }).await,
        "a claim lives on"
    );
    assert!(matches!(put(&queue, "new").await, Put::New(number) if number > claimed.jobs[2].claim.number));
    let later: Timestamp = BEGIN.after(LEASE);
    probe.set_time(later).await;
    assert_eq!(ids(&claim(&queue, 9).await), ["held", "new", "waits"]);
}

/// Polls a future so many times and drops it.
async fn given_up<T>(polls: u32, future: impl Future<Output = T>) {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        future.as_mut().poll(context).map(drop)
    })
    .await;
}
