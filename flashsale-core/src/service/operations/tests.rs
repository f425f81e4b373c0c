//! Operators' decisions are applied exactly once, whatever happens between catalogue and ledger.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::runtime::Handle;

use super::*;
use crate::{
    catalogue::{AuditRow, ImportSet},
    domain::{
        Activity, ActivityId, ActivityStatus, Idempotency, Key, LimitRule, ManualClock, Nonce, OfferTerms,
        Quantity, Selling, SkuId, Subjects, Timestamp, Window,
    },
    embedded::{EmbeddedCatalogue, EmbeddedLedger},
    ledger::{AdjustmentId, Change, ChangeId, Consumer, Lane, Ledger, LedgerCalls as _, LedgerRole, Outcome},
    queue::InMemoryQueue,
    service::{BatcherOptions, OrderRequest, OrderService, Placement},
    snowflake::{InMemoryLease, Settings},
    tiered::{Tiered, TieredOptions},
};

struct Shop {
    operations: Operations,
    ordering: OrderService,
    catalogue: Arc<EmbeddedCatalogue>,
    sales: Arc<Sales>,
    clock: Arc<ManualClock>,
}

fn by(actor: &str) -> Attribution {
    Attribution { actor: actor.parse().unwrap(), reason: "a test".parse().unwrap() }
}

fn id() -> ActivityId {
    ActivityId::new(1).unwrap()
}

fn sku() -> SkuId {
    SkuId::new(11).unwrap()
}

/// A time in milliseconds after the start of the test, late enough for the id generator.
fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis)
}

fn window(from: u64, to: u64) -> Window {
    Window::new(at(from), at(to)).unwrap()
}

fn offer() -> OfferTerms {
    serde_json::from_value(json!({
        "sku_id": "11", "price": {"amount": 100, "currency": "CNY"}, "units": 10, "strategy": "pre_deduct",
        "hold_seconds": 60, "limits": [{"subject": "user", "per": "offer", "max": 2}],
    }))
    .unwrap()
}

