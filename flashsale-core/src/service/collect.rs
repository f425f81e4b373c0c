//! Collecting units from other lanes, before anybody is told that an offer is sold out.

use std::sync::Arc;

use super::{Front, Sale};
use crate::{
    domain::SkuId,
    ledger::{Ledger, LedgerError, Transfer},
};

/// Brings units of an offer into a lane: those that are on their way to it, then from other lanes, at least `wanted` if
/// they have that many, and half of what each has so that the next buyer does not wait. Answers how many arrived.
///
/// # Errors
/// Those of the ledger. Units that left a lane are in its journalled transfers, and arrive by a repetition.
pub(super) async fn collect(
    ledger: &Arc<dyn Ledger>,
    sale: &Sale,
    front: &Front,
    sku: SkuId,
    wanted: u32,
) -> Result<u32, LedgerError> {
    if sale.fronts().len() == 1 {
        return Ok(0);
    }
    let _one_at_a_time = front.collecting.lock().await;
    let mut collected = 0;
    for other in sale.fronts().iter().filter(|other| other.lane != front.lane) {
        for transfer in ledger.transfers(other.lane).await? {
            if transfer.to == front.lane.bucket && transfer.sku == sku {
                collected += deliver(ledger, transfer).await?;
            }
        }
        if collected >= wanted {
            break;
        }
        let left = ledger
            .view(other.lane)
            .await?
            .offers
            .iter()
            .find(|offer| offer.sku == sku)
            .map_or(0, |offer| offer.takeable);
        let units = (wanted - collected).max(left / 2);
        if let Some(transfer) = ledger.send(other.lane, front.lane.bucket, sku, units).await? {
            collected += deliver(ledger, transfer).await?;
        }
    }
    Ok(collected)
}

/// Brings a transfer to its destination, and lets the source forget it when it is there.
///
/// # Errors
/// Those of the ledger; the transfer stays journalled at its source.
pub(super) async fn deliver(ledger: &Arc<dyn Ledger>, transfer: Transfer) -> Result<u32, LedgerError> {
    if !ledger.receive(transfer).await? {
        return Ok(0);
    }
    ledger.forget(transfer).await?;
    Ok(transfer.units)
}
