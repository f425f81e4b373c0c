//! Collecting units from other lanes, before anybody is told that an offer is sold out.

use std::sync::Arc;

use crate::{
    domain::SkuId,
    ledger::{Ledger, LedgerError, Transfer},
    service::{LaneFront, Sale},
};

/// Brings units of an offer into a lane: first those that are on their way anywhere, then from other lanes, at least
/// `wanted` if they have that many, and half of what each has so that the next buyer does not wait.
///
/// Answers how many arrived; `None` if another collection for the lane ended since `seen`, the number that
/// [`LaneFront::borrowings`] showed before the lane was found empty: then it is worth asking the lane again first.
///
/// # Errors
/// Those of the ledger. Units that left a lane are in its journalled transfers, and arrive by a repetition.
pub(in crate::service) async fn borrow_units(
    ledger: &Arc<dyn Ledger>,
    sale: &Sale,
    front: &LaneFront,
    seen: u64,
    sku: SkuId,
    wanted: u32,
) -> Result<Option<u32>, LedgerError> {
    if sale.fronts().len() == 1 {
        return Ok(Some(0));
    }
    let _one_at_a_time = front.borrowing.lock().await;
    if front.borrowings() != seen {
        return Ok(None);
    }
    let borrowed = borrow_units_alone(ledger, sale, front, sku, wanted).await;
    front.count_borrowing();
    borrowed.map(Some)
}

async fn borrow_units_alone(
    ledger: &Arc<dyn Ledger>,
    sale: &Sale,
    front: &LaneFront,
    sku: SkuId,
    wanted: u32,
) -> Result<u32, LedgerError> {
    let mut borrowed = 0;
    for source in sale.fronts() {
        for transfer in ledger.transfers(source.lane).await? {
            // Of any offer: transfers arrive in their order, so one that is skipped would hold up the others.
            let arrived = settle_transfer(ledger, transfer).await?;
            if transfer.sku == sku && transfer.to == front.lane.bucket {
                borrowed += arrived;
            }
        }
    }
    for other in sale.fronts().iter().filter(|other| other.lane != front.lane) {
        if borrowed >= wanted {
            break;
        }
        let offers = ledger.view(other.lane).await?.offers;
        let left = offers.iter().find(|offer| offer.sku == sku).map_or(0, |offer| offer.takeable);
        let units = (wanted - borrowed).max(left / 2);
        if let Some(transfer) = ledger.send(other.lane, front.lane.bucket, sku, units).await? {
            borrowed += settle_transfer(ledger, transfer).await?;
        }
    }
    Ok(borrowed)
}

/// Brings a transfer to its destination, and lets the source forget it when it is there.
///
/// # Errors
/// Those of the ledger; the transfer stays journalled at its source.
pub(in crate::service) async fn settle_transfer(
    ledger: &Arc<dyn Ledger>,
    transfer: Transfer,
) -> Result<u32, LedgerError> {
    if !ledger.receive(transfer).await? {
        return Ok(0);
    }
    ledger.forget(transfer).await?;
    Ok(transfer.units)
}
