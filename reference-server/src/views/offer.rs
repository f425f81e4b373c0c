//! Offers as buyers see them.

use flashsale_core::domain::{LimitRule, Money, Name, OfferTerms, Product, ProductId, Sku, SkuId, Strategy};
use serde::Serialize;

/// An offer with what its SKU and product are called.
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
    /// Where the product's picture is.
    pub image: Option<&'a Name>,
    /// The price of one unit in the sale.
    pub price: Money,
    /// The price outside of it.
    pub list_price: Money,
    /// Units at the start.
    pub units: u32,
    /// When units are taken.
    pub strategy: Strategy,
    /// How long an unpaid order holds.
    pub hold_seconds: Option<u64>,
    /// Limits, in the order in which they are checked.
    pub limits: &'a [LimitRule],
}

impl<'a> ShownOffer<'a> {
    /// An offer of an SKU.
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
