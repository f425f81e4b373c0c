//! What buyers and providers do when the rush is over, or when the server is back.

use std::sync::Arc;

use flashsale_core::domain::OrderStatus;
use hyper::StatusCode;
use tokio::task::JoinSet;

use super::{Buyer, ClientLog, Ending, Interrupted, Purchase, Shop};
use crate::client::Client;

/// Connections on which buyers come again.
const CONNECTIONS: usize = 16;

/// Lets the buyers of all purchases from number `first` on repeat what they sent, as after a crash: who was told of an
/// order gets the same one, and who was not is now either told of it or declined. Their provider repeats its captures,
/// also those that got no answer, and each captured order is paid or has its refund.
///
/// # Panics
/// When the server goes away, or a buyer panics.
pub async fn come_again(shop: &Shop, notes: &ClientLog, first: usize) {
    let purchases: Vec<(usize, Purchase)> = notes.purchases().into_iter().enumerate().skip(first).collect();
    let shop = Arc::new(shop.clone());
    let mut connections = JoinSet::new();
    for share in purchases.chunks(purchases.len().div_ceil(CONNECTIONS).max(1)) {
        let (shop, notes, share) = (shop.clone(), notes.clone(), share.to_vec());
        connections.spawn(async move {
            let mut client = Client::new(shop.public);
            for (number, purchase) in share {
                let buyer = Buyer::sign_in(&shop, &notes, &mut client, purchase.user).await?;
                buyer.come_again(&mut client, number, &purchase).await?;
            }
            Ok::<_, Interrupted>(())
        });
    }
    for ended in connections.join_all().await {
        ended.unwrap_or_else(|interrupted| panic!("the server goes away: {}", interrupted.0));
    }
}

/// Captures, as the provider, every payment that a buyer left open to pay late, once its order has expired; then the
/// order has a refund, or another order replaces it.
///
/// # Errors
/// When the server goes away.
///
/// # Panics
/// When a user's number is not an id.
pub async fn pay_late(shop: &Shop, notes: &ClientLog) -> Result<(), Interrupted> {
    let mut client = Client::new(shop.public);
    for (number, purchase) in notes.purchases().into_iter().enumerate() {
        let Some(placed) = purchase.placed else { continue };
        let (Ending::PayLate, Some(payment)) = (purchase.ending, placed.payment) else { continue };
        let buyer = Buyer::sign_in(shop, notes, &mut client, purchase.user).await?;
        let Some(view) = buyer.watch(&mut client, &placed.order, |view| !view.status.is_open()).await? else {
            continue;
        };
        notes.told(number, &view);
        if view.status != OrderStatus::Expired {
            notes.violation(format!("nobody paid for order {}, and it is {view:?}", placed.order));
            continue;
        }
        let transaction = format!("late-{payment}");
        // The provider comes again until it is answered, and sometimes once more.
        for _ in 0..2 {
            let answer =
                shop.provider.callback(&mut client, &payment, "captured", &view.amount, &transaction).await?;
            if answer.status != StatusCode::OK {
                notes.violation(format!("the late capture of payment {payment}: {answer}"));
            }
        }
        notes.placed(number, |placed| placed.captured.push(transaction));
        notes.count("captured late");
    }
    Ok(())
}
