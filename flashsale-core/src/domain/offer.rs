//! Offers: one SKU inside one activity.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Invalid, LimitRule, Money, SkuId};

/// The moment at which units are taken from the available stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// When the order is placed. Without a hold time, the order keeps its units until it is paid or
    /// cancelled, or until a payment opened for it times out.
    OrderTime,
    /// When the payment opens. Pending units may exceed available ones up to a percentage.
    PayTime,
    /// When the order is placed, for a limited time.
    PreDeduct,
}

/// The treatment of a payment captured after its order expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateCapture {
    /// Refund the money.
    #[default]
    Refund,
    /// Replace the expired order by a new, paid one if units and limits allow, or else refund.
    Retake,
}

/// The number of units in one order, 1 to [`Quantity::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Quantity(u32);

impl Quantity {
    /// One unit.
    pub const ONE: Self = Self(1);
    /// The maximum number of units per order: 10,000.
    pub const MAX: u32 = 10_000;

    /// Returns the number of units.
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Quantity {
    type Error = Invalid;

    fn try_from(value: u32) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&value) {
            Ok(Self(value))
        } else {
            Err(Invalid::new("quantity", format!("{value} is not between 1 and {}", Self::MAX)))
        }
    }
}

impl From<Quantity> for u32 {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}

/// The limit of pending units under [`Strategy::PayTime`]: 100 to 1,000 percent of available units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct OverbookPercent(u32);

impl OverbookPercent {
    /// Returns the percentage.
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl Default for OverbookPercent {
    /// 150.
    fn default() -> Self {
        Self(150)
    }
}

impl TryFrom<u32> for OverbookPercent {
    type Error = Invalid;

    fn try_from(value: u32) -> Result<Self, Invalid> {
        if (100..=1_000).contains(&value) {
            Ok(Self(value))
        } else {
            Err(Invalid::new("overbook_percent", format!("{value} is not between 100 and 1000")))
        }
    }
}

impl From<OverbookPercent> for u32 {
    fn from(percent: OverbookPercent) -> Self {
        percent.0
    }
}

/// The terms on which one SKU is sold in one activity.
///
/// Operators and import files write offers in this type's serialized form.
///
/// ```
/// use flashsale_core::domain::OfferTerms;
///
/// let offer: OfferTerms = serde_json::from_str(
///     r#"{"sku_id": "11", "price": {"amount": 9900, "currency": "CNY"}, "units": 100,
///         "strategy": "pre_deduct", "hold_seconds": 900,
///         "limits": [{"subject": "user", "per": "offer", "max": 2}]}"#,
/// )?;
/// assert_eq!(offer.units(), 100);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawOffer", into = "RawOffer")]
pub struct OfferTerms {
    sku: SkuId,
    price: Money,
    units: u32,
    strategy: Strategy,
    hold: Option<Duration>,
    overbook: OverbookPercent,
    late_capture: LateCapture,
    limits: Vec<LimitRule>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOffer {
    sku_id: SkuId,
    price: Money,
    units: u32,
    strategy: Strategy,
    #[serde(default)]
    hold_seconds: Option<u32>,
    #[serde(default)]
    overbook_percent: Option<OverbookPercent>,
    #[serde(default)]
    late_capture: LateCapture,
    #[serde(default)]
    limits: Vec<LimitRule>,
}

impl OfferTerms {
    /// The maximum number of units per offer: 10⁹.
    pub const MAX_UNITS: u32 = 1_000_000_000;
    /// The maximum number of limit rules per offer: 8.
    pub const MAX_LIMITS: usize = 8;
    /// The longest hold: 7 days.
    pub const MAX_HOLD: Duration = Duration::from_secs(7 * 24 * 3_600);

