//! When each lane needs work: as soon as it changes, at its deadlines and at the edges of its window,
//! and otherwise not at all.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::{OrderKey, Timestamp},
    ledger::Lane,
};

/// A kind of work for a lane. Kinds do not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Work {
    /// Renewing the view.
    View,
    /// Expiring orders, and handing out payments to be closed.
    Deadlines,
    /// Queueing due refunds.
    Refunds,
    /// Delivering units in transit.
    Transfers,
}

/// Work that is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Task {
    pub(super) work: Work,
    pub(super) lane: Lane,
}

/// When a task has to be done next, besides after the lane's next change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Next {
    /// After this long.
    pub(super) after: Option<Duration>,
    /// At this time by the clock of the sales.
    pub(super) at: Option<Timestamp>,
    /// Where to continue with a lane that is read in parts.
    pub(super) cursor: Option<OrderKey>,
}

/// The tasks of all lanes.
#[derive(Debug)]
pub(super) struct LaneSchedule {
    plans: HashMap<Task, Plan>,
    /// Tasks by the time of this process: per kind, so that one cannot hold up another.
    soon: [BTreeSet<(Instant, Task)>; Work::ALL.len()],
    /// Tasks by the clock of the sales, which may jump.
    later: BTreeSet<(Timestamp, Task)>,
    running: [usize; Work::ALL.len()],
    /// Every lane, for the slow round.
    lanes: Vec<Lane>,
    /// The lane with which the slow round continues.
    next_lane: usize,
    /// How much of the round is due, in lanes times time.
    round: Duration,
    looked_at: Instant,
}

#[derive(Debug)]
struct Plan {
    soon: Option<Instant>,
    later: Option<Timestamp>,
    /// Whether the lane changed since the task last began from the start.
    changed: bool,
    is_running: bool,
    /// Whether the lane was forgotten while the task runs.
    is_forgotten: bool,
    /// Not before, however often the lane changes.
    earliest: Instant,
    cursor: Option<OrderKey>,
}

/// How often the view of a lane that keeps changing is renewed.
pub(super) const VIEW_EVERY: Duration = Duration::from_millis(50);
/// How often other work is done in a lane that keeps changing, and the wait after a failure.
pub(super) const CHORES_EVERY: Duration = Duration::from_millis(500);
/// In this time every lane counts as changed once: other processes change lanes too.
pub(super) const ROUND: Duration = Duration::from_secs(600);
/// The most tasks of a kind at once.
const AT_ONCE: usize = 64;

impl Work {
    const ALL: [Self; 4] = [Self::View, Self::Deadlines, Self::Refunds, Self::Transfers];

    const fn every(self) -> Duration {
        match self {
            Self::View => VIEW_EVERY,
            Self::Deadlines | Self::Refunds | Self::Transfers => CHORES_EVERY,
        }
    }
}

