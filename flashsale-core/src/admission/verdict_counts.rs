//! A counter for each rule and verdict.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// A part of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Tickets that orders present.
    Ticket,
    /// Orders of one user.
    UserOrders,
    /// Orders from one address.
    AddressOrders,
    /// Tickets and challenges that one user asks for.
    UserTickets,
    /// Whether very many tickets and challenges are asked for from one address.
    BusyAddress,
    /// The risk of a visitor.
    Risk,
    /// Solutions of challenges.
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

    /// The word in metrics and header fields.
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

/// What a rule said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing against it.
    Passed,
    /// Too often.
    Limited,
    /// A challenge has to be solved, or a harder one.
    Challenged,
    /// Refused.
    Denied,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Limited, Self::Challenged, Self::Denied];

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Limited => "limited",
            Self::Challenged => "challenged",
            Self::Denied => "denied",
        }
    }
}

/// How often a rule said something, whether or not it was obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The rule.
    pub rule: Rule,
    /// What it said.
    pub verdict: Verdict,
    /// How often, since the process started.
    pub count: u64,
}

const STRIPES: usize = 16;
const CELLS: usize = Rule::ALL.len() * Verdict::ALL.len();

/// Counters in stripes, so that threads on different cores do not write to the same cache lines.
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
    fn threads_count_into_one_sum() {
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