    /// Creates terms without limits, with default overbooking and refunds of late captures.
    ///
    /// # Errors
    /// If `units` is outside 1 to 10⁹, the hold is outside 1 s to 7 days or not in whole seconds,
    /// or a strategy other than [`Strategy::OrderTime`] has none.
    pub fn new(
        sku: SkuId,
        price: Money,
        units: u32,
        strategy: Strategy,
        hold: Option<Duration>,
    ) -> Result<Self, Invalid> {
        if !(1..=Self::MAX_UNITS).contains(&units) {
            return Err(Invalid::new("units", format!("{units} is not between 1 and {}", Self::MAX_UNITS)));
        }
        match hold {
            None if strategy != Strategy::OrderTime => {
                return Err(Invalid::new("hold_seconds", "pay_time and pre_deduct need a hold time"));
            }
            Some(hold) if hold.is_zero() || hold > Self::MAX_HOLD || hold.subsec_nanos() != 0 => {
                return Err(Invalid::new(
                    "hold_seconds",
                    "a hold lasts from 1 s to 7 days, in whole seconds",
                ));
            }
            _ => {}
        }
        Ok(Self {
            sku,
            price,
            units,
            strategy,
            hold,
            overbook: OverbookPercent::default(),
            late_capture: LateCapture::default(),
            limits: Vec::new(),
        })
    }

    /// Sets the limits, which are checked in this order.
    ///
    /// # Errors
    /// If there are more than [`OfferTerms::MAX_LIMITS`] rules, or two share a subject and scope.
    pub fn with_limits(mut self, limits: Vec<LimitRule>) -> Result<Self, Invalid> {
        check_limits(&limits)?;
        self.limits = limits;
        Ok(self)
    }

    /// Sets the overbook percentage; used only by [`Strategy::PayTime`].
    #[must_use]
    pub fn with_overbook(mut self, overbook: OverbookPercent) -> Self {
        self.overbook = overbook;
        self
    }

    /// Sets the treatment of late captures.
    #[must_use]
    pub fn with_late_capture(mut self, late_capture: LateCapture) -> Self {
        self.late_capture = late_capture;
        self
    }

    /// Returns the SKU on sale.
    pub fn sku(&self) -> SkuId {
        self.sku
    }

    /// Returns the price of one unit.
    pub fn price(&self) -> Money {
        self.price
    }

    /// Returns the amount of the largest order that units, limits and [`Quantity::MAX`] permit.
    /// Adjustments and changed limits may permit larger ones later.
    ///
    /// # Errors
    /// If money cannot hold that amount: it exceeds [`Money::MAX_AMOUNT`].
    pub fn largest_order(&self) -> Result<Money, Invalid> {
        let units = self.limits.iter().map(LimitRule::max).fold(self.units.min(Quantity::MAX), u32::min);
        self.price.times(units).map_err(|_| {
            let reason = format!(
                "an order of {units} units at {} each would cost more than 10^15 minor units: lower the price, the units or a limit",
                self.price
            );
            Invalid::new("price", reason)
        })
    }

    /// Returns the initial number of units, before adjustments.
    pub fn units(&self) -> u32 {
        self.units
    }

    /// Returns the strategy, which says when units are taken.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Returns how long an unpaid order holds its units; `None` means no time limit.
    pub fn hold(&self) -> Option<Duration> {
        self.hold
    }

    /// Returns the overbook percentage, used by [`Strategy::PayTime`].
    pub fn overbook(&self) -> OverbookPercent {
        self.overbook
    }

    /// Returns the treatment of late captures.
    pub fn late_capture(&self) -> LateCapture {
        self.late_capture
    }

    /// Returns the limits in the order in which they are checked.
    pub fn limits(&self) -> &[LimitRule] {
        &self.limits
    }
}

/// Checks a list of limits, as [`OfferTerms::with_limits`] does.
///
/// # Errors
/// If there are more than [`OfferTerms::MAX_LIMITS`] rules, or two share a subject and scope.
pub fn check_limits(limits: &[LimitRule]) -> Result<(), Invalid> {
    if limits.len() > OfferTerms::MAX_LIMITS {
        return Err(Invalid::new("limits", format!("{} rules, at most 8 are allowed", limits.len())));
    }
    for (index, rule) in limits.iter().enumerate() {
        if limits[..index].iter().any(|other| (other.subject, other.per) == (rule.subject, rule.per)) {
            return Err(Invalid::new("limits", "two rules share a subject and scope"));
        }
    }
    Ok(())
}

impl TryFrom<RawOffer> for OfferTerms {
    type Error = Invalid;

