//! The names of rows in the table `lane_row`.

use flashsale_core::{
    domain::Subject,
    ledger::{AdjustmentId, rows::RowKey},
};

/// What the names of adjustments begin with. `adjustments.sql` knows it too.
const ADJUSTMENT: &[u8] = b"adjustment/";

/// Names a row. Units have a table of their own.
pub(super) fn name_of(key: &RowKey) -> Vec<u8> {
    let text = match key {
        RowKey::Head => "head".to_owned(),
        RowKey::Terms => "terms".to_owned(),
        RowKey::Units(sku) => format!("units/{sku}"),
        RowKey::Counter(subject, id, sku) => {
            let subject = match subject {
                Subject::User => "user",
                Subject::Device => "device",
                Subject::Address => "address",
            };
            let sku = sku.map_or_else(|| "all".to_owned(), |sku| sku.to_string());
            format!("counter/{subject}/{id:016x}/{sku}")
        }
        RowKey::Adjustment(id) => return [ADJUSTMENT, id.0.as_str().as_bytes()].concat(),
        RowKey::Payment(payment) => format!("payment/{payment}"),
        RowKey::Capture(digest) => format!("capture/{digest:032x}"),
        RowKey::Kept(payment) => format!("kept/{payment}"),
        RowKey::Consumers => "consumers".to_owned(),
    };
    text.into_bytes()
}

/// Reads the id in the name of an adjustment.
pub(super) fn adjustment_of(name: &[u8]) -> Option<AdjustmentId> {
    let id = std::str::from_utf8(name.strip_prefix(ADJUSTMENT)?).ok()?;
    AdjustmentId::new(id).ok()
}
