//! What buyers and providers do after the sale, or after a restart of the server.

use std::sync::Arc;

use flashsale_core::domain::OrderStatus;
use hyper::StatusCode;
use tokio::task::JoinSet;

use super::{Buyer, ClientLog, Ending, Interrupted, Purchase, Shop};
use crate::client::Client;

/// The number of connections for repeated requests.
const CONNECTIONS: usize = 16;

/// Repeats the requests of all purchases from number `first` on, as clients do after a crash. A
/// buyer who knows an order gets the same one again; the others now get one or are declined. The
/// provider repeats its captures, including unanswered ones: a captured order is paid or refunded.
///
/// # Panics
/// If the server goes away, or a buyer panics.
pub async fn come_again(shop: &Shop, log: &ClientLog, first: usize) {
    let purchases: Vec<(usize, Purchase)> = log.purchases().into_iter().enumerate().skip(first).collect();
    let shop = Arc::new(shop.clone());
    let mut connections = JoinSet::new();
    for share in purchases.chunks(purchases.len().div_ceil(CONNECTIONS).max(1)) {
        let (shop, log, share) = (shop.clone(), log.clone(), share.to_vec());
        connections.spawn(async move {
            let mut client = Client::new(shop.public);
            for (number, purchase) in share {
                let buyer = Buyer::sign_in(&shop, &log, &mut client, purchase.user).await?;
                buyer.come_again(&mut client, number, &purchase).await?;
            }
            Ok::<_, Interrupted>(())
        });
    }
    for ended in connections.join_all().await {
        ended.unwrap_or_else(|interrupted| panic!("the server went away: {}", interrupted.0));
    }
}

/// Captures each payment left open to be paid late, after its order has expired.
///
/// # Errors
/// If the server goes away.
///
/// # Panics
/// If the system clock is before 1970.
pub async fn pay_late(shop: &Shop, log: &ClientLog) -> Result<(), Interrupted> {
    let mut client = Client::new(shop.public);
    for (number, purchase) in log.purchases().into_iter().enumerate() {
        let Some(placed) = purchase.placed else { continue };
        let (Ending::PayLate, Some(payment)) = (purchase.ending, placed.payment) else { continue };
        let buyer = Buyer::sign_in(shop, log, &mut client, purchase.user).await?;
        let Some(view) = buyer.watch(&mut client, &placed.order, |view| !view.status.is_open()).await? else {
            continue;
        };
        log.told(number, &view);
        if view.status != OrderStatus::Expired {
            log.violation(format!("order {} should have expired unpaid, but is {view:?}", placed.order));
            continue;
        }
        let transaction = format!("late-{payment}");
        // Providers repeat callbacks until they are answered, and sometimes once more.
        for _ in 0..2 {
            let answer =
                shop.provider.callback(&mut client, &payment, "captured", &view.amount, &transaction).await?;
            if answer.status != StatusCode::OK {
                log.violation(format!("answer to the late capture of payment {payment}: {answer}"));
            }
        }
        log.placed(number, |placed| placed.captured.push(transaction));
        log.count("captured late");
    }
    Ok(())
}
