//! The conformance suite: what every ledger has to pass.
//!
//! A backend gives the suite a [`Factory`], which makes ledgers without content, and a [`TestControl`] for each of them, which
//! shows what is stored and moves the time. [`run`] then plays every case that suits the factory's roles, prints a line
//! for each, and panics at the end if one failed. A failure tells the step, what was expected, what was observed, and how
//! to play that case again.
//!
//! ```
//! use std::sync::Arc;
//! use flashsale_core::{
//!     conformance::{self, Factory, Options, TestControl, LedgerUnderTest},
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
//!         LedgerUnderTest::single(Arc::clone(&ledger) as _, Arc::new(Inside(ledger)))
//!     }
//! }
//!
//! #[async_trait::async_trait]
//! impl TestControl for Inside {
//!     async fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
//!         self.0.inspect(activity).await.expect("the engine runs")
//!     }
//!     async fn advance_time(&self, lane: Lane, to: Timestamp) {
//!         self.0.advance_time(lane, to).await.expect("the lane is open");
//!     }
//!     async fn settle(&self) {}
//!     async fn restart(&self) -> Option<LedgerUnderTest> { None }
//! }
//!
//! let factory: Arc<dyn Factory> = Arc::new(Backend);
//! conformance::run(&factory, &Options { only: Some("keys::".into()), ..Options::quick() });
//! ```
//!
//! # What is played
//! - Stories with their expectations written by hand, a file for each concept. After every step the
//!   [invariants](crate::ledger::invariants) are checked.
//! - `machine`: random sequences of operations, each compared with the [specification](crate::ledger::state_machine), as is
//!   everything that is stored; a sequence that fails is shortened first. A gate is played with a specified truth, a truth
//!   with a specified gate, and in the end both have to agree.
//! - `transitions`: each step twice and each pair of steps in both orders, from every status.
//! - `concurrency`: 2 to 10,000 buyers for 1 to 100 units, deliveries and ends at the same moment, futures that are dropped
//!   after a random number of polls.
//!
//! [Queues](crate::queue) have a smaller suite of their own, [`run_queue`].
//!
//! # What is known to break, and the case that looks for it
//! | seen elsewhere | case |
//! |---|---|
//! | a missing stock key crashes the script | `reserve::an_unknown_activity_is_not_ready`, `gate::a_gate_without_content_is_not_ready` |
//! | duplicate check after stock check | `keys::the_retry_of_the_request_that_took_the_last_unit_is_replayed` |
//! | string comparison of numbers | `limits::a_limit_counts_units_as_numbers` |
//! | quantity −5 adds stock | `adjustment::an_adjustment_that_cannot_be_meant_is_refused`; a request cannot carry one |
//! | `>=` sells one too many | `reserve::units_run_out_exactly` |
//! | a TTL on a hold loses the unit | `expiry::a_sweeper_that_is_late_loses_no_unit` |
//! | limits with the hold's TTL | `limits::a_limit_outlives_the_hold`, `limits::a_limit_counts_unpaid_orders` |
//! | boot code SETs stock, an align job copies it | `reserve::opening_again_overwrites_nothing`, `adjustment::held_and_sold_units_are_not_taken` |
//! | a script error after a write is not rolled back | `cancellation::steps_of_other_lanes_are_refused_whole`, `truth::entries_follow_the_position_without_a_gap` |
//! | `MAXLEN` drops undelivered events | `events::nothing_is_dropped_that_somebody_has_not_acknowledged` |
//! | same SKU twice in one batch | `reserve::the_same_offer_twice_in_a_batch_is_decided_in_order` |
//! | double release seen only while another order lives; release beyond the total | `cancellation::a_second_release_takes_nothing_from_another_order` |
//! | sold-out flags that never reset | `reserve::units_given_back_are_sold_again`, `adjustment::added_units_are_sold` |
//! | buckets without borrowing | `buckets::a_bucket_that_is_sold_out_gets_units_of_others` |
//! | an UPDATE without `stock > 0`; version retries | `concurrency::the_last_units_are_sold_once` |
//! | stock taken and message lost | `truth::what_is_persisted_is_persisted_once`, `durability::what_was_answered_survives_a_crash` |
//! | price taken from the client | `reserve::the_price_comes_from_the_offer`, `truth::the_price_is_frozen_from_the_offer` |
//! | orders of a user without the user filter | `reserve::orders_of_a_user_are_only_theirs`, `table::steps_of_strangers_are_not_found` |
//! | order ids from a fixed seed | `keys::an_order_id_is_never_given_twice` |
//! | payment after the hold was released | `payment::a_late_capture_takes_the_units_again`, `payment::a_late_capture_without_units_goes_back` |
//! | two channels both pay | `payment::two_channels_both_pay` |
//! | a late callback revives a cancelled order | `payment::a_late_capture_does_not_revive_a_cancelled_order` |
//! | the callback comes before the order is stored | `payment::a_capture_before_its_payment_is_known_is_applied_when_it_opens` |
//! | 64 deliveries at once pass the "seen?" check | `concurrency::captures_at_once_pay_once` |
//! | a key reused with another body, by another user, in flight | `keys::a_key_with_another_body_is_reused`, `keys::a_key_belongs_to_its_user`, `concurrency::one_key_at_once_makes_one_order` |
//! | cancel, timeout, operator and refusal give back more than once | `cancellation::cancel_expiry_and_operator_give_units_back_once`, `concurrency::whoever_ends_an_order_first_ends_it_alone`, `gate::a_refused_order_gives_back_once` |
//! | the window is enforced on the page only | `precedence::the_window_is_enforced_at_the_order` |
//! | drift, or a checker that is wrong itself | the invariants after every step, and the seeded faults of the test `mutants` |

mod adjustment;
mod buckets;
mod cancellation;
mod case;
mod concurrency;
mod durability;
mod events;
mod expiry;
mod failure;
mod faults;
mod gate;
mod keys;
mod limits;
mod machine;
mod make;
mod model;
mod operation;
mod options;
mod payment;
mod perform;
mod precedence;
mod queue;
mod reserve;
mod run;
mod scene;
mod storms;
mod subject;
mod table;
mod tiers;
mod transitions;
mod truth;
mod word;

pub use failure::Failure;
pub use faults::{Faults, Faulty};
pub use model::{Model, Models};
pub use options::Options;
pub use queue::{QueueFactory, QueueTestControl, QueueUnderTest, examine_queue, run_queue};
pub use run::{Played, Report, examine, run};
pub use storms::{Forgetful, Pair, Weathered, storms};
pub use subject::{Factory, LedgerUnderTest, TestControl};

/// The tables of all files. A table that is missing here is dead code, which the compiler reports.
const CASES: &[&[case::Case]] = &[
    reserve::CASES,
    precedence::CASES,
    limits::CASES,
    keys::CASES,
    table::CASES,
    payment::CASES,
    expiry::CASES,
    cancellation::CASES,
    adjustment::CASES,
    buckets::CASES,
    events::CASES,
    transitions::CASES,
    concurrency::CASES,
    durability::CASES,
    gate::CASES,
    truth::CASES,
];
