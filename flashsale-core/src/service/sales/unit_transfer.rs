//! Moving units between lanes, so that an offer is sold out only when every lane is empty.

use std::sync::Arc;

use crate::{
    domain::SkuId,
    ledger::{Ledger, LedgerCalls as _, LedgerError, Transfer},
    service::{LaneFront, Sale},
};

/// Borrows units of an offer for a lane: delivers every transfer in transit first, then asks the
/// other lanes until it has `wanted` units. It asks each for what is missing, or for half of its
/// stock if that is more, so that the next buyer need not wait.
///
/// Leaves it to [`settle_transfer`] to make the sources forget what has arrived: with two tiers, that
/// has to wait for the truth, and no buyer shall.
///
/// Returns how many units arrived. `seen` is the value of [`LaneFront::borrowings`] before the lane
/// was found empty; if another borrowing has finished since then, returns `None`: the lane may have
/// units again, so ask it first.
///
/// # Errors
/// Those of the ledger. Units that have left a lane are in its journalled transfers; a repetition
/// delivers them.
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
            // Of any offer: transfers arrive in order, so a skipped one would hold up the rest.
            let arrived = deliver(ledger, sale, transfer).await?;
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
            borrowed += deliver(ledger, sale, transfer).await?;
        }
    }
    Ok(borrowed)
}

/// Delivers a transfer to its destination. Returns the units that arrived: none if this process has
/// seen them arrive before, because they may be sold by now.
async fn deliver(ledger: &Arc<dyn Ledger>, sale: &Sale, transfer: Transfer) -> Result<u32, LedgerError> {
    let Some(destination) = sale.fronts().get(usize::from(transfer.to)) else { return Ok(0) };
    if destination.has_arrived(&transfer) || !ledger.receive(transfer).await? {
        return Ok(0);
    }
    destination.note_arrival(&transfer);
    Ok(transfer.units)
}

/// Delivers a transfer to its destination, then removes it from the source's journal, unless the
/// ledger has to keep it for a while.
///
/// # Errors
/// Those of the ledger. The transfer then stays journalled at its source.
pub(in crate::service) async fn settle_transfer(
    ledger: &Arc<dyn Ledger>,
    transfer: Transfer,
) -> Result<(), LedgerError> {
    if ledger.receive(transfer).await? {
        ledger.forget(transfer).await?;
    }
    Ok(())
}
