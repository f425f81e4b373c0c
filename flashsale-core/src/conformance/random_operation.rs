//! Random operations, as values that can be generated, shrunk and shown.

use proptest::{collection::vec, option, prelude::*, prop_oneof, strategy::Union};

use crate::ledger::ReserveMode;

/// A random sale.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) buckets: u16,
    pub(super) offers: Vec<RandomOffer>,
    /// Whether it is archived now and then. Then there are no steps of time, which archived activities
    /// do not take.
    pub(super) archives: bool,
}

/// An offer of a random sale; its SKU is its index, from 1.
#[derive(Clone, Debug)]
pub(super) struct RandomOffer {
    /// 0 order-time, 1 pay-time, 2 pre-deduct.
    pub(super) strategy: u8,
    pub(super) units: u32,
    /// Whether an order-time hold expires.
    pub(super) ends: bool,
    pub(super) retakes: bool,
    /// Whether its price is 0.
    pub(super) free: bool,
    pub(super) rules: Vec<RandomRule>,
}

/// A limit rule. Subject: 0 user, 1 device, 2 address.
#[derive(Clone, Copy, Debug)]
pub(super) struct RandomRule {
    pub(super) subject: u8,
    pub(super) whole_activity: bool,
    pub(super) max: u32,
}

/// One operation. A pick is an index into what exists at that moment, modulo its number.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Reserve {
        buyer: u16,
        asks: Vec<RandomAsk>,
        stale_epoch: bool,
    },
    Advance(Vec<RandomStep>),
    Expire {
        bucket: u16,
        limit: usize,
    },
    Adjust {
        id: u8,
        sku: u64,
        delta: i64,
    },
    Amend {
        id: u64,
        change: RandomChange,
    },
    Send {
        from: u16,
        to: u16,
        sku: u64,
        units: u32,
    },
    Receive {
        pick: u16,
    },
    /// Forgets a transfer that was received.
    Forget {
        pick: u16,
    },
    Register {
        consumer: u8,
    },
    Retire {
        consumer: u8,
    },
    Ack {
        consumer: u8,
        bucket: u16,
        pick: u16,
    },
    Read {
        consumer: u8,
        bucket: u16,
        pick: Option<u16>,
        limit: usize,
    },
    Keep {
        order: u16,
        capture: RandomCapture,
    },
    /// Advances the time by so many seconds.
    Time(u64),
    /// Steps the time of all lanes by so many seconds, unless the id was used before.
    StepTime {
        id: u8,
        seconds: i64,
    },
    /// Lets a ledger move the activity out of memory. No answer may show it.
    Archive,
    /// Crashes every durable ledger and reopens it.
    Restart,
    // Between the tiers.
    Persist {
        bucket: u16,
        limit: usize,
        repeated: bool,
        acknowledged: bool,
    },
    Follow {
        bucket: u16,
        limit: usize,
        repeated: bool,
        gap: bool,
    },
    /// Rebuilds the gate, or takes only the first `steps` of a rebuild.
    Rebuild {
        salvage: bool,
        chunk: usize,
        steps: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RandomAsk {
    pub(super) id: u32,
    pub(super) sku: u64,
    pub(super) units: u32,
    pub(super) key: u8,
    pub(super) nonce: u8,
    pub(super) device: Option<u8>,
    pub(super) address: Option<u8>,
    pub(super) mode: ReserveMode,
}

/// A step of an order's life.
#[derive(Clone, Debug)]
pub(super) struct RandomStep {
    pub(super) order: u16,
    /// Whether another user asks.
    pub(super) stranger: bool,
    pub(super) kind: RandomKind,
}

#[derive(Clone, Debug)]
pub(super) enum RandomKind {
    Open {
        payment: u8,
    },
    Capture {
        capture: RandomCapture,
        replacement: u32,
    },
    Fail {
        payment: u8,
    },
    Close {
        payment: u8,
    },
    Cancel,
    /// A refund of some hundredths of the price and some units; `None` for all.
    Refund {
        key: u8,
        percent: Option<u64>,
        units: Option<u32>,
    },
    Settle {
        capture: RandomCapture,
        number: u32,
        failed: bool,
    },
    /// A report on a capture: 0 refunded, 1 disputed, 2 won, 3 lost.
    Reverse {
        capture: RandomCapture,
        kind: u8,
        own_transaction: bool,
    },
}

/// A capture of one of an order's payments.
#[derive(Clone, Copy, Debug)]
pub(super) struct RandomCapture {
    pub(super) payment: u8,
    pub(super) event: u8,
    pub(super) transaction: u8,
    /// Hundredths of the order's amount.
    pub(super) percent: u64,
    /// Whether the provider captures in parts.
    pub(super) in_parts: bool,
    /// Whether other orders may have the same event and transaction ids.
    pub(super) shared: bool,
}

#[derive(Clone, Debug)]
pub(super) enum RandomChange {
    /// 0 on, 1 paused, 2 ended.
    Selling(u8),
    Window {
        from: u64,
        length: u64,
    },
    Limits {
        sku: u64,
        rules: Vec<RandomRule>,
    },
}

/// Generates sales whose number of buckets is in the range.
pub(super) fn setups(buckets: std::ops::RangeInclusive<u16>) -> BoxedStrategy<Setup> {
    let several = *buckets.end() > 1;
    let free = prop::bool::weighted(0.1);
    let offer = (0..3_u8, 1..9_u32, any::<bool>(), any::<bool>(), free, rules(several)).prop_map(
        |(strategy, units, ends, retakes, free, rules)| RandomOffer {
            strategy,
            units,
            ends,
            retakes,
            free,
            rules,
        },
    );
    (buckets, vec(offer, 3), any::<bool>())
        .prop_map(|(buckets, offers, archives)| Setup { buckets, offers, archives })
        .boxed()
}

fn rules(users_only: bool) -> BoxedStrategy<Vec<RandomRule>> {
    let subject = if users_only { 0..1_u8 } else { 0..3_u8 };
    let rule = (subject, any::<bool>(), 1..6_u32).prop_map(|(subject, whole_activity, max)| RandomRule {
        subject,
        whole_activity,
        max,
    });
    vec(rule, 0..3)
        .prop_map(|mut rules| {
            rules.sort_by_key(|rule| (rule.subject, rule.whole_activity));
            rules.dedup_by_key(|rule| (rule.subject, rule.whole_activity));
            rules
        })
        .boxed()
}

/// Generates operations on a sale. `tiers` adds those between a gate and its truth.
pub(super) fn operations(setup: &Setup, tiers: bool) -> BoxedStrategy<Op> {
    let (buckets, several) = (setup.buckets, setup.buckets > 1);
    let bucket = 0..buckets;
    let sku = || prop_oneof![12 => 1..=3_u64, 1 => Just(4_u64)];
    let rarely = || prop::bool::weighted(0.08);
    let ask = (
        1..60_000_u32,
        sku(),
        prop_oneof![6 => Just(1_u32), 2 => Just(2), 1 => Just(3)],
        0..7_u8,
        0..12_u8,
        option::weighted(0.8, 0..3_u8),
        option::weighted(0.8, 0..3_u8),
        prop_oneof![
            18 => Just(ReserveMode::NewOrder),
            1 => Just(ReserveMode::TicketExpired),
            1 => Just(ReserveMode::SalesStopped),
        ],
    );
    let ask = ask.prop_map(|(id, sku, units, key, nonce, device, address, mode)| RandomAsk {
        id,
        sku,
        units,
        key,
        nonce,
        device,
        address,
        mode,
    });
    let reserve = (any::<u16>(), vec(ask, 1..5), rarely())
        .prop_map(|(buyer, asks, stale_epoch)| Op::Reserve { buyer, asks, stale_epoch });
    let step = (any::<u16>(), rarely(), kinds()).prop_map(|(order, stranger, kind)| RandomStep {
        order,
        stranger,
        kind,
    });
    let limit = || prop_oneof![4 => Just(100_usize), 1 => 0..3_usize];
    let mut choices: Vec<(u32, BoxedStrategy<Op>)> = vec![
        (24, reserve.boxed()),
        (30, vec(step, 1..4).prop_map(Op::Advance).boxed()),
        (6, (bucket.clone(), limit()).prop_map(|(bucket, limit)| Op::Expire { bucket, limit }).boxed()),
        (4, (0..6_u8, sku(), -4..=4_i64).prop_map(|(id, sku, delta)| Op::Adjust { id, sku, delta }).boxed()),
        (3, (1..12_u64, changes(several)).prop_map(|(id, change)| Op::Amend { id, change }).boxed()),
        (2, (0..2_u8).prop_map(|consumer| Op::Register { consumer }).boxed()),
        (1, (0..2_u8).prop_map(|consumer| Op::Retire { consumer }).boxed()),
        (
            3,
            (0..2_u8, bucket.clone(), any::<u16>())
                .prop_map(|(consumer, bucket, pick)| Op::Ack { consumer, bucket, pick })
                .boxed(),
        ),
        (
            3,
            (0..2_u8, bucket.clone(), option::of(any::<u16>()), limit())
                .prop_map(|(consumer, bucket, pick, limit)| Op::Read { consumer, bucket, pick, limit })
                .boxed(),
        ),
        (2, (any::<u16>(), captures()).prop_map(|(order, capture)| Op::Keep { order, capture }).boxed()),
        (8, prop_oneof![4 => 0..20_u64, 2 => 20..120_u64, 1 => 120..900_u64].prop_map(Op::Time).boxed()),
    ];
    if setup.archives {
        choices.push((6, Just(Op::Archive).boxed()));
    } else {
        let step = (0..6_u8, prop_oneof![-900..0_i64, 1..900_i64]);
        choices.push((2, step.prop_map(|(id, seconds)| Op::StepTime { id, seconds }).boxed()));
    }
    if several {
        let transfer = (bucket.clone(), 0..buckets, sku(), 0..4_u32)
            .prop_map(|(from, to, sku, units)| Op::Send { from, to, sku, units });
        choices.push((6, transfer.boxed()));
        choices.push((8, any::<u16>().prop_map(|pick| Op::Receive { pick }).boxed()));
        choices.push((3, any::<u16>().prop_map(|pick| Op::Forget { pick }).boxed()));
    }
    if tiers {
        let persist = (bucket.clone(), 1..12_usize, rarely(), prop::bool::weighted(0.7)).prop_map(
            |(bucket, limit, repeated, acknowledged)| Op::Persist { bucket, limit, repeated, acknowledged },
        );
        let follow = (bucket, 1..12_usize, rarely(), rarely())
            .prop_map(|(bucket, limit, repeated, gap)| Op::Follow { bucket, limit, repeated, gap });
        let rebuild = (any::<bool>(), 1..9_usize, prop_oneof![3 => Just(9_usize), 1 => 1..5_usize])
            .prop_map(|(salvage, chunk, steps)| Op::Rebuild { salvage, chunk, steps });
        choices.push((22, persist.boxed()));
        choices.push((22, follow.boxed()));
        choices.push((3, rebuild.boxed()));
    }
    choices.push((2, Just(Op::Restart).boxed()));
    Union::new_weighted(choices).boxed()
}

fn kinds() -> BoxedStrategy<RandomKind> {
    let payment = || 0..3_u8;
    prop_oneof![
        6 => payment().prop_map(|payment| RandomKind::Open { payment }),
        5 => (captures(), 60_000..120_000_u32)
            .prop_map(|(capture, replacement)| RandomKind::Capture { capture, replacement }),
        2 => payment().prop_map(|payment| RandomKind::Fail { payment }),
        2 => payment().prop_map(|payment| RandomKind::Close { payment }),
        3 => Just(RandomKind::Cancel),
        2 => (0..4_u8, option::of(prop_oneof![Just(0_u64), Just(25), Just(50), Just(110)]), option::of(0..3_u32))
            .prop_map(|(key, percent, units)| RandomKind::Refund { key, percent, units }),
        2 => (captures(), prop_oneof![3 => Just(0_u32), 1 => Just(1)], any::<bool>())
            .prop_map(|(capture, number, failed)| RandomKind::Settle { capture, number, failed }),
        3 => (captures(), 0..4_u8, any::<bool>()).prop_map(|(capture, kind, own_transaction)| {
            RandomKind::Reverse { capture, kind, own_transaction }
        }),
    ]
    .boxed()
}

fn captures() -> BoxedStrategy<RandomCapture> {
    let percent =
        prop_oneof![14 => Just(100_u64), 2 => Just(50), 1 => Just(25), 1 => Just(0), 2 => Just(110)];
    (0..3_u8, 0..3_u8, 0..3_u8, percent, prop::bool::weighted(0.2), any::<bool>())
        .prop_map(|(payment, event, transaction, percent, shared, in_parts)| RandomCapture {
            payment,
            event,
            transaction,
            percent,
            in_parts,
            shared,
        })
        .boxed()
}

fn changes(users_only: bool) -> BoxedStrategy<RandomChange> {
    prop_oneof![
        4 => prop_oneof![6 => Just(0_u8), 3 => Just(1), 1 => Just(2)].prop_map(RandomChange::Selling),
        1 => (0..600_u64, 300..4_000_u64).prop_map(|(from, length)| RandomChange::Window { from, length }),
        4 => (1..=3_u64, rules(users_only)).prop_map(|(sku, rules)| RandomChange::Limits { sku, rules }),
    ]
    .boxed()
}