impl Shop {
    /// A shop with a product and an SKU, at 1,000 s.
    async fn open() -> Self {
        let clock = Arc::new(ManualClock::new(at(1_000_000)));
        let catalogue = Arc::new(EmbeddedCatalogue::in_memory(Arc::clone(&clock) as _).unwrap());
        let ledger: Arc<dyn Ledger> =
            Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock) as _));
        let set = ImportSet {
            products: vec![serde_json::from_value(json!({"id": "1", "name": "p"})).unwrap()],
            skus: vec![
                serde_json::from_value(json!({
                    "id": "11", "product_id": "1", "name": "s", "list_price": {"amount": 200, "currency": "CNY"}
                }))
                .unwrap(),
            ],
            activities: vec![],
        };
        catalogue.import(&set, &by("chen")).await.unwrap();
        Self::over(catalogue, ledger, clock).await
    }

    /// A new process on the same stores.
    async fn over(
        catalogue: Arc<EmbeddedCatalogue>,
        ledger: Arc<dyn Ledger>,
        clock: Arc<ManualClock>,
    ) -> Self {
        let leases = InMemoryLease::new(0..=9);
        let ids = Generator::acquire(&leases, &Settings::default(), Arc::clone(&clock) as _).await.unwrap();
        let ids = Arc::new(ids);
        let options = BatcherOptions::default();
        let sales = Arc::new(Sales::new(ledger, Arc::clone(&clock) as _, Handle::current(), options));
        let payments = Payments::new(Arc::clone(&sales), Arc::clone(&ids), []);
        let timing = Timing::default();
        let operations = Operations::new(
            Arc::clone(&catalogue) as _,
            Arc::clone(&sales),
            payments,
            Arc::clone(&ids),
            Arc::new(InMemoryQueue::new(Arc::clone(&clock) as _)),
            timing,
        );
        operations.resume().await.unwrap();
        sales.resume().await.unwrap();
        let ordering = OrderService::new(Arc::clone(&sales), ids);
        Self { operations, ordering, catalogue, sales, clock }
    }

    /// Restarts the process on the same stores.
    async fn restart(&self) -> Self {
        Self::over(Arc::clone(&self.catalogue), Arc::clone(self.sales.ledger()), Arc::clone(&self.clock))
            .await
    }

    async fn publish(&self, buckets: u16) -> Versioned<Activity> {
        let new = NewActivity {
            id: Some(id()),
            name: "sale".parse().unwrap(),
            description: None,
            window: window(1, 2_000_000),
            buckets: buckets.try_into().unwrap(),
            offers: vec![offer()],
        };
        self.operations.create_activity(new, &by("chen")).await.unwrap();
        self.step(ActivityStep::Submit, "chen").await;
        self.step(ActivityStep::Approve, "li").await;
        self.step(ActivityStep::Publish, "wang").await
    }

    async fn step(&self, step: ActivityStep, actor: &str) -> Versioned<Activity> {
        self.operations.step(id(), None, step, &by(actor)).await.unwrap()
    }

    /// Writes a change to the catalogue and stops before it reaches the ledger.
    async fn decide(&self, change: impl FnOnce(&mut Activity)) -> Versioned<Activity> {
        let Versioned { version, mut value } = self.catalogue.activity(id()).await.unwrap().unwrap();
        change(&mut value);
        self.catalogue.put_activity(Some(version), value, &by("wang")).await.unwrap()
    }

    async fn order(&self, user: u64, key: u64) -> Placement {
        let request = OrderRequest {
            user: user.try_into().unwrap(),
            activity: id(),
            sku: sku(),
            quantity: Quantity::ONE,
            idempotency: Idempotency { key: Key(key.into()), nonce: Nonce(key) },
            subjects: Subjects::default(),
            ticket_expired: false,
        };
        self.ordering.place(&request).await.unwrap()
    }

    async fn window(&self) -> Window {
        self.sales.ledger().terms(id()).await.unwrap().unwrap().window()
    }

    async fn versions(&self) -> Vec<u64> {
        let mut versions = Vec::new();
        for front in self.sales.sale(id()).unwrap().fronts() {
            versions.push(self.sales.ledger().view(front.lane).await.unwrap().version);
        }
        versions
    }

    async fn rows(&self, action: &str) -> Vec<AuditRow> {
        let rows = self.catalogue.audit(0, 1_000).await.unwrap();
        rows.into_iter().filter(|row| row.change.action.as_str() == action).collect()
    }
}

#[tokio::test]
async fn decisions_made_before_a_crash_are_applied_once_after_it() {
    let shop = Shop::open().await;
    shop.publish(3).await;
    let shop = shop.restart().await;
    let limits = serde_json::from_value(json!([{"subject": "user", "per": "offer", "max": 1}])).unwrap();
    shop.decide(|activity| {
        activity.window = window(5, 3_000_000);
        activity.selling = Selling::Paused;
        activity.offers = vec![offer().with_limits(limits).unwrap()];
    })
    .await;
    assert_eq!(shop.window().await, window(1, 2_000_000));

    let shop = shop.restart().await;
    shop.operations.apply_all(&by("server")).await.unwrap();
    assert_eq!(shop.window().await, window(5, 3_000_000));
    assert_eq!(shop.order(1, 1).await, Placement::Declined(Outcome::Paused));
    let versions = shop.versions().await;
    shop.operations.apply_all(&by("server")).await.unwrap();
    assert_eq!(shop.versions().await, versions, "a repetition changes nothing");
    // Repeating the interrupted call applies its change as well.
    shop.decide(|activity| activity.selling = Selling::On).await;
    shop.step(ActivityStep::Resume, "wang").await;
    assert!(matches!(shop.order(1, 1).await, Placement::Placed(..)));
    assert!(matches!(shop.order(1, 2).await, Placement::Declined(Outcome::LimitReached { .. })));
    shop.operations.recorder().record_all().await.unwrap();
    assert_eq!(shop.rows("activity.amended").await.len(), 4, "one per change, not per lane");
}

