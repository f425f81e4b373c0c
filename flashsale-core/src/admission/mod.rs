//! Guards: protect the ledger from crowds, so that a script gets no more than a person.
//!
//! [`Guards`] is one chain of small rules. Each has its own [`Mode`] (off, observe, on) and a
//! counter per verdict, so that it can be observed on real traffic before it refuses anyone:
//!
//! 1. Rate limits on a user's or an address's requests (GCRA, constant memory:
//!    [`crate::rate_limiter`]).
//! 2. A [`RiskProfile`] derives a [`Risk`] from the account's age and level and recent behaviour.
//!    [`AccountRisk`] needs nothing else; implement your own to use what your shop knows.
//! 3. A [`Ladder`] maps the risk to a [`Step`]: nothing, proof of work, quiz or denial. A busy
//!    address raises the step by one but never denies, because a whole campus may share an address.
//!
//! A challenge is a signed text ([`ChallengeKeys`]) for one user and one offer. Issuing it stores
//! nothing; [`SpentChallenges`] remembers tried ones. The application defines and shows the task.
//!
//! Guards do not make a sale safe; the ledger does. They make posing as a thousand people costly.

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
pub use spent_challenges::{SpendResult, SpentChallenges};
pub use ticket::{Claims, IssuedTicket, Ticket, TicketError, TicketKey, TicketKeys, TicketTerms};
pub use verdict_counts::{Count, Rule, Verdict};
