//! Time that one wrong reading of a clock cannot move.
//!
//! [`SteeredTime`] is a state machine without I/O. It gets readings of a monotonic clock and of a
//! wall clock, and yields a time of its own: it advances with the monotonic clock, makes up for
//! small differences to the wall gradually, and doubts a jump of the wall until the jump persists
//! or somebody confirms it. Any two clocks will do: those of the operating system, or a monotonic
//! clock and the time of a database server.
//!
//! [`SteeredClock`] is a [`Clock`](crate::domain::Clock) that is steered so. Observe it a few times
//! a second; [`Timekeeper`](crate::service::Timekeeper) does that, and moves the open deadlines of
//! a ledger when the clock is stepped.

mod steered_clock;
mod steered_time;
mod time_source;

pub use steered_clock::{ClockState, SteeredClock};
pub use steered_time::{Doubt, Line, Observation, SteeredTime, SteeringOptions};
pub use time_source::{ManualTime, OperatingSystem, TimeSource};
