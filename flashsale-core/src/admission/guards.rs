//! The chain of guards.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    Account, Behaviour, Count, Ladder, Mode, RiskProfile, Rule, Step, Verdict, Visitor,
    verdict_counts::Counts,
};
use crate::{
    domain::{SubjectId, Timestamp, UserId},
    rate_limiter::{Decision, Quota, RateLimiter},
};

/// The quotas, bounds and modes of the chain.
#[derive(Clone, Copy, Debug)]
pub struct GuardOptions {
    /// The orders of one user.
    pub user_orders: Quota,
    /// The mode of this limit.
    pub user_orders_mode: Mode,
    /// The orders from one address. Many people may share one, so allow what one machine may send.
    pub address_orders: Quota,
    /// The mode of this limit.
    pub address_orders_mode: Mode,
    /// The tickets and challenges requested by one user.
    pub user_tickets: Quota,
    /// The mode of this limit.
    pub user_tickets_mode: Mode,
    /// The tickets and challenges requested from one address before it counts as busy.
    pub busy_address: Quota,
    /// Whether a busy address raises the step.
    pub busy_address_mode: Mode,
    /// Whether the risk determines the step.
    pub risk_mode: Mode,
    /// The risk thresholds of the steps.
    pub ladder: Ladder,
    /// The failed challenges of one user, and how fast they are forgotten; counts up to the burst.
    pub failures: Quota,
    /// The number of users tracked at once, 48 to 96 bytes each.
    pub users: NonZeroU32,
    /// The number of addresses tracked at once, 32 to 64 bytes each.
    pub addresses: NonZeroU32,
}

/// The rejection of a request over quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// The rule.
    pub rule: Rule,
    /// Its quota.
    pub quota: Quota,
    /// The time until the next request may pass; never zero.
    pub retry_after: Duration,
}

/// The chain of guards of one process.
#[derive(Debug)]
pub struct Guards {
    risk: Arc<dyn RiskProfile>,
    ladder: Ladder,
    risk_mode: Mode,
    user_orders: Limit,
    address_orders: Limit,
    user_tickets: Limit,
    busy_address: Limit,
    failures: RateLimiter,
    counts: Counts,
}

#[derive(Debug)]
struct Limit {
    rule: Rule,
    mode: Mode,
    limiter: RateLimiter,
}

impl Guards {
    /// Creates a chain; `now` and all later times must come from the same clock.
    pub fn new(options: &GuardOptions, risk: Arc<dyn RiskProfile>, now: Timestamp) -> Self {
        let limit =
            |rule, mode, quota, keys| Limit { rule, mode, limiter: RateLimiter::new(quota, keys, now) };
        let GuardOptions { users, addresses, .. } = *options;
        Self {
            risk,
            ladder: options.ladder,
            risk_mode: options.risk_mode,
            user_orders: limit(Rule::UserOrders, options.user_orders_mode, options.user_orders, users),
            address_orders: limit(
                Rule::AddressOrders,
                options.address_orders_mode,
                options.address_orders,
                addresses,
            ),
            user_tickets: limit(Rule::UserTickets, options.user_tickets_mode, options.user_tickets, users),
            busy_address: limit(
                Rule::BusyAddress,
                options.busy_address_mode,
                options.busy_address,
                addresses,
            ),
            failures: RateLimiter::new(options.failures, users, now),
            counts: Counts::default(),
        }
    }

    /// Checks, without I/O, whether an order may proceed to the ledger.
    ///
    /// # Errors
    /// [`Limited`] if the user or the address is over quota.
    pub fn order(&self, user: UserId, address: SubjectId, now: Timestamp) -> Result<(), Limited> {
        self.limited(&self.user_orders, user.value(), now)?;
        self.limited(&self.address_orders, address.0, now)
    }

