//! The byte format of journals and snapshots. Every later version must read files written by an
//! earlier one, so the format may be extended but never changed.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{fmt::Write as _, fs, num::NonZeroU16, path::Path, sync::Arc, time::Duration};

use flashsale_core::{
    domain::{
        ActivityId, Attribution, Capture, Idempotency, Key, LateCapture, LimitRule, Money, Nonce, OfferTerms,
        Order, OrderKey, Per, Provider, Quantity, RefundOrder, ReversalKind, ReversalReport, Selling,
        Strategy, Subject, SubjectId, Subjects, Timestamp, UserId, Window,
    },
    ledger::{
        Adjustment, AdjustmentId, Advance, BatchId, Change, ChangeId, Command, Consumer, Lane, LedgerRole,
        PersistMode, RefundOutcome, Reserve, ReserveMode, StepId, Terms, TimeStep, Timing,
        rows::{Changes, Excerpt, RowKey},
        state_machine::{ArchivedActivity, Batch, Image, OrderV1, StateMachine, StoredActivity},
        wire::{self, Wire},
    },
};

const START: u64 = 4_102_444_800_000;
const GATE_LANES: NonZeroU16 = NonZeroU16::new(2).unwrap();

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(START + seconds * 1_000)
}

fn by() -> Attribution {
    Attribution { actor: "Wang Fang".parse().unwrap(), reason: "counted again".parse().unwrap() }
}

fn activity() -> ActivityId {
    ActivityId::new(7).unwrap()
}

fn provider() -> Provider {
    "sandbox".parse().unwrap()
}

fn terms(buckets: NonZeroU16) -> Arc<Terms> {
    let offer = |sku: u64, strategy, hold| {
        let price = Money::new(129_900, "CNY".parse().unwrap()).unwrap();
        OfferTerms::new(sku.try_into().unwrap(), price, 20, strategy, hold).unwrap()
    };
    let rule = LimitRule::new(Subject::User, Per::Activity, 9).unwrap();
    let hold = Some(Duration::from_secs(100));
    let offers = vec![
        offer(1, Strategy::OrderTime, None),
        offer(2, Strategy::PreDeduct, hold).with_limits(vec![rule]).unwrap(),
        offer(3, Strategy::PayTime, hold).with_late_capture(LateCapture::Retake),
    ];
    let window = Window::new(at(0), at(3_600)).unwrap();
    Arc::new(Terms::new(activity(), window, buckets, Timing::default(), offers).unwrap())
}

/// Returns the `n`-th buyer, from 0, in the first of two lanes.
fn buyer(n: u64) -> UserId {
    let buyers = (1..).map(|id| UserId::new(id).unwrap());
    buyers
        .filter(|user| Lane::of(activity(), *user, GATE_LANES).bucket == 0)
        .nth(usize::try_from(n).unwrap())
        .unwrap()
}

fn request(order: u64, user: UserId, sku: u64) -> Reserve {
    Reserve {
        order: order.try_into().unwrap(),
        user,
        sku: sku.try_into().unwrap(),
        quantity: Quantity::try_from(2).unwrap(),
        idempotency: Idempotency { key: Key(order.into()), nonce: Nonce(order) },
        subjects: Subjects { device: Some(SubjectId(9)), address: None },
        mode: ReserveMode::NewOrder,
    }
}

fn key(order: u64, user: UserId) -> OrderKey {
    OrderKey { activity: activity(), user, id: order.try_into().unwrap() }
}

fn capture(payment: u64, amount: u64, event: &str) -> Capture {
    Capture {
        provider: provider(),
        event: event.parse().unwrap(),
        transaction: format!("txn-{event}").parse().unwrap(),
        payment: payment.try_into().unwrap(),
        amount,
        currency: "CNY".parse().unwrap(),
    }
}

fn batch(seconds: u64, id: u64) -> Batch {
    Batch { id: BatchId(id), now: at(seconds) }
}

