//! The sale in all figures: one offer with a hold and a limit per user; each buyer orders one unit.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use flashsale_core::{
    domain::{
        ActivityId, Idempotency, Key, LimitRule, Money, Nonce, OfferTerms, OrderId, Per, Quantity, SkuId,
        Strategy, Subject, Subjects, Timestamp, UserId, Window,
    },
    ledger::{Lane, Reserve, ReserveMode, Terms, Timing},
};

/// The lane of the sale.
///
/// # Panics
/// Never: the id is valid.
pub fn lane() -> Lane {
    Lane::first(ActivityId::new(900_001).expect("not zero"))
}

/// Terms for `units` units, on sale since 1970, at most two per user, held for 15 minutes.
///
/// # Panics
/// If `units` is not from 1 to 10⁹.
pub fn terms(units: u32) -> Arc<Terms> {
    let price = Money::new(129_900, "CNY".parse().expect("a currency")).expect("a price");
    let limit = LimitRule::new(Subject::User, Per::Offer, 2).expect("not zero");
    let hold = Some(Duration::from_secs(900));
    let offer = OfferTerms::new(sku(), price, units, Strategy::PreDeduct, hold)
        .and_then(|offer| offer.with_limits(vec![limit]))
        .expect("units from 1 to 10^9");
    let window = Window::new(Timestamp::EPOCH, Timestamp::MAX).expect("ends after it begins");
    let terms = Terms::new(lane().activity, window, NonZeroU16::MIN, Timing::default(), vec![offer]);
    Arc::new(terms.expect("one offer"))
}

/// The first request of the `n`-th buyer, with key and nonce as wide as in real requests.
///
/// # Panics
/// Never for `n` below 2⁶⁰.
pub fn request(n: u64) -> Reserve {
    let key = u128::from(scrambled(3 * n)) << 64 | u128::from(scrambled(3 * n + 1));
    Reserve {
        order: OrderId::new((1 << 61) + n).expect("not zero"),
        user: UserId::new(4_000_000_000 + n).expect("not zero"),
        sku: sku(),
        quantity: Quantity::ONE,
        idempotency: Idempotency { key: Key(key), nonce: Nonce(scrambled(3 * n + 2)) },
        subjects: Subjects::default(),
        mode: ReserveMode::NewOrder,
    }
}

/// The first requests of a range of buyers.
pub fn requests(buyers: std::ops::Range<u64>) -> Vec<Reserve> {
    buyers.map(request).collect()
}

fn sku() -> SkuId {
    SkuId::new(700_001).expect("not zero")
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn scrambled(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
