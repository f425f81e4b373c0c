//! Reserve: requests for units and their outcomes.

use serde::{Deserialize, Serialize};

use super::Position;
use crate::domain::{Idempotency, LimitRule, Order, OrderId, Quantity, SkuId, Subjects, Timestamp, UserId};

/// A buyer's request for units of one offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reserve {
    /// The id of the order to create, fresh from a generator.
    pub order: OrderId,
    /// The buyer, whose lane is the lane of the batch.
    pub user: UserId,
    /// The SKU requested.
    pub sku: SkuId,
    /// The number of units requested.
    pub quantity: Quantity,
    /// The caller's key and the ticket's nonce.
    pub idempotency: Idempotency,
    /// The device and address, for limits that count them.
    pub subjects: Subjects,
    /// Whether it may create an order.
    pub mode: ReserveMode,
}

/// Whether a request may create an order. In every mode, a key replays the order it created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReserveMode {
    /// It may create an order.
    #[default]
    NewOrder,
    /// Its ticket has expired; answered with [`Outcome::TicketExpired`].
    TicketExpired,
    /// The kill switch is on; answered with [`Outcome::Paused`].
    SalesStopped,
}

/// The outcome of one reserve. If several apply, the first variant wins.
///
/// All but [`Outcome::Replayed`] and [`Outcome::Reserved`] decline the request. A declined request
/// leaves no trace and uses up neither key nor ticket, so a later attempt may succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The activity has no offer of this SKU.
    UnknownOffer,
    /// The activity is not open, is closed for a rebuild, or has another epoch than the batch.
    NotReady,
    /// The key already created this order.
    Replayed {
        /// The order in its current state.
        order: Box<Order>,
        /// The lane's last position. The order's event is there or before, so this is a receipt of it.
        position: Position,
    },
    /// The key already created an order with another offer or quantity.
    KeyReused,
    /// The request is in [`ReserveMode::TicketExpired`] and its key created no order.
    TicketExpired,
    /// An operator paused the activity, or the request is in [`ReserveMode::SalesStopped`].
    Paused,
    /// The window has not started, and no operator ended the activity.
    NotStarted {
        /// The start of the window.
        starts_at: Timestamp,
    },
    /// The window is over, or an operator ended the activity.
    Ended,
    /// The ticket already created an order, under another key.
    TicketUsed,
    /// Another order of the buyer has the order id, which happens if two generators share a worker id.
    IdTaken,
    /// A limit would be exceeded. A rule about a subject that the request lacks allows 0 units.
    LimitReached {
        /// The first rule that would be exceeded.
        rule: LimitRule,
        /// The number of units that it still allows.
        remaining: u32,
    },
    /// This lane has too few units; other lanes may have more.
    SoldOut {
        /// The number of units that an order could take in this lane.
        available: u32,
    },
    /// The order was created.
    Reserved {
        /// The order. At a gate it is not persisted yet.
        order: Box<Order>,
        /// The position of its event in the outbox.
        position: Position,
    },
}

impl Outcome {
    /// The names of all outcomes, in order of precedence.
    pub const NAMES: [&'static str; 13] = [
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

    /// Returns its index in [`Self::NAMES`].
    pub const fn metric_index(&self) -> usize {
        match self {
            Self::UnknownOffer => 0,
            Self::NotReady => 1,
            Self::Replayed { .. } => 2,
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

    /// Returns the order that was created, now or earlier.
    pub fn order(&self) -> Option<&Order> {
        match self {
            Self::Reserved { order, .. } | Self::Replayed { order, .. } => Some(order),
            _ => None,
        }
    }
}

/// The answer to a batch of reserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservations {
    /// The lane's time of the decision.
    pub at: Timestamp,
    /// The outcomes, in the order of the requests.
    pub outcomes: Vec<Outcome>,
}