#[tokio::test]
async fn an_interrupted_publication_is_finished() {
    let shop = Shop::open().await;
    shop.publish(1).await;
    let other = Shop::open().await;
    let published = shop.catalogue.activity(id()).await.unwrap().unwrap().value;
    let set = ImportSet {
        activities: vec![crate::catalogue::ImportedActivity { activity: published, relative_window: false }],
        ..ImportSet::default()
    };
    other.catalogue.import(&set, &by("chen")).await.unwrap();
    assert!(other.sales.sale(id()).is_none());
    other.operations.apply_all(&by("server")).await.unwrap();
    assert!(matches!(other.order(1, 1).await, Placement::Placed(..)));
}

#[tokio::test]
async fn a_change_that_reached_only_the_first_lane_is_finished() {
    let Shop { catalogue, clock, .. } = Shop::open().await;
    let [gate, truth] = [LedgerRole::Gate, LedgerRole::Truth]
        .map(|role| Arc::new(EmbeddedLedger::in_memory(role, Arc::clone(&clock) as _)));
    let (upper, lower) = (Arc::clone(&gate) as _, Arc::clone(&truth) as _);
    let tiers = Tiered::new(upper, lower, TieredOptions::default());
    let shop = Shop::over(catalogue, Arc::new(tiers), clock).await;
    shop.publish(2).await;
    let (first, second) = (Lane::first(id()), Lane { activity: id(), bucket: 1 });
    let limits_in = async |lane| {
        let view = shop.sales.ledger().view(lane).await.unwrap();
        view.terms.offer(sku()).unwrap().limits().to_vec()
    };
    let limits: Vec<LimitRule> =
        serde_json::from_value(json!([{"subject": "user", "per": "offer", "max": 1}])).unwrap();
    shop.decide(|activity| activity.offers = vec![offer().with_limits(limits.clone()).unwrap()]).await;

    // The process stops when the truth and the first lane of the gate have the change.
    let change = Change::Limits { sku: sku(), limits: limits.clone() };
    truth.amend(id(), ChangeId(1), change, by("wang")).await.unwrap();
    let followed = gate.followed(first).await.unwrap();
    let entries = truth.events(&Consumer::new("follow"), first, Some(followed), 9).await.unwrap();
    gate.follow(first, entries).await.unwrap();
    assert_eq!(limits_in(first).await, limits);
    assert_ne!(limits_in(second).await, limits);

    shop.operations.apply_all(&by("server")).await.unwrap();
    assert_eq!(limits_in(second).await, limits);
}

#[tokio::test]
async fn an_older_version_does_not_undo_a_newer_one() {
    let shop = Shop::open().await;
    shop.publish(1).await;
    let older = shop.decide(|activity| activity.window = window(5, 3_000_000)).await;
    let newer = shop.decide(|activity| activity.window = window(6, 4_000_000)).await;
    shop.operations.apply(&newer, &by("one node")).await.unwrap();
    shop.operations.apply(&older, &by("a slower node")).await.unwrap();
    assert_eq!(shop.window().await, window(6, 4_000_000));
}

#[tokio::test]
async fn a_catalogue_that_is_older_than_its_ledger_is_reported() {
    let shop = Shop::open().await;
    let published = shop.publish(1).await;
    let newer = Versioned { version: 99, ..published };
    let newer = Versioned { value: Activity { selling: Selling::Paused, ..newer.value }, ..newer };
    shop.operations.apply(&newer, &by("somebody with the newer catalogue")).await.unwrap();
    let edit = ActivityEdit { ends_at: Some(at(1_500_000)), ..ActivityEdit::default() };
    let error = shop.operations.edit_activity(id(), None, &edit, &by("wang")).await.unwrap_err();
    assert!(matches!(error, OperationError::Outdated(_)), "{error}");
    shop.operations.apply_all(&by("server")).await.unwrap();
}