    /// Returns what a user must do to get a ticket or a challenge.
    ///
    /// # Errors
    /// [`Limited`] if the user is over quota.
    pub async fn ask(
        &self,
        user: UserId,
        account: Account,
        address: SubjectId,
        device: Option<SubjectId>,
        now: Timestamp,
    ) -> Result<Step, Limited> {
        self.limited(&self.user_tickets, user.value(), now)?;
        let mut step = Step::None;
        if self.risk_mode.evaluates() {
            let tickets = &self.user_tickets.limiter;
            let behaviour = Behaviour {
                asked: tickets.used(user.value(), now),
                may_ask: tickets.quota().burst().get(),
                failed: self.failures.used(user.value(), now),
            };
            let visitor = Visitor { user, address, device, account, behaviour };
            let wanted = self.ladder.step(self.risk.risk(&visitor, now).await);
            self.count(
                Rule::Risk,
                match wanted {
                    Step::None => Verdict::Passed,
                    Step::ProofOfWork | Step::Quiz => Verdict::Challenged,
                    Step::Deny => Verdict::Denied,
                },
            );
            if self.risk_mode.enforces() {
                step = wanted;
            }
        }
        let Limit { mode, limiter, .. } = &self.busy_address;
        if mode.evaluates() {
            let busy = matches!(limiter.check(address.0, now), Decision::Limited { .. });
            self.count(Rule::BusyAddress, if busy { Verdict::Challenged } else { Verdict::Passed });
            if busy && mode.enforces() {
                step = step.raised();
            }
        }
        Ok(step)
    }

    /// Records a wrong solution, which raises the user's risk.
    pub fn failed(&self, user: UserId, now: Timestamp) {
        self.count(Rule::Challenge, Verdict::Denied);
        // Failures beyond the burst do not count.
        let _ = self.failures.check(user.value(), now);
    }

    /// Counts a verdict reached elsewhere.
    pub fn count(&self, rule: Rule, verdict: Verdict) {
        self.counts.add(rule, verdict);
    }