/// Makes a single ledger whose journal has every kind of change of orders, offers and consumers.
fn single() -> StateMachine {
    let lane = Lane::first(activity());
    let mut machine = StateMachine::new(LedgerRole::Single);
    machine.journal();
    let mut id = 0;
    let mut next = |seconds| {
        id += 1;
        batch(seconds, id)
    };
    let audit = Consumer::new("audit");
    machine.register(&audit);
    machine.register(&Consumer::new("nobody"));
    machine.retire(&Consumer::new("nobody"));
    machine.open(next(0), &terms(GATE_LANES)).unwrap();
    let requests: Vec<_> = (0..8).map(|n| request(100 + n, buyer(n), 1 + n % 3)).collect();
    machine.reserve(next(1), lane, None, &requests).unwrap();
    machine.keep_unmatched(lane, &capture(9_001, 1, "kept-for-ever")).unwrap();
    machine.keep_unmatched(lane, &capture(501, 259_800, "early")).unwrap();
    let order = |n: u64| key(100 + n, buyer(n));
    let opened = |n: u64| Advance::OpenPayment {
        order: order(n),
        payment: (500 + n).try_into().unwrap(),
        provider: provider(),
        in_parts: false,
    };
    let steps: Vec<_> = (0..=5).map(opened).collect();
    machine.advance(next(2), lane, &steps).unwrap();
    let payment = |n: u64| (500 + n).try_into().unwrap();
    let captured = |n: u64, amount, event: &str| Advance::Capture {
        order: order(n),
        capture: capture(500 + n, amount, event),
        in_parts: true,
        replacement: (900 + n).try_into().unwrap(),
    };
    let reversal = |kind, id: &str, amount| {
        let Capture { provider, event, transaction, payment, currency, .. } = capture(500, amount, id);
        let report = ReversalReport { provider, kind, event, transaction, payment, amount, currency };
        Advance::Reversal { order: order(0), report }
    };
    let steps = [
        captured(0, 259_800, "paid"),
        captured(0, 259_800, "paid-again"),
        Advance::PaymentFailed { order: order(2), payment: payment(2) },
        Advance::PaymentClosed { order: order(3), payment: payment(3) },
        Advance::Cancel { order: order(2), by: None },
        Advance::Cancel { order: order(3), by: Some(by()) },
        captured(4, 100, "part"),
        Advance::Refund {
            order: order(1),
            refund: RefundOrder { key: Key(1), amount: None, units: None },
            by: by(),
        },
        Advance::Refund {
            order: order(1),
            refund: RefundOrder { key: Key(2), amount: Some(40), units: Some(1) },
            by: by(),
        },
        reversal(ReversalKind::Refunded, "back", 60),
        reversal(ReversalKind::Disputed, "disputed", 259_800),
        reversal(ReversalKind::DisputeLost, "disputed", 259_800),
        Advance::RefundSettled {
            order: order(0),
            payment: payment(0),
            provider: provider(),
            transaction: "txn-paid-again".to_owned(),
            number: 0,
            outcome: RefundOutcome::Done,
        },
    ];
    machine.advance(next(3), lane, &steps).unwrap();
    let delta = |id: &str, delta| Adjustment {
        activity: activity(),
        sku: 1.try_into().unwrap(),
        id: AdjustmentId::new(id).unwrap(),
        delta,
        by: by(),
    };
    machine.adjust(next(4), &delta("found", 5)).unwrap();
    machine.adjust(next(4), &delta("broken", -1)).unwrap();
    let limits = vec![LimitRule::new(Subject::User, Per::Offer, 3).unwrap()];
    let changes = [
        Change::Selling(Selling::Paused),
        Change::Window(Window::new(at(0), at(7_200)).unwrap()),
        Change::Limits { sku: 2.try_into().unwrap(), limits },
        Change::Selling(Selling::On),
    ];
    for (id, change) in (1..).zip(&changes) {
        machine.amend(next(5), activity(), ChangeId(id), change, &by()).unwrap();
    }
    let transfer = machine.send(next(6), lane, 1, 1.try_into().unwrap(), 2).unwrap().unwrap();
    machine.receive(next(6), transfer).unwrap();
    machine.forget(next(6), transfer).unwrap();
    machine.send(next(6), lane, 1, 1.try_into().unwrap(), 1).unwrap().unwrap();
    machine.expire_due(next(2_000), lane, 100).unwrap();
    machine.expire_due(next(9_000), lane, 100).unwrap();
    machine.advance(next(9_001), lane, &[captured(5, 259_800, "late")]).unwrap();
    let entries = machine.events(&audit, lane, Default::default(), 3).unwrap();
    machine.ack(&audit, lane, entries.last().unwrap().position).unwrap();
    machine
}

