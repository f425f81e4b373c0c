//! Guards: what stands between a crowd and the ledger, so that a script does not get more than a person.
//!
//! [`Guards`] is one chain of small parts. Each has a [`Mode`] of its own (off, only counting, on) and a counter for each
//! verdict, so that a rule can be watched on real traffic before it refuses anybody:
//!
//! 1. How often one user, or one address, may order or ask for tickets (GCRA with constant memory, [`crate::rate_limiter`]).
//! 2. A [`RiskProfile`] gives a [`Risk`] from the account's age and level and from recent behaviour. [`AccountRisk`] is the
//!    one that needs nothing else; write your own to use what your shop knows.
//! 3. A [`Ladder`] turns the risk into a [`Step`]: nothing, a proof of work, a quiz, denied. An address from which very many
//!    ask raises the step by one, but never denies: behind an address may be a whole campus.
//!
//! A challenge is a signed text ([`ChallengeKeys`]), bound to one user and one offer; nothing is stored when it is issued, and
//! [`Spent`] remembers, within a bound, which were tried. What is to be solved, and how it is shown, is up to the
//! application.
//!
//! None of this makes a sale safe: units, limits and tickets are the ledger's. Guards make it expensive to be a thousand
//! people.

mod challenge;
mod guards;
mod ladder;
mod mode;
mod risk;
mod spent_challenges;
mod ticket;
mod verdict_counts;

pub use challenge::{Challenge, ChallengeError, ChallengeKeys, Exercise, IssuedChallenge};
pub use guards::{GuardOptions, Guards, Limited};
pub use ladder::{Ladder, Step};
pub use mode::Mode;
pub use risk::{Account, AccountRisk, Behaviour, Risk, RiskProfile, Visitor};
pub use spent_challenges::{Spending, Spent};
pub use ticket::{Claims, IssuedTicket, Ticket, TicketError, TicketKey, TicketKeys, TicketTerms};
pub use verdict_counts::{Count, Rule, Verdict};
