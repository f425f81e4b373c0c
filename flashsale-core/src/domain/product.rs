//! Products (SPU) and their SKUs.

use serde::{Deserialize, Serialize};

use super::{Money, Name, PictureUrl, ProductId, SkuId, Text};

/// A product (SPU), shown on one detail page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Its id.
    pub id: ProductId,
    /// The name shown to buyers.
    pub name: Name,
    /// The description shown to buyers.
    #[serde(default)]
    pub description: Option<Text>,
    /// The location of its picture, as the shop's pages refer to it.
    #[serde(default)]
    pub image: Option<PictureUrl>,
}

/// A variant of a product, such as a colour and size, with stock and a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sku {
    /// Its id.
    pub id: SkuId,
    /// The product of which it is a variant.
    pub product_id: ProductId,
    /// What distinguishes it from the product's other SKUs: "红色 / L".
    pub name: Name,
    /// The price outside of activities.
    pub list_price: Money,
}