/// Makes a gate and a truth with two epochs of two orders each, of which one is cancelled.
fn tiers() -> [StateMachine; 2] {
    let (lane, terms) = (Lane::first(activity()), terms(NonZeroU16::MIN));
    let pump = Consumer::new("pump");
    let [mut gate, mut truth] = [LedgerRole::Gate, LedgerRole::Truth].map(|role| {
        let mut machine = StateMachine::new(role);
        machine.journal();
        machine.register(&pump);
        machine
    });
    truth.open(batch(0, 1), &terms).unwrap();
    for round in [2, 3] {
        let expected = truth.epoch(activity()).unwrap();
        let next = truth.next_epoch(batch(round, round), activity(), expected).unwrap();
        gate.close(activity(), expected);
        gate.load(activity(), next.epoch, truth.content(activity(), None, 100).unwrap()).unwrap();
        gate.reopen(Batch { id: next.batch, now: at(round) }, activity(), next.epoch).unwrap();
        let first = 200 + 10 * round;
        let requests = [request(first, buyer(0), 2), request(first + 1, buyer(1), 3)];
        gate.reserve(batch(5 + round, 10 + round), lane, Some(next.epoch), &requests).unwrap();
        let entries = gate.events(&pump, lane, Default::default(), 100).unwrap();
        let position = truth.position(lane).unwrap();
        let mode = PersistMode::After(position);
        let unseen: Vec<_> =
            entries.into_iter().filter(|entry| entry.position.sequence > position.sequence).collect();
        truth.persist(batch(6 + round, 20 + round), lane, mode, &unseen).unwrap();
        let order = key(first, buyer(0));
        truth.advance(batch(7 + round, 30 + round), lane, &[Advance::Cancel { order, by: None }]).unwrap();
        let told = truth.events(&pump, lane, Default::default(), 100).unwrap();
        gate.follow(lane, &told).unwrap();
    }
    [gate, truth]
}

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(48).fold(String::new(), |mut text, line| {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| u8::try_from(digit).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Compares with a golden file and returns its bytes; `FLASHSALE_WRITE_GOLDEN=1` writes it first.
fn golden(name: &str, actual: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/golden").join(name);
    if std::env::var_os("FLASHSALE_WRITE_GOLDEN").is_some() {
        fs::write(&path, hex(actual)).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert!(hex(actual) == expected, "{name}: the bytes differ from those of earlier versions");
    bytes(&expected)
}

#[test]
fn journals_and_snapshots_keep_their_format() {
    let [gate, truth] = tiers();
    for (name, mut machine) in [("single", single()), ("gate", gate), ("truth", truth)] {
        let image = postcard::to_stdvec(&machine.image()).unwrap();
        let journal = golden(&format!("{name}.journal.hex"), &machine.take_journal(Vec::new()));
        let image = golden(&format!("{name}.image.hex"), &image);

        let mut replayed = StateMachine::new(machine.role());
        replayed.replay(&journal).unwrap();
        assert_eq!(format!("{:?}", replayed.image()), format!("{:?}", machine.image()), "{name}");
        let restored = StateMachine::of_image(postcard::from_bytes::<Image>(&image).unwrap()).unwrap();
        assert_eq!(format!("{:?}", restored.image()), format!("{:?}", machine.image()), "{name}");
    }
}

/// A step of time adds a field to the image, which earlier versions did not write.
#[test]
fn steps_of_time_keep_their_format() {
    let mut machine = StateMachine::new(LedgerRole::Single);
    machine.journal();
    machine.open(batch(0, 1), &terms(GATE_LANES)).unwrap();
    let lane = Lane::first(activity());
    machine.reserve(batch(1, 2), lane, None, &[request(100, buyer(0), 2)]).unwrap();
    let step = TimeStep::new(StepId(7), -600_000, by()).unwrap();
    assert_eq!(machine.step_time(batch(1, 3), &step).unwrap(), 2);
    let journal = golden("steps.journal.hex", &machine.take_journal(Vec::new()));
    let image = golden("steps.image.hex", &postcard::to_stdvec(&machine.image()).unwrap());

    let mut replayed = StateMachine::new(LedgerRole::Single);
    replayed.replay(&journal).unwrap();
    let restored = StateMachine::of_image(postcard::from_bytes::<Image>(&image).unwrap()).unwrap();
    for mut again in [replayed, restored] {
        assert_eq!(format!("{:?}", again.image()), format!("{:?}", machine.image()));
        assert_eq!(again.step_time(batch(2, 4), &step).unwrap(), 0, "taken before");
    }
}

/// `truth-2` is from when persisting was fenced.
#[test]
fn journals_and_snapshots_with_fences_are_read() {
    let stored = |kind: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/golden");
        bytes(&fs::read_to_string(path.join(format!("truth-2.{kind}.hex"))).unwrap())
    };
    let [_, truth] = tiers();
    let mut replayed = StateMachine::new(LedgerRole::Truth);
    replayed.replay(&stored("journal")).unwrap();
    let restored = StateMachine::of_image(postcard::from_bytes::<Image>(&stored("image")).unwrap()).unwrap();
    for read in [replayed, restored] {
        assert_eq!(format!("{:?}", read.image()), format!("{:?}", truth.image()));
    }
}

/// What is kept of an archived activity, one of its orders, and the records of leaving and returning.
#[test]
fn archived_activities_keep_their_format() {
    let mut machine = StateMachine::new(LedgerRole::Single);
    machine.journal();
    machine.open(batch(0, 1), &terms(GATE_LANES)).unwrap();
    let lane = Lane::first(activity());
    machine
        .reserve(batch(1, 2), lane, None, &[request(100, buyer(0), 2), request(101, buyer(1), 1)])
        .unwrap();
    let cancel = |n: u64| Advance::Cancel { order: key(100 + n, buyer(n)), by: None };
    machine.advance(batch(2, 3), lane, &[cancel(0)]).unwrap();
    assert!(machine.leave(batch(3_600, 4), activity()).is_none(), "an order is open");
    machine.advance(batch(2, 3), lane, &[cancel(1)]).unwrap();
    let before = format!("{:?}", machine.inspect(activity()));
    assert!(machine.leave(batch(2, 4), activity()).is_none(), "it is not over");
    let leaving = machine.leave(batch(3_600, 5), activity()).unwrap();
    let content = golden("wire-archived-1.hex", &wire::encode(&leaving.content()));
    let orders =
        golden("archived.orders.hex", &postcard::to_stdvec(&leaving.orders().collect::<Vec<_>>()).unwrap());
    machine.left(activity()).unwrap();
    assert_eq!((machine.inspect(activity()), machine.activities()), (None, Vec::new()));

    let read = |_| {
        let content: ArchivedActivity = wire::decode(&content).unwrap();
        content.returning(BatchId(5), postcard::from_bytes::<Vec<Order>>(&orders).unwrap())
    };
    machine.bring_back(read(activity()).unwrap());
    let journal = golden("archived.journal.hex", &machine.take_journal(Vec::new()));
    assert_eq!(format!("{:?}", machine.inspect(activity())), before);
    // A replay finds the activity where it was stored.
    let mut replayed = StateMachine::new(LedgerRole::Single);
    replayed.set_archived([(activity(), StoredActivity { left_in: BatchId(5), events: 5 })].into());
    replayed.replay_with(&journal, &mut { read }).unwrap();
    assert_eq!(format!("{:?}", replayed.inspect(activity())), before);
    // Nothing was stored: it never left.
    let mut replayed = StateMachine::new(LedgerRole::Single);
    replayed.replay(&journal).unwrap();
    assert_eq!(format!("{:?}", replayed.inspect(activity())), before);
    // Something newer was stored: all records have had their effect there.
    let newer = (activity(), StoredActivity { left_in: BatchId(6), events: 9 });
    let mut replayed = StateMachine::new(LedgerRole::Single);
    replayed.set_archived([newer].into());
    replayed.replay(&journal).unwrap();
    assert_eq!(replayed.archived().collect::<Vec<_>>(), [newer]);
}

/// The second files are from before images named what is archived, and records their format; the third ones
/// from before captures were kept in lanes.
#[test]
fn the_second_and_the_third_format_are_read() {
    let stored = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/golden").join(name);
        bytes(&fs::read_to_string(path).unwrap())
    };
    let replayed = |role, name: &str| {
        let mut replayed = StateMachine::new(role);
        replayed.replay(&stored(name)).unwrap();
        replayed
    };
    for version in [2, 3] {
        let image: Image = postcard::from_bytes(&stored(&format!("single-{version}.image.hex"))).unwrap();
        let journalled = replayed(LedgerRole::Single, &format!("single-{version}.journal.hex"));
        for read in [StateMachine::of_image(image).unwrap(), journalled] {
            assert_eq!(without_kept(read), without_kept(single()), "{version}");
        }
    }
    let [gate, truth] = tiers();
    for (name, machine) in [("gate", gate), ("truth", truth)] {
        let replayed = replayed(machine.role(), &format!("{name}-2.journal.hex"));
        assert_eq!(format!("{:?}", replayed.image()), format!("{:?}", machine.image()), "{name}");
    }
}

/// Shows the state of [`single`] after the payment opened whose capture it keeps.
fn without_kept(mut machine: StateMachine) -> String {
    let (order, payment) = (key(106, buyer(6)), 9_001.try_into().unwrap());
    let open = Advance::OpenPayment { order, payment, provider: provider(), in_parts: false };
    machine.advance(batch(9_002, 99), Lane::first(activity()), &[open]).unwrap();
    assert_eq!(machine.order(order).unwrap().receipts.len(), 1, "the capture was applied");
    format!("{:?}", machine.image())
}

/// The third files are from before lanes loaded in place: until then a gate kept what it loaded apart.
#[test]
fn gates_of_the_third_format_are_read() {
    let stored = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/golden").join(name);
        bytes(&fs::read_to_string(path).unwrap())
    };
    let [gate, _] = tiers();
    let image: Image = postcard::from_bytes(&stored("gate-3.image.hex")).unwrap();
    let mut replayed = StateMachine::new(LedgerRole::Gate);
    replayed.replay(&stored("gate-3.journal.hex")).unwrap();
    for mut read in [StateMachine::of_image(image).unwrap(), replayed] {
        read.close(activity(), gate.open_epoch(activity()).unwrap());
        assert_eq!(read.open_epoch(activity()), None);
        let stock = |machine: &StateMachine| machine.stock(activity(), 2.try_into().unwrap());
        assert_eq!(stock(&read), stock(&gate));
    }
}

