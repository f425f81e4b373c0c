//! Reserve: a buyer asks for units.

use serde::{Deserialize, Serialize};

use super::Position;
use crate::domain::{Idempotency, LimitRule, Order, OrderId, Quantity, SkuId, Subjects, Timestamp, UserId};

/// A request for units of one offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reserve {
    /// The id of the order to make, fresh from a generator.
    pub order: OrderId,
    /// Who asks. The lane of the batch is the lane of this user.
    pub user: UserId,
    /// For what.
    pub sku: SkuId,
    /// For how many.
    pub quantity: Quantity,
    /// The caller's key and the ticket's nonce.
    pub idempotency: Idempotency,
    /// Device and address, for limits that count them.
    pub subjects: Subjects,
    /// Whether it may make an order.
    pub mode: ReserveMode,
}

/// Whether a request may make an order. In every mode a key finds the order that it made before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReserveMode {
    /// It may.
    #[default]
    NewOrder,
    /// It may not, because its ticket has expired; answered [`Outcome::TicketExpired`].
    TicketExpired,
    /// It may not, because the kill switch is on; answered [`Outcome::Paused`].
    SalesStopped,
}

/// The outcome of one reserve. The variants stand in the order of precedence: of several that hold, the first is given.
///
/// All but [`Outcome::Replayed`] and [`Outcome::Reserved`] are declined requests. A declined request leaves no trace:
/// neither key nor ticket is used up, and a later try may succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The activity has no offer of this SKU.
    UnknownOffer,
    /// The activity is not loaded here, is closed for a rebuild, or has another epoch than the batch names.
    NotReady,
    /// The key made this order before; here it is as it stands now.
    Replayed(Box<Order>),
    /// The key made an order before, of another offer or quantity.
    KeyReused,
    /// The request is in [`ReserveMode::TicketExpired`], and its key made no order.
    TicketExpired,
    /// An operator paused the activity, or the request is in [`ReserveMode::SalesStopped`].
    Paused,
    /// The window has not begun, and no operator ended the activity.
    NotStarted {
        /// When it begins.
        starts_at: Timestamp,
    },
    /// The window is over, or an operator ended the activity.
    Ended,
    /// The ticket made an order before, under another key.
    TicketUsed,
    /// The order's id is taken by another order: two generators share a worker id.
    IdTaken,
    /// A limit does not allow so many. A rule whose subject the request does not name allows none.
    LimitReached {
        /// The first rule that does not.
        rule: LimitRule,
        /// How many units it still allows.
        remaining: u32,
    },
    /// This lane has too few units; other lanes may have more.
    SoldOut {
        /// How many units this lane has.
        available: u32,
    },
    /// The order is made.
    Reserved {
        /// The order. At a gate it is not persisted yet.
        order: Box<Order>,
        /// Where the outbox says so.
        position: Position,
    },
}

impl Outcome {
    /// The words of all outcomes, in the order of precedence.
    pub const WORDS: [&'static str; 13] = [
        "unknown_offer",
        "not_ready",
        "replayed",
        "key_reused",
        "ticket_expired",
        "paused",
        "not_started",
        "ended",
        "ticket_used",
        "id_taken",
        "limit_reached",
        "sold_out",
        "reserved",
    ];

    /// Its place in [`Self::WORDS`].
    pub const fn metric_index(&self) -> usize {
        match self {
            Self::UnknownOffer => 0,
            Self::NotReady => 1,
            Self::Replayed(_) => 2,
            Self::KeyReused => 3,
            Self::TicketExpired => 4,
            Self::Paused => 5,
            Self::NotStarted { .. } => 6,
            Self::Ended => 7,
            Self::TicketUsed => 8,
            Self::IdTaken => 9,
            Self::LimitReached { .. } => 10,
            Self::SoldOut { .. } => 11,
            Self::Reserved { .. } => 12,
        }
    }

    /// The order that was made, now or before.
    pub fn order(&self) -> Option<&Order> {
        match self {
            Self::Reserved { order, .. } | Self::Replayed(order) => Some(order),
            _ => None,
        }
    }
}

/// The answer to a batch of reserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservations {
    /// The time at which the lane decided.
    pub at: Timestamp,
    /// One outcome for each request, in their order.
    pub outcomes: Vec<Outcome>,
}
