//! The conformance suite: the tests that every ledger must pass.
//!
//! A backend provides a [`Factory`], which makes empty ledgers that share nothing, and for each
//! ledger a [`TestControl`], which shows what is stored, sets the time and simulates crashes.
//! [`run`] runs every case for the factory's roles and panics at the end if one failed. A failure
//! shows the step, what was expected, what was observed, the steps before, and how to run the case
//! again. The traits in [`ledger`](crate::ledger) say what a ledger must do.
//!
#![cfg_attr(feature = "embedded", doc = "```")]
#![cfg_attr(not(feature = "embedded"), doc = "```ignore")]
//! use std::sync::Arc;
//! use flashsale_core::{
//!     conformance::{self, Factory, LedgerUnderTest, Options, TestControl},
//!     domain::{ActivityId, SystemClock, Timestamp},
//!     embedded::EmbeddedLedger,
//!     ledger::{Lane, LedgerRole, state_machine::Inspection},
//! };
//!
//! struct Backend;
//! struct Inside(Arc<EmbeddedLedger>);
//!
//! #[async_trait::async_trait]
//! impl Factory for Backend {
//!     fn name(&self) -> String { "my backend".into() }
//!     fn roles(&self) -> Vec<LedgerRole> { vec![LedgerRole::Single] }
//!     fn max_buckets(&self) -> u16 { 1 }
//!     async fn fresh(&self, role: LedgerRole) -> LedgerUnderTest {
//!         let ledger = Arc::new(EmbeddedLedger::in_memory(role, Arc::new(SystemClock)));
//!         LedgerUnderTest { ledger: Arc::clone(&ledger) as _, probe: Arc::new(Inside(ledger)) }
//!     }
//! }
//!
//! #[async_trait::async_trait]
//! impl TestControl for Inside {
//!     async fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
//!         self.0.inspect(activity).await.expect("the engine is running")
//!     }
//!     async fn advance_time(&self, lane: Lane, to: Timestamp) {
//!         let _ = self.0.advance_time(lane, to).await; // fails if the lane is not open
//!     }
//!     async fn settle(&self) {}
//!     async fn restart(&self) -> Option<LedgerUnderTest> { None }
//! }
//!
//! let factory: Arc<dyn Factory> = Arc::new(Backend);
//! conformance::run(&factory, &Options { only: Some("keys::".into()), ..Options::quick() });
//! ```
//!
//! # What is tested
//! - Cases with hand-written expectations, one file per concept. The
//!   [invariants](crate::ledger::invariants) are checked after every step.
//! - `machine`: random sequences of operations. Answers and stored content must equal those of the
//!   [specification](crate::ledger::state_machine). A failing sequence is shortened before it is
//!   reported. The other tier of a gate or truth is a [`Model`]; at the end both tiers must agree.
//! - `transitions`: from every status, each step twice and each pair of steps in both orders.
//! - `concurrency`: 2 to 10,000 buyers for 1 to 100 units, concurrent captures and cancellations,
//!   and futures that are dropped after a random number of polls.
//!
//! [Queues](crate::queue), [catalogues](crate::catalogue::Catalogue) and [leases of worker
//! ids](crate::snowflake::WorkerLease) have their own, smaller suites: [`run_queue`], [`run_catalogue`],
//! [`run_worker_lease`]. [`storms`] tests two tiers with faults between them.
//!
//! # Known mistakes, and the cases that find them
//! | seen in other systems | case |
//! |---|---|
//! | a missing stock key crashes the script | `reserve::an_unknown_activity_answers_not_ready`, `gate::a_gate_without_content_is_not_ready` |
//! | duplicates are checked after the stock | `keys::the_request_that_took_the_last_unit_can_be_retried` |
//! | numbers are compared as strings | `limits::limits_are_compared_as_numbers` |
//! | a quantity of −5 adds stock | `adjustment::an_invalid_adjustment_is_rejected`; a request cannot express it |
//! | `>=` sells one too many | `reserve::exactly_the_offered_units_are_sold` |
//! | a hold with a TTL loses its unit | `expiry::a_late_sweeper_loses_no_units` |
//! | a limit expires with the hold | `limits::a_limit_outlives_the_hold`, `limits::a_limit_counts_unpaid_orders` |
//! | startup code sets the stock, or a sync job copies it | `reserve::opening_twice_changes_nothing`, `adjustment::held_and_sold_units_cannot_be_removed` |
//! | a script error after a write is not rolled back | `cancellation::a_batch_with_a_step_for_another_lane_is_rejected_whole`, `truth::entries_must_follow_the_position_without_a_gap` |
//! | `MAXLEN` drops undelivered events | `events::unacknowledged_entries_are_never_dropped` |
//! | the same SKU twice in a batch | `reserve::requests_for_one_offer_in_a_batch_are_decided_in_order` |
//! | a second release takes the units of another order, or exceeds the total | `cancellation::cancelling_twice_takes_no_units_from_another_order` |
//! | a sold-out flag is never reset | `reserve::released_units_are_sold_again`, `adjustment::added_units_can_be_sold` |
//! | buckets do not borrow from one another | `buckets::a_sold_out_bucket_borrows_units_from_others` |
//! | an UPDATE lacks `stock > 0`, or retries on version conflicts | `concurrency::the_last_units_are_sold_once` |
//! | stock is taken and the message is lost | `truth::redelivered_entries_are_persisted_once`, `durability::answered_calls_survive_a_crash` |
//! | the price is taken from the client | `reserve::the_price_comes_from_the_offer`, `truth::the_price_is_taken_from_the_offer` |
//! | the query for a user's orders lacks the user filter | `reserve::a_user_sees_only_their_own_orders`, `status_table::steps_by_another_user_are_not_found` |
//! | order ids come from a fixed seed | `keys::an_order_id_cannot_be_used_twice` |
//! | a payment arrives after the hold was released | `payment::a_late_capture_makes_a_new_order`, `payment::a_late_capture_without_units_is_refunded` |
//! | two channels both pay | `payment::a_second_channel_that_pays_is_refunded` |
//! | a late callback revives a cancelled order | `payment::a_late_capture_does_not_revive_a_cancelled_order` |
//! | the callback arrives before the order is stored | `payment::an_early_capture_is_applied_when_its_payment_opens` |
//! | 64 concurrent deliveries all pass the "seen?" check | `concurrency::concurrent_captures_pay_once` |
//! | a key is reused with another body, by another user, or while in flight | `keys::a_key_with_a_different_request_answers_key_reused`, `keys::keys_are_scoped_to_the_user`, `concurrency::concurrent_requests_with_one_key_make_one_order` |
//! | cancel, timeout, operator and refusal release units more than once | `cancellation::cancel_expiry_and_refund_release_units_once`, `concurrency::concurrent_steps_end_an_order_once`, `gate::a_refused_order_releases_its_units_once` |
//! | one wrong reading of the clock lasts | `time_steps::a_step_back_reopens_the_window`, `time_steps::a_step_moves_the_deadlines_of_holds` |
//! | the window is enforced on the page only | `precedence::the_window_is_enforced_by_reserve` |
//! | archived orders cannot be found, and late money has no order | `archive::an_archived_activity_answers_as_before`, `archive::a_change_of_an_archived_activity_survives_a_crash` |
//! | counters drift, or the checker itself is wrong | the invariants after every step; the seeded faults in the test `mutants` |