/// A journal of a later format is refused, before a record is taken for another.
#[test]
fn a_later_format_is_refused() {
    let mut machine = single();
    let mut journal = machine.take_journal(Vec::new());
    journal[1] += 1;
    let error = StateMachine::new(LedgerRole::Single).replay(&journal).unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
}

/// Values that stores keep one by one.
#[test]
fn stored_values_keep_their_format() {
    /// The file has each value after its length.
    fn keep<T: Wire + PartialEq + std::fmt::Debug>(name: &str, values: &[T]) {
        let mut stored = Vec::new();
        for value in values {
            let value = wire::encode(value);
            stored.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
            stored.extend(value);
        }
        let stored = golden(&format!("wire-{name}-{}.hex", T::VERSION), &stored);
        let mut rest = &stored[..];
        for value in values {
            let (length, after) = rest.split_first_chunk().unwrap();
            let (bytes, after) = after.split_at(u32::from_le_bytes(*length).try_into().unwrap());
            assert_eq!(wire::decode::<T>(bytes).unwrap(), *value);
            rest = after;
        }
    }
    let (machine, [gate, truth]) = (single(), tiers());
    let orders: Vec<_> = (0..8).map(|n| machine.order(key(100 + n, buyer(n))).unwrap()).collect();
    keep("orders", &orders);
    let lane = Lane::first(activity());
    keep("entries", &machine.events(&Consumer::new("audit"), lane, Default::default(), 1_000).unwrap());
    keep("terms", &[Terms::clone(&gate.terms(activity()).unwrap())]);
    keep("chunk", &[truth.content(activity(), None, 100).unwrap()]);
}

