//! The stored form of values: every version that was ever written must be read, and none is guessed at.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{num::NonZeroU16, sync::Arc};

use flashsale_core::{
    domain::{
        ActivityId, Idempotency, Key, Money, Nonce, OfferTerms, Order, Quantity, Strategy, Subjects,
        Timestamp, UserId, Window,
    },
    ledger::{
        BatchId, Entry, Lane, LedgerRole, Reserve, ReserveMode, Terms, Timing,
        state_machine::{Batch, StateMachine},
        wire::{self, Unreadable, Wire},
    },
};

/// A rule and its check.
type Rule = (&'static str, fn() -> Result<(), String>);

/// The rules of the stored form of a value.
pub(crate) const RULES: &[Rule] = &[
    ("a newer version is refused", a_newer_version_is_refused),
    ("damaged bytes are refused", damaged_bytes_are_refused),
];

fn a_newer_version_is_refused() -> Result<(), String> {
    fn refuses<T: Wire + std::fmt::Debug>(bytes: &[u8]) -> Result<(), String> {
        let newer: Vec<u8> = std::iter::once(T::VERSION + 1).chain(bytes.iter().copied()).collect();
        match wire::decode::<T>(&newer) {
            Err(Unreadable::Unknown { found, supported, .. }) if found == supported + 1 => Ok(()),
            other => Err(format!("{}: {other:?}", T::KIND)),
        }
    }
    // The bytes of an order of this version behind the number of the next.
    refuses::<Order>(&stored_order()[1..])?;
    refuses::<Entry>(&[])?;
    refuses::<Terms>(&[])
}

fn damaged_bytes_are_refused() -> Result<(), String> {
    let stored = stored_order();
    for length in 0..stored.len() {
        if wire::decode::<Order>(&stored[..length]).is_ok() {
            return Err(format!("an order was read from its first {length} bytes"));
        }
    }
    let earlier = wire::decode::<Order>(&[0, 1, 2]);
    matches!(earlier, Err(Unreadable::Unknown { found: 0, .. })).then_some(()).ok_or(format!("{earlier:?}"))
}

fn stored_order() -> Vec<u8> {
    let mut machine = StateMachine::new(LedgerRole::Single);
    let price = Money::new(100, "CNY".parse().unwrap()).unwrap();
    let offer = OfferTerms::new(1_u64.try_into().unwrap(), price, 9, Strategy::OrderTime, None).unwrap();
    let window = Window::new(Timestamp::EPOCH, Timestamp::MAX).unwrap();
    let activity = ActivityId::new(1).unwrap();
    let terms = Terms::new(activity, window, NonZeroU16::MIN, Timing::default(), vec![offer]).unwrap();
    let batch = Batch { id: BatchId(1), now: Timestamp::from_millis(1_000) };
    machine.open(batch, &Arc::new(terms)).unwrap();
    let user = UserId::new(7).unwrap();
    let request = Reserve {
        order: 5_u64.try_into().unwrap(),
        user,
        sku: 1_u64.try_into().unwrap(),
        quantity: Quantity::ONE,
        idempotency: Idempotency { key: Key(1), nonce: Nonce(1) },
        subjects: Subjects::default(),
        mode: ReserveMode::NewOrder,
    };
    machine.reserve(batch, Lane::first(activity), None, &[request]).unwrap();
    wire::encode(&machine.orders_of(user, None, 1)[0])
}
