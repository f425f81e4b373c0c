//! Order receipts: signed text with an order's buyer and its position in the outbox.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flashsale_core::{
    domain::{OrderRef, UserId},
    ledger::{BatchId, Epoch, Position},
};
use subtle::ConstantTimeEq as _;

use crate::auth::keyring::Ring;

/// Version 1 did not bind the activity.
const VERSION: u8 = 2;
const MAC: usize = 32;
/// Version (1 byte), then user, epoch, sequence and batch (8 bytes each).
const FIELDS: usize = 1 + 4 * 8;
const LENGTH: usize = FIELDS + MAC;
const CONTEXT: &str = "flashsale server v1: MAC of a receipt";

/// The content of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The buyer.
    pub user: UserId,
    /// The position of the order's entry in the outbox, or of a later one.
    pub position: Position,
}

/// Issues and verifies receipts. A receipt is valid as long as its key is accepted.
pub struct Receipts {
    /// The first signs, all are accepted.
    keys: Vec<[u8; 32]>,
}

impl fmt::Debug for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipts").finish_non_exhaustive()
    }
}

impl Receipts {
    /// Creates receipts keyed by `ring`.
    pub fn new(ring: &Ring) -> Self {
        Self { keys: ring.iter().map(|secret| blake3::derive_key(CONTEXT, secret.expose())).collect() }
    }

    /// Issues the receipt of an order as URL-safe text.
    pub fn issue(&self, order: OrderRef, receipt: Receipt) -> String {
        let Receipt { user, position } = receipt;
        let mut bytes = [0; LENGTH];
        let (fields, mac) = bytes.split_at_mut(FIELDS);
        fields[0] = VERSION;
        let values = [user.value(), position.epoch.0, position.sequence, position.batch.0];
        for (place, value) in fields[1..].chunks_exact_mut(8).zip(values) {
            place.copy_from_slice(&value.to_be_bytes());
        }
        mac.copy_from_slice(self::mac(&self.keys[0], order, fields).as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Verifies a receipt; `None` if it is not authentic or belongs to another order.
    pub fn verify(&self, order: OrderRef, text: &str) -> Option<Receipt> {
        let mut bytes = [0; LENGTH];
        // The buffer fits exactly one receipt, so longer text is rejected before it is decoded.
        if URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? != LENGTH {
            return None;
        }
        let (fields, mac) = bytes.split_at(FIELDS);
        let signed = |key| bool::from(self::mac(key, order, fields).as_bytes().ct_eq(mac));
        if !self.keys.iter().any(signed) || fields[0] != VERSION {
            return None;
        }
        let value = |index: usize| Some(u64::from_be_bytes(*fields[1 + 8 * index..].first_chunk::<8>()?));
        let position = Position { epoch: Epoch(value(1)?), sequence: value(2)?, batch: BatchId(value(3)?) };
        Some(Receipt { user: UserId::new(value(0)?)?, position })
    }
}

fn mac(key: &[u8; 32], order: OrderRef, fields: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&order.activity.value().to_be_bytes());
    hasher.update(&order.order.value().to_be_bytes());
    hasher.update(fields);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_receipt_is_valid_only_for_its_order_and_with_its_key() {
        let receipts = Receipts::new(&Ring::new(Secret::new(*b"one secret of the tests"), []));
        let others = Receipts::new(&Ring::new(Secret::new(*b"another one of the tests"), []));
        let [order, other, elsewhere] = ["1-16", "1-17", "2-16"].map(|order| order.parse().unwrap());
        let position = Position { epoch: Epoch(1), sequence: 2, batch: BatchId(u64::MAX) };
        let receipt = Receipt { user: UserId::new(7).unwrap(), position };
        let text = receipts.issue(order, receipt);
        assert_eq!(receipts.verify(order, &text), Some(receipt));
        assert_eq!(receipts.verify(other, &text), None);
        assert_eq!(receipts.verify(elsewhere, &text), None);
        assert_eq!(others.verify(order, &text), None);
        for place in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(receipts.verify(order, str::from_utf8(&altered).unwrap()), None, "{place}");
        }
        for bad in ["", "A", &text[1..], &format!("{text}A"), &text.repeat(100)] {
            assert_eq!(receipts.verify(order, bad), None);
        }
    }
}