impl LaneSchedule {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            plans: HashMap::new(),
            soon: Default::default(),
            later: BTreeSet::new(),
            running: [0; Work::ALL.len()],
            lanes: Vec::new(),
            next_lane: 0,
            round: Duration::ZERO,
            looked_at: now,
        }
    }

    /// Plans all work of a lane, because it changed, or is new.
    pub(super) fn changed(&mut self, lane: Lane, now: Instant) {
        let known = self.plans.get(&Task { work: Work::View, lane });
        if known.is_none_or(|plan| plan.is_forgotten) {
            self.lanes.push(lane);
        }
        for work in Work::ALL {
            let task = Task { work, lane };
            let plan = self.plans.entry(task).or_insert_with(|| Plan::new(now));
            plan.changed = true;
            if std::mem::take(&mut plan.is_forgotten) {
                self.running[work as usize] += 1;
            }
            if !plan.is_running {
                let earliest = plan.earliest.max(now);
                let at = plan.soon.map_or(earliest, |soon| soon.min(earliest));
                self.plan_soon(task, Some(at));
            }
        }
    }

    /// Forgets a lane that is not sold any more.
    pub(super) fn forget(&mut self, lane: Lane) {
        for work in Work::ALL {
            let task = Task { work, lane };
            self.plan_soon(task, None);
            self.plan_later(task, None);
            match self.plans.get_mut(&task) {
                // Its plan must not be taken for that of a later one.
                Some(plan) if plan.is_running => {
                    if !plan.is_forgotten {
                        self.running[work as usize] -= 1;
                    }
                    plan.is_forgotten = true;
                }
                _ => {
                    self.plans.remove(&task);
                }
            }
        }
        self.lanes.retain(|known| *known != lane);
    }

    /// Starts what is due, with the place where it continues.
    pub(super) fn begin(&mut self, now: Instant, time: Timestamp) -> Vec<(Task, Option<OrderKey>)> {
        while let Some((at, task)) = self.later.first().copied().filter(|(at, _)| *at <= time) {
            self.later.remove(&(at, task));
            if let Some(plan) = self.plans.get_mut(&task) {
                plan.later = None;
                plan.changed |= plan.is_running;
                if !plan.is_running {
                    self.plan_soon(task, Some(now));
                }
            }
        }
        let mut begun = Vec::new();
        for work in Work::ALL {
            while self.running[work as usize] < AT_ONCE
                && let Some((_, task)) =
                    self.soon[work as usize].first().copied().filter(|(at, _)| *at <= now)
            {
                self.plan_soon(task, None);
                let Some(plan) = self.plans.get_mut(&task) else { continue };
                // A change while a lane is read in parts may lie before the place.
                plan.changed &= plan.cursor.is_some();
                plan.is_running = true;
                plan.earliest = now + work.every();
                self.running[work as usize] += 1;
                begun.push((task, plan.cursor));
            }
        }
        begun
    }

    /// Plans a task that has ended.
    pub(super) fn ended(&mut self, task: Task, next: Next, now: Instant) {
        let Some(plan) = self.plans.get_mut(&task).filter(|plan| plan.is_running) else { return };
        if plan.is_forgotten {
            self.plans.remove(&task);
            return;
        }
        self.running[task.work as usize] -= 1;
        plan.is_running = false;
        plan.cursor = next.cursor;
        let again = (plan.changed && plan.cursor.is_none()).then_some(plan.earliest.max(now));
        let after = next.after.map(|after| now + after);
        self.plan_soon(task, [again, after].into_iter().flatten().min());
        self.plan_later(task, next.at);
    }

    /// When there is work next by the time of this process.
    pub(super) fn next(&self) -> Option<Instant> {
        let free = Work::ALL.into_iter().filter(|work| self.running[*work as usize] < AT_ONCE);
        free.filter_map(|work| self.soon[work as usize].first()).map(|(at, _)| *at).min()
    }

    /// The lanes whose turn it is in the slow round.
    pub(super) fn round(&mut self, now: Instant) -> Vec<Lane> {
        let lanes = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
        self.round += now.saturating_duration_since(self.looked_at).min(ROUND) * lanes;
        self.looked_at = now;
        let mut turns = Vec::new();
        while self.round >= ROUND {
            self.round -= ROUND;
            if self.next_lane >= self.lanes.len() {
                self.next_lane = 0;
            }
            turns.extend(self.lanes.get(self.next_lane));
            self.next_lane += 1;
        }
        turns
    }

    fn plan_soon(&mut self, task: Task, at: Option<Instant>) {
        let Some(plan) = self.plans.get_mut(&task) else { return };
        let soon = &mut self.soon[task.work as usize];
        if let Some(before) = std::mem::replace(&mut plan.soon, at) {
            soon.remove(&(before, task));
        }
        soon.extend(at.map(|at| (at, task)));
    }

    fn plan_later(&mut self, task: Task, at: Option<Timestamp>) {
        let Some(plan) = self.plans.get_mut(&task) else { return };
        if let Some(before) = std::mem::replace(&mut plan.later, at) {
            self.later.remove(&(before, task));
        }
        self.later.extend(at.map(|at| (at, task)));
    }
}

