//! Products (SPU) and their SKUs.

use serde::{Deserialize, Serialize};

use super::{Money, Name, ProductId, SkuId, Text};

/// What a detail page shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Its id.
    pub id: ProductId,
    /// What buyers call it.
    pub name: Name,
    /// What buyers read about it.
    #[serde(default)]
    pub description: Option<Text>,
    /// Where its picture is, as the shop's pages name it.
    #[serde(default)]
    pub image: Option<Name>,
}

/// The thing that has stock and a price: a colour and size of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sku {
    /// Its id.
    pub id: SkuId,
    /// The product that it is a variant of.
    pub product_id: ProductId,
    /// What tells it from its siblings: "红色 / L".
    pub name: Name,
    /// The price outside of activities.
    pub list_price: Money,
}