mod adjustment;
mod archive;
mod buckets;
mod cancellation;
mod case;
mod catalogue;
mod concurrency;
mod durability;
mod events;
mod expiry;
mod failure;
mod faults;
mod gate;
mod keys;
mod ledger_under_test;
mod limits;
mod make;
mod map_rows;
mod model;
mod name;
mod options;
mod payment;
mod perform;
mod precedence;
mod queue;
mod random_operation;
mod random_sequences;
mod reserve;
mod run;
mod scene;
mod small_suite;
mod status_table;
mod storms;
mod tiers;
mod time_steps;
mod transitions;
mod truth;
mod worker_lease;

pub use catalogue::{
    CatalogueFactory, CatalogueTestControl, CatalogueUnderTest, examine_catalogue, run_catalogue,
};
pub use failure::Failure;
pub use faults::{Faults, Faulty};
pub use ledger_under_test::{Factory, LedgerUnderTest, TestControl};
pub use map_rows::MapRows;
pub use model::{Model, Models};
pub use options::Options;
pub use queue::{QueueFactory, QueueTestControl, QueueUnderTest, examine_queue, run_queue};
pub use run::{Played, Report, examine, run};
pub use storms::{ForgettingStore, Pair, StormReport, storms};
pub use worker_lease::{
    WorkerLeaseFactory, WorkerLeaseTestControl, WorkerLeaseUnderTest, examine_worker_lease, run_worker_lease,
};

/// The cases of all files. The compiler reports a table that is missing here as dead code.
const CASES: &[&[case::Case]] = &[
    reserve::CASES,
    precedence::CASES,
    limits::CASES,
    keys::CASES,
    status_table::CASES,
    payment::CASES,
    expiry::CASES,
    time_steps::CASES,
    cancellation::CASES,
    adjustment::CASES,
    buckets::CASES,
    events::CASES,
    transitions::CASES,
    concurrency::CASES,
    durability::CASES,
    archive::CASES,
    gate::CASES,
    truth::CASES,
];