impl Plan {
    fn new(now: Instant) -> Self {
        Self {
            soon: None,
            later: None,
            changed: false,
            is_running: false,
            is_forgotten: false,
            earliest: now,
            cursor: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ActivityId;
    use crate::domain::{OrderId, UserId};

    const NOON: Timestamp = Timestamp::from_millis(43_200_000);

    fn lane(activity: u64) -> Lane {
        Lane { activity: ActivityId::new(activity).unwrap(), bucket: 0 }
    }

    fn works(begun: &[(Task, Option<OrderKey>)]) -> Vec<Work> {
        begun.iter().map(|(task, _)| task.work).collect()
    }

    fn end(schedule: &mut LaneSchedule, begun: &[(Task, Option<OrderKey>)], now: Instant) {
        begun.iter().for_each(|(task, _)| schedule.ended(*task, Next::default(), now));
    }

    #[test]
    fn a_lane_without_changes_and_dates_has_no_work() {
        let start = Instant::now();
        let mut schedule = LaneSchedule::new(start);
        schedule.changed(lane(1), start);
        let begun = schedule.begin(start, NOON);
        assert_eq!(works(&begun), Work::ALL);
        assert_eq!(schedule.begin(start, NOON), [], "each runs once at a time");
        end(&mut schedule, &begun, start);
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.begin(start + ROUND, Timestamp::MAX), []);
    }

    #[test]
    fn a_change_during_the_work_is_not_lost_and_a_busy_lane_is_paced() {
        let start = Instant::now();
        let mut schedule = LaneSchedule::new(start);
        schedule.changed(lane(1), start);
        let begun = schedule.begin(start, NOON);
        schedule.changed(lane(1), start);
        end(&mut schedule, &begun, start);
        assert_eq!(schedule.begin(start, NOON), []);
        assert_eq!(schedule.next(), Some(start + VIEW_EVERY));
        let begun = schedule.begin(start + VIEW_EVERY, NOON);
        assert_eq!(works(&begun), [Work::View]);
        end(&mut schedule, &begun, start + VIEW_EVERY);
        let begun = schedule.begin(start + CHORES_EVERY, NOON);
        assert_eq!(works(&begun), [Work::Deadlines, Work::Refunds, Work::Transfers]);
        end(&mut schedule, &begun, start + CHORES_EVERY);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn a_deadline_is_met_by_the_clock_of_the_sales_whatever_else_is_planned() {
        let start = Instant::now();
        let mut schedule = LaneSchedule::new(start);
        schedule.changed(lane(1), start);
        let begun = schedule.begin(start, NOON);
        let deadline = NOON.after(Duration::from_secs(60));
        for (task, _) in begun {
            let at = (task.work == Work::Deadlines).then_some(deadline);
            schedule.ended(task, Next { at, ..Next::default() }, start);
        }
        assert_eq!(schedule.begin(start, deadline.before(Duration::from_millis(1))), []);
        let begun = schedule.begin(start, deadline);
        assert_eq!(works(&begun), [Work::Deadlines]);
        // It was handled in part, and the rest is due at once.
        schedule.ended(begun[0].0, Next { after: Some(Duration::ZERO), ..Next::default() }, start);
        assert_eq!(works(&schedule.begin(start, deadline)), [Work::Deadlines]);
    }

    #[test]
    fn a_lane_that_changes_while_it_is_read_in_parts_is_read_again() {
        let start = Instant::now();
        let mut schedule = LaneSchedule::new(start);
        schedule.changed(lane(1), start);
        let task = Task { work: Work::Refunds, lane: lane(1) };
        let (user, id) = (UserId::new(1).unwrap(), OrderId::new(7).unwrap());
        let cursor = Some(OrderKey { activity: lane(1).activity, user, id });
        schedule.begin(start, NOON);
        let part = Next { after: Some(Duration::ZERO), cursor, at: None };
        schedule.ended(task, part, start);
        schedule.changed(lane(1), start);
        let begun = schedule.begin(start + CHORES_EVERY, NOON);
        assert!(begun.contains(&(task, cursor)), "{begun:?}");
        schedule.ended(task, Next::default(), start + CHORES_EVERY);
        let begun = schedule.begin(start + CHORES_EVERY * 2, NOON);
        assert!(begun.contains(&(task, None)), "{begun:?}");
        schedule.ended(task, Next::default(), start + CHORES_EVERY * 2);
        assert!(schedule.begin(start + CHORES_EVERY * 3, NOON).iter().all(|(begun, _)| *begun != task));
    }

    #[test]
    fn work_that_hangs_in_many_lanes_holds_up_no_other_kind() {
        let start = Instant::now();
        let mut schedule = LaneSchedule::new(start);
        let lanes = AT_ONCE as u64 + 1;
        (1..=lanes).for_each(|activity| schedule.changed(lane(activity), start));
        let begun = schedule.begin(start, NOON);
        let of = |work| begun.iter().filter(move |(task, _)| task.work == work);
        assert_eq!(of(Work::View).count(), AT_ONCE);
        of(Work::View).for_each(|(task, _)| schedule.ended(*task, Next::default(), start));
        let rest = schedule.begin(start, NOON);
        assert_eq!(works(&rest), [Work::View]);
        schedule.forget(lane(1));
        assert_eq!(works(&schedule.begin(start, NOON)), [Work::Deadlines, Work::Refunds, Work::Transfers]);
    }

    #[test]
    fn a_lane_that_is_forgotten_and_comes_back_keeps_one_task_of_each_kind() {
        let start = Instant::now();
        let mut schedule = LaneSchedule::new(start);
        schedule.changed(lane(1), start);
        let first = schedule.begin(start, NOON);
        schedule.forget(lane(1));
        schedule.changed(lane(1), start);
        assert_eq!(schedule.begin(start + CHORES_EVERY, NOON), [], "the first ones still run");
        end(&mut schedule, &first, start + CHORES_EVERY);
        let second = schedule.begin(start + CHORES_EVERY, NOON);
        assert_eq!(works(&second), Work::ALL, "it changed meanwhile");
        schedule.forget(lane(1));
        end(&mut schedule, &second, start + CHORES_EVERY * 2);
        assert_eq!((schedule.next(), schedule.plans.len()), (None, 0));
    }

    #[test]
    fn every_lane_has_its_turn_in_a_round() {
        let start = Instant::now();
        let mut schedule = LaneSchedule::new(start);
        (1..=3).for_each(|activity| schedule.changed(lane(activity), start));
        assert_eq!(schedule.round(start + ROUND / 4), []);
        assert_eq!(schedule.round(start + ROUND / 3), [lane(1)]);
        assert_eq!(schedule.round(start + ROUND), [lane(2), lane(3)]);
        assert_eq!(schedule.round(start + ROUND * 2), [lane(1), lane(2), lane(3)]);
        schedule.forget(lane(2));
        assert_eq!(schedule.round(start + ROUND * 3), [lane(1), lane(3)]);
    }
}