    /// Returns how often each rule gave each verdict.
    pub fn counts(&self) -> impl Iterator<Item = Count> + '_ {
        self.counts.all()
    }

    /// Returns the mode of a rule; tickets and solutions are always checked.
    pub fn mode(&self, rule: Rule) -> Mode {
        match rule {
            Rule::Ticket | Rule::Challenge => Mode::On,
            Rule::UserOrders => self.user_orders.mode,
            Rule::AddressOrders => self.address_orders.mode,
            Rule::UserTickets => self.user_tickets.mode,
            Rule::BusyAddress => self.busy_address.mode,
            Rule::Risk => self.risk_mode,
        }
    }

    fn limited(&self, limit: &Limit, key: u64, now: Timestamp) -> Result<(), Limited> {
        let Limit { rule, mode, ref limiter } = *limit;
        if !mode.evaluates() {
            return Ok(());
        }
        match limiter.check(key, now) {
            Decision::Allowed { .. } => {
                self.count(rule, Verdict::Passed);
                Ok(())
            }
            Decision::Limited { retry_after } => {
                self.count(rule, Verdict::Limited);
                let limited = Limited { rule, quota: limiter.quota(), retry_after };
                if mode.enforces() { Err(limited) } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::admission::Risk;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
    const HERE: SubjectId = SubjectId(7);

    fn quota(burst: u32) -> Quota {
        Quota::new(NonZeroU32::new(burst).unwrap(), Duration::from_secs(10)).unwrap()
    }

    fn options(mode: Mode) -> GuardOptions {
        GuardOptions {
            user_orders: quota(2),
            user_orders_mode: mode,
            address_orders: quota(3),
            address_orders_mode: mode,
            user_tickets: quota(4),
            user_tickets_mode: mode,
            busy_address: quota(6),
            busy_address_mode: mode,
            risk_mode: mode,
            ladder: Ladder::default(),
            failures: quota(3),
            users: NonZeroU32::new(1_000).unwrap(),
            addresses: NonZeroU32::new(1_000).unwrap(),
        }
    }

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    /// Returns a fixed risk, plus 30 per failed challenge.
    #[derive(Debug)]
    struct FixedRisk(u8);

    #[async_trait]
    impl RiskProfile for FixedRisk {
        async fn risk(&self, visitor: &Visitor, _now: Timestamp) -> Risk {
            Risk::new(self.0 + 30 * u8::try_from(visitor.behaviour.failed).unwrap())
        }
    }

    fn guards(mode: Mode, risk: u8) -> Guards {
        Guards::new(&options(mode), Arc::new(FixedRisk(risk)), NOW)
    }

    async fn ask(guards: &Guards, id: u64) -> Result<Step, Limited> {
        guards.ask(user(id), Account::default(), HERE, None, NOW).await
    }

    fn count(guards: &Guards, rule: Rule, verdict: Verdict) -> u64 {
        guards.counts().find(|count| count.rule == rule && count.verdict == verdict).unwrap().count
    }

    #[test]
    fn orders_are_limited_by_user_then_by_address() {
        let guards = guards(Mode::On, 0);
        assert!(guards.order(user(1), HERE, NOW).is_ok() && guards.order(user(1), HERE, NOW).is_ok());
        let limited = guards.order(user(1), HERE, NOW).unwrap_err();
        assert_eq!((limited.rule, limited.retry_after), (Rule::UserOrders, Duration::from_secs(5)));
        assert!(guards.order(user(2), HERE, NOW).is_ok());
        assert_eq!(guards.order(user(3), HERE, NOW).unwrap_err().rule, Rule::AddressOrders);
        assert!(guards.order(user(4), SubjectId(8), NOW).is_ok(), "another address");
        assert_eq!(count(&guards, Rule::UserOrders, Verdict::Passed), 5);
        assert_eq!(count(&guards, Rule::UserOrders, Verdict::Limited), 1);
        assert_eq!(count(&guards, Rule::AddressOrders, Verdict::Limited), 1);
    }

    #[tokio::test]
    async fn a_busy_address_raises_the_step_and_denies_nobody() {
        let guards = guards(Mode::On, 0);
        for id in 1..=6 {
            assert_eq!(ask(&guards, id).await, Ok(Step::None));
        }
        assert_eq!(ask(&guards, 7).await, Ok(Step::ProofOfWork));
        let suspicious = Guards::new(&options(Mode::On), Arc::new(FixedRisk(89)), NOW);
        for id in 1..=20 {
            assert_eq!(ask(&suspicious, id).await, Ok(Step::Quiz));
        }
        assert_eq!(count(&guards, Rule::BusyAddress, Verdict::Challenged), 1);
    }

    #[tokio::test]
    async fn failed_solutions_raise_the_risk_until_they_are_forgotten() {
        let guards = guards(Mode::On, 0);
        assert_eq!(ask(&guards, 1).await, Ok(Step::None));
        guards.failed(user(1), NOW);
        assert_eq!(ask(&guards, 1).await, Ok(Step::ProofOfWork));
        guards.failed(user(1), NOW);
        guards.failed(user(1), NOW);
        assert_eq!(ask(&guards, 1).await, Ok(Step::Deny));
        assert_eq!(ask(&guards, 2).await, Ok(Step::None), "somebody else");
        assert_eq!(count(&guards, Rule::Challenge, Verdict::Denied), 3);
        let later = NOW.after(Duration::from_secs(20));
        let step = guards.ask(user(1), Account::default(), HERE, None, later).await;
        assert_eq!(step, Ok(Step::None));
    }

    #[tokio::test]
    async fn frequent_ticket_requests_are_limited() {
        let guards = guards(Mode::On, 0);
        for _ in 0..4 {
            assert!(ask(&guards, 1).await.is_ok());
        }
        assert_eq!(ask(&guards, 1).await.unwrap_err().rule, Rule::UserTickets);
    }

    #[tokio::test]
    async fn observed_rules_count_and_let_everybody_pass() {
        let guards = guards(Mode::Observe, 95);
        for _ in 0..10 {
            assert!(guards.order(user(1), HERE, NOW).is_ok());
            assert_eq!(ask(&guards, 1).await, Ok(Step::None));
        }
        assert_eq!(count(&guards, Rule::UserOrders, Verdict::Limited), 8);
        assert_eq!(count(&guards, Rule::AddressOrders, Verdict::Limited), 7);
        assert_eq!(count(&guards, Rule::UserTickets, Verdict::Limited), 6);
        assert_eq!(count(&guards, Rule::BusyAddress, Verdict::Challenged), 4);
        assert_eq!(count(&guards, Rule::Risk, Verdict::Denied), 10);
        assert_eq!(guards.mode(Rule::Risk), Mode::Observe);
    }

    #[tokio::test]
    async fn rules_that_are_off_do_nothing() {
        let guards = guards(Mode::Off, 95);
        for _ in 0..10 {
            assert!(guards.order(user(1), HERE, NOW).is_ok());
            assert_eq!(ask(&guards, 1).await, Ok(Step::None));
        }
        assert!(guards.counts().all(|count| count.count == 0));
    }
}