    fn try_from(raw: RawOffer) -> Result<Self, Invalid> {
        if raw.overbook_percent.is_some() && raw.strategy != Strategy::PayTime {
            return Err(Invalid::new("overbook_percent", "only pay_time has an overbook percentage"));
        }
        let hold = raw.hold_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        Ok(Self::new(raw.sku_id, raw.price, raw.units, raw.strategy, hold)?
            .with_limits(raw.limits)?
            .with_overbook(raw.overbook_percent.unwrap_or_default())
            .with_late_capture(raw.late_capture))
    }
}

impl From<OfferTerms> for RawOffer {
    fn from(offer: OfferTerms) -> Self {
        Self {
            sku_id: offer.sku,
            price: offer.price,
            units: offer.units,
            strategy: offer.strategy,
            hold_seconds: offer.hold.map(|hold| u32::try_from(hold.as_secs()).unwrap_or(u32::MAX)),
            overbook_percent: (offer.strategy == Strategy::PayTime).then_some(offer.overbook),
            late_capture: offer.late_capture,
            limits: offer.limits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Per, Subject};

    fn price() -> Money {
        Money::new(100, "CNY".parse().unwrap()).unwrap()
    }

    #[test]
    fn invalid_terms_are_refused() {
        let sku = SkuId::new(1).unwrap();
        let hold = Some(Duration::from_secs(60));
        assert!(OfferTerms::new(sku, price(), 0, Strategy::PreDeduct, hold).is_err());
        assert!(OfferTerms::new(sku, price(), 1, Strategy::PreDeduct, None).is_err());
        assert!(OfferTerms::new(sku, price(), 1, Strategy::PayTime, None).is_err());
        assert!(OfferTerms::new(sku, price(), 1, Strategy::OrderTime, None).is_ok());
        assert!(OfferTerms::new(sku, price(), 1, Strategy::OrderTime, Some(Duration::ZERO)).is_err());
        let rule = LimitRule::new(Subject::User, Per::Offer, 1).unwrap();
        let terms = OfferTerms::new(sku, price(), 1, Strategy::PreDeduct, hold).unwrap();
        assert!(terms.with_limits(vec![rule, rule]).is_err());
    }

    #[test]
    fn the_largest_order_is_bounded_by_units_limits_and_quantity() {
        let cny: crate::domain::Currency = "CNY".parse().unwrap();
        let terms = |amount, units, max: &[u32]| {
            let price = Money::new(amount, cny).unwrap();
            let rule = |(per, max): (Per, u32)| LimitRule::new(Subject::User, per, max).unwrap();
            let limits = [Per::Offer, Per::Activity].into_iter().zip(max.iter().copied()).map(rule);
            let terms = OfferTerms::new(SkuId::new(1).unwrap(), price, units, Strategy::OrderTime, None);
            terms.unwrap().with_limits(limits.collect()).unwrap()
        };
        let most = Money::MAX_AMOUNT;
        for (amount, units, limits, largest) in [
            (100, 7, &[][..], Some(700)),
            (100, 7, &[5, 2][..], Some(200)),
            (most / 10_000, 1_000_000_000, &[][..], Some(most)),
            (most / 10_000 + 1, 1_000_000_000, &[][..], None),
            (most, 1, &[][..], Some(most)),
            (most, 2, &[][..], None),
            (most, 2, &[1][..], Some(most)),
        ] {
            let found = terms(amount, units, limits).largest_order();
            match largest {
                Some(largest) => assert_eq!(found.unwrap().amount(), largest),
                None => assert_eq!(found.unwrap_err().field, "price"),
            }
        }
    }

    #[test]
    fn quantities_are_positive_and_bounded() {
        for bad in ["0", "-5", "10001", "1.5", "4294967296"] {
            assert!(serde_json::from_str::<Quantity>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Quantity>("10000").unwrap().value(), 10_000);
    }
}
