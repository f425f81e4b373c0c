//! Many buyers at once.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fastrand::Rng;
use flashsale_core::domain::{OrderStatus, UserId};
use hyper::StatusCode;
use tokio::task::JoinSet;

use super::{Buyer, Ending, Notes, Offer, Part, Shop};
use crate::client::Client;

/// A crowd: every user plays one part for one of the offers, which the seed chooses.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Numbers of the users.
    pub users: Range<u64>,
    /// The offers.
    pub offers: Vec<Offer>,
    /// Connections that are kept busy at the same time.
    pub connections: usize,
    /// Decides who plays what.
    pub seed: u64,
    /// The part that everybody plays; `None` for one drawn for each.
    pub part: Option<Part>,
}

impl Crowd {
    /// Lets everybody buy. A buyer whose server goes away gives up, and so does its connection's queue; what was not
    /// answered is in the notes.
    ///
    /// # Panics
    /// When a buyer panics, or a user's number is not an id.
    pub async fn buy(&self, shop: &Shop, notes: &Notes) {
        let crowd = Arc::new(self.clone());
        let (shop, next) = (Arc::new(shop.clone()), Arc::new(AtomicU64::new(self.users.start)));
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            let (crowd, shop, notes, next) = (crowd.clone(), shop.clone(), notes.clone(), next.clone());
            connections.spawn(async move {
                let mut client = Client::new(shop.public);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= crowd.users.end {
                        break;
                    }
                    if let Err(interrupted) = crowd.play(&shop, &notes, &mut client, number).await {
                        notes.count("interrupted");
                        return Some(interrupted);
                    }
                }
                None
            });
        }
        while let Some(ended) = connections.join_next().await {
            ended.expect("a buyer does not panic");
        }
    }

    async fn play(
        &self,
        shop: &Shop,
        notes: &Notes,
        client: &mut Client,
        number: u64,
    ) -> Result<(), super::Interrupted> {
        let user = UserId::new(number).expect("a user's number from 1");
        let mut random = Rng::with_seed(self.seed.wrapping_add(number));
        let offer = self.offers[random.usize(0..self.offers.len())];
        let part = self.part.unwrap_or_else(|| Part::draw(&mut random, offer.per_user));
        let buyer = Buyer::sign_in(shop, notes, client, user).await?;
        buyer.play(client, &offer, part).await
    }

    /// Captures, as the provider, every payment that a buyer left open to pay late, once its order has expired; then
    /// the order has a refund, or another order replaces it.
    ///
    /// # Errors
    /// When the server goes away.
    ///
    /// # Panics
    /// When a user's number is not an id.
    pub async fn pay_late(&self, shop: &Shop, notes: &Notes) -> Result<(), super::Interrupted> {
        let mut client = Client::new(shop.public);
        for (number, purchase) in notes.purchases().into_iter().enumerate() {
            let Some(placed) = purchase.placed else { continue };
            let (Ending::PayLate, Some(payment)) = (purchase.ending, placed.payment) else { continue };
            let buyer = Buyer::sign_in(shop, notes, &mut client, purchase.user).await?;
            let Some(view) = buyer.watch(&mut client, &placed.order, |view| !view.status.is_open()).await?
            else {
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
                let answer = shop
                    .provider
                    .callback(&mut client, &payment, "captured", &view.amount, &transaction)
                    .await?;
                if answer.status != StatusCode::OK {
                    notes.violation(format!("the late capture of payment {payment}: {answer}"));
                }
            }
            notes.placed(number, |placed| placed.captured.push(transaction));
            notes.count("captured late");
        }
        Ok(())
    }
}
