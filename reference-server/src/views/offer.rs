//! Offers as buyers see them.

use flashsale_core::domain::{
    LimitRule, Money, Name, OfferTerms, PictureUrl, Product, ProductId, Sku, SkuId, Strategy,
};
use serde::Serialize;

/// An offer with the names of its SKU and product.
#[derive(Debug, Serialize)]
pub struct ShownOffer<'a> {
    /// The SKU.
    pub sku_id: SkuId,
    /// Its product.
    pub product_id: ProductId,
    /// The product's name.
    pub product_name: &'a Name,
    /// The SKU's name.
    pub sku_name: &'a Name,
    /// The URL of the product's image.
    pub image: Option<&'a PictureUrl>,
    /// The sale price of one unit.
    pub price: Money,
    /// The regular price of one unit.
    pub list_price: Money,
    /// Units at the start.
    pub units: u32,
    /// When units are deducted.
    pub strategy: Strategy,
    /// How long an unpaid order holds its units, in seconds.
    pub hold_seconds: Option<u64>,
    /// Purchase limits, in the order in which they are checked.
    pub limits: &'a [LimitRule],
}

impl<'a> ShownOffer<'a> {
    /// Combines an offer with its product and SKU.
    pub(crate) fn new(offer: &'a OfferTerms, product: &'a Product, sku: &'a Sku) -> Self {
        Self {
            sku_id: sku.id,
            product_id: product.id,
            product_name: &product.name,
            sku_name: &sku.name,
            image: product.image.as_ref(),
            price: offer.price(),
            list_price: sku.list_price,
            units: offer.units(),
            strategy: offer.strategy(),
            hold_seconds: offer.hold().map(|hold| hold.as_secs()),
            limits: offer.limits(),
        }
    }
}