/// What stores of rows keep.
#[test]
fn rows_keep_their_format() {
    let one = NonZeroU16::MIN;
    let rules = [Subject::User, Subject::Device].map(|of| LimitRule::new(of, Per::Offer, 9).unwrap());
    let offer = terms(one).offers()[1].clone().with_limits(rules.to_vec()).unwrap();
    let terms = Terms::new(activity(), terms(one).window(), one, Timing::default(), vec![offer]).unwrap();
    let (terms, lane, order) = (Arc::new(terms), Lane::first(activity()), key(101, buyer(0)));
    let capture = Capture {
        provider: provider(),
        event: "event-1".parse().unwrap(),
        payment: 1.try_into().unwrap(),
        transaction: "transaction-1".parse().unwrap(),
        amount: 259_800,
        currency: "CNY".parse().unwrap(),
    };
    let payment = capture.payment;
    let pay = Advance::OpenPayment { order, payment, provider: provider(), in_parts: false };
    let paid = Advance::Capture { order, capture, in_parts: false, replacement: 102.try_into().unwrap() };
    let sku = 2.try_into().unwrap();
    let adjustment = Adjustment {
        activity: activity(),
        sku,
        id: AdjustmentId("more".parse().unwrap()),
        delta: 5,
        by: by(),
    };
    let change = Change::Selling(Selling::Paused);
    let commands = [
        Command::Reserve {
            lane,
            epoch: None,
            requests: vec![request(101, buyer(0), 2), request(103, buyer(1), 2)],
        },
        Command::Advance { lane, steps: vec![pay, paid] },
        Command::Adjust(adjustment),
        Command::Amend { activity: activity(), id: ChangeId(1), change, by: by() },
    ];
    let batch = Batch { id: BatchId(5), now: at(1) };
    let mut machine = StateMachine::new(LedgerRole::Single);
    let mut needs = machine.needs(lane, &Command::Open(Arc::clone(&terms)));
    machine.open_lane(batch, &terms, 0, vec![Consumer::new("audit")]).unwrap();
    for command in &commands {
        needs.add(machine.needs(lane, command));
        machine.step(batch, command).unwrap();
    }
    let changes = machine.changes(lane, &needs, &Excerpt::default()).unwrap();
    let stored = golden("rows-2.hex", &postcard::to_stdvec(&changes).unwrap());

    let stored: Changes = postcard::from_bytes(&stored).unwrap();
    let mut excerpt = Excerpt { version: 1, ..Excerpt::default() };
    excerpt.rows = stored.rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    for (user, row) in stored.orders {
        excerpt.orders.entry(user).or_default().push(row);
    }
    assert!(excerpt.rows.keys().any(|key| matches!(key, RowKey::Counter(Subject::Device, 9, _))));
    let restored = StateMachine::of_excerpt(LedgerRole::Single, lane, &excerpt).unwrap();
    assert_eq!(restored.inspect(activity()), machine.inspect(activity()));
}

/// `single-1` is from before refunds named their payment, and could be of a part.
#[test]
fn journals_and_snapshots_of_earlier_versions_are_read() {
    let stored = |kind: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/golden");
        bytes(&fs::read_to_string(path.join(format!("single-1.{kind}.hex"))).unwrap())
    };
    let mut replayed = StateMachine::new(LedgerRole::Single);
    replayed.replay(&stored("journal")).unwrap();
    let image: Image<OrderV1> = postcard::from_bytes(&stored("image")).unwrap();
    let restored = StateMachine::of_image(image).unwrap();
    assert_eq!(without_times(&restored), without_times(&replayed));
    let refund = replayed.order(key(101, buyer(1))).unwrap().refund().unwrap();
    assert_eq!(refund.amount, 259_800, "an old refund is of the whole amount");
}

/// Shows a state without the times of receipts, which old snapshots do not have.
fn without_times(machine: &StateMachine) -> String {
    let shown = format!("{:?}", machine.image());
    let mut parts = shown.split(" }, at: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, rest| text + rest.split_once(',').map_or("", |(_, rest)| rest))
}