#[tokio::test]
async fn the_creator_cannot_approve_an_activity() {
    let shop = Shop::open().await;
    let new = NewActivity {
        id: None,
        name: "sale".parse().unwrap(),
        description: None,
        window: window(1, 2_000),
        buckets: 1.try_into().unwrap(),
        offers: vec![],
    };
    let made = shop.operations.create_activity(new, &by("chen")).await.unwrap().value.id;
    let step = async |step, actor| shop.operations.step(made, None, step, &by(actor)).await;
    let empty = step(ActivityStep::Submit, "chen").await.unwrap_err();
    assert!(matches!(empty, OperationError::Invalid(ref invalid) if invalid.field == "offers"), "{empty}");
    shop.operations.attach_offer(made, None, &offer(), &by("chen")).await.unwrap();
    step(ActivityStep::Submit, "li").await.unwrap();
    assert!(matches!(step(ActivityStep::Approve, "chen").await, Err(OperationError::OwnWork)));
    let approved = step(ActivityStep::Approve, "li").await.unwrap();
    assert_eq!(step(ActivityStep::Approve, "li").await.unwrap(), approved, "a repetition changes nothing");
    assert!(matches!(step(ActivityStep::Approve, "wang").await, Err(OperationError::WrongState { .. })));
    // Its window is over, so nobody could buy.
    let over = step(ActivityStep::Publish, "wang").await.unwrap_err();
    assert!(matches!(over, OperationError::Invalid(ref invalid) if invalid.field == "ends_at"), "{over}");
    let draft = step(ActivityStep::Reject, "li").await.unwrap().value;
    assert_eq!((draft.status, draft.reviewer), (ActivityStatus::Draft, None));
}

#[tokio::test]
async fn changes_in_the_ledger_get_one_audit_row_even_if_the_process_restarts() {
    let shop = Shop::open().await;
    shop.publish(2).await;
    let adjustment = |name: &str, delta| Adjustment {
        activity: id(),
        sku: sku(),
        id: AdjustmentId::new(name).unwrap(),
        delta,
        by: by("wang"),
    };
    // Bypasses the service, as if the process had stopped before writing the row.
    shop.sales.adjust(adjustment("unseen", 5)).await.unwrap();
    assert!(shop.rows("offer.adjusted").await.is_empty());
    let shop = shop.restart().await;
    shop.operations.recorder().record_all().await.unwrap();
    let row = shop.rows("offer.adjusted").await.remove(0);
    assert_eq!((row.actor.as_str(), row.event.unwrap().as_str()), ("wang", "adjusted/1/unseen"));
    assert_eq!(row.change.detail, json!({"adjustment_id": "unseen", "delta": 5}));

    shop.operations.adjust(adjustment("seen", -3)).await.unwrap();
    assert_eq!(shop.rows("offer.adjusted").await.len(), 2, "the row is there when the call returns");
    let Placement::Placed(order, _) = shop.order(1, 1).await else { panic!("there should be units") };
    for _ in 0..2 {
        shop.operations.cancel(order.key, &by("li")).await.unwrap();
        shop.operations.recorder().record_all().await.unwrap();
        shop.restart().await.operations.recorder().record_all().await.unwrap();
    }
    assert_eq!(shop.rows("order.cancelled").await.len(), 1);
    assert_eq!(shop.rows("offer.adjusted").await.len(), 2);
    assert_eq!(shop.catalogue.verify_audit().await.unwrap().broken, None);
}

#[tokio::test]
async fn the_kill_switch_declines_new_requests_and_finds_old_orders() {
    let shop = Shop::open().await;
    shop.publish(1).await;
    let Placement::Placed(won, _) = shop.order(1, 1).await else { panic!("there should be units") };
    shop.operations.set_kill_switch(true, &by("wang")).await.unwrap();
    assert_eq!(shop.order(2, 2).await, Placement::Declined(Outcome::Paused));
    assert_eq!(shop.order(1, 3).await, Placement::Declined(Outcome::Paused));
    assert!(matches!(shop.order(1, 1).await, Placement::Existing(again, _) if again == won));
    let restarted = shop.restart().await;
    assert_eq!(restarted.order(2, 2).await, Placement::Declined(Outcome::Paused));
    restarted.clock.advance(Duration::from_secs(1));
    restarted.operations.set_kill_switch(false, &by("li")).await.unwrap();
    assert!(matches!(restarted.order(2, 2).await, Placement::Placed(..)));
}
