//! The subjects of audit rows and refusals.

use std::fmt;

use crate::domain::{ActivityId, ProductId, SkuId};

/// A part of the catalogue, displayed as `product/7`, `sku/11`, `activity/1` or `offer/1/11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A product.
    Product(ProductId),
    /// An SKU.
    Sku(SkuId),
    /// An activity.
    Activity(ActivityId),
    /// An offer of an activity.
    Offer(ActivityId, SkuId),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Product(id) => write!(f, "product/{id}"),
            Self::Sku(id) => write!(f, "sku/{id}"),
            Self::Activity(id) => write!(f, "activity/{id}"),
            Self::Offer(activity, sku) => write!(f, "offer/{activity}/{sku}"),
        }
    }
}
