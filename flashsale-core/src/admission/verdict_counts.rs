//! Counters per rule and verdict.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// A rule of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The tickets of orders.
    Ticket,
    /// The orders of one user.
    UserOrders,
    /// The orders from one address.
    AddressOrders,
    /// The tickets and challenges requested by one user.
    UserTickets,
    /// Whether an address requests too many tickets and challenges.
    BusyAddress,
    /// The risk of a visitor.
    Risk,
    /// The solutions of challenges.
    Challenge,
}

impl Rule {
    /// All rules, in the order of the chain.
    pub const ALL: [Self; 7] = [
        Self::Ticket,
        Self::UserOrders,
        Self::AddressOrders,
        Self::UserTickets,
        Self::BusyAddress,
        Self::Risk,
        Self::Challenge,
    ];

    /// Returns the name in metrics and header fields.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::UserOrders => "user_orders",
            Self::AddressOrders => "address_orders",
            Self::UserTickets => "user_tickets",
            Self::BusyAddress => "busy_address",
            Self::Risk => "risk",
            Self::Challenge => "challenge",
        }
    }
}

/// The verdict of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The request passes.
    Passed,
    /// The request is over quota.
    Limited,
    /// A challenge, or a harder one, is required.
    Challenged,
    /// The request is denied.
    Denied,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Limited, Self::Challenged, Self::Denied];

    /// Returns the name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Limited => "limited",
            Self::Challenged => "challenged",
            Self::Denied => "denied",
        }
    }
}

/// How often a rule gave a verdict, enforced or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The rule.
    pub rule: Rule,
    /// The verdict.
    pub verdict: Verdict,
    /// The number of times since the process started.
    pub count: u64,
}

const STRIPES: usize = 16;
const CELLS: usize = Rule::ALL.len() * Verdict::ALL.len();

/// Striped counters, so that threads on different cores do not share cache lines.
#[derive(Debug, Default)]
pub(super) struct Counts([Stripe; STRIPES]);

#[derive(Debug)]
#[repr(align(128))]
struct Stripe([AtomicU64; CELLS]);

impl Default for Stripe {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; CELLS])
    }
}

impl Counts {
    pub(super) fn add(&self, rule: Rule, verdict: Verdict) {
        self.0[stripe()].0[cell(rule, verdict)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Count> + '_ {
        let pairs = Rule::ALL.into_iter().flat_map(|rule| Verdict::ALL.map(|verdict| (rule, verdict)));
        pairs.map(|(rule, verdict)| {
            let cell = cell(rule, verdict);
            let count = self.0.iter().map(|stripe| stripe.0[cell].load(Ordering::Relaxed)).sum();
            Count { rule, verdict, count }
        })
    }
}

fn cell(rule: Rule, verdict: Verdict) -> usize {
    rule as usize * Verdict::ALL.len() + verdict as usize
}

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
    }
    OWN.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_add_up() {
        let counts = Counts::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..100).for_each(|_| counts.add(Rule::Risk, Verdict::Challenged)));
            }
        });
        counts.add(Rule::Challenge, Verdict::Denied);
        for Count { rule, verdict, count } in counts.all() {
            let expected = match (rule, verdict) {
                (Rule::Risk, Verdict::Challenged) => 2_000,
                (Rule::Challenge, Verdict::Denied) => 1,
                _ => 0,
            };
            assert_eq!(count, expected, "{rule:?} {verdict:?}");
        }
        assert_eq!(counts.all().count(), CELLS);
    }
}
