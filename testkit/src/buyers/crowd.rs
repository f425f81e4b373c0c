//! Many buyers at once.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fastrand::Rng;
use flashsale_core::domain::UserId;
use tokio::task::JoinSet;

use super::{Buyer, BuyerScript, ClientLog, Offer, Shop};
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
    pub part: Option<BuyerScript>,
}

impl Crowd {
    /// Lets everybody buy. A buyer whose server goes away gives up, and so does its connection's queue; what was not
    /// answered is in the notes.
    ///
    /// # Panics
    /// When a buyer panics, or a user's number is not an id.
    pub async fn buy(&self, shop: &Shop, notes: &ClientLog) {
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
        notes: &ClientLog,
        client: &mut Client,
        number: u64,
    ) -> Result<(), super::Interrupted> {
        let user = UserId::new(number).expect("a user's number from 1");
        let mut random = Rng::with_seed(self.seed.wrapping_add(number));
        let offer = self.offers[random.usize(0..self.offers.len())];
        let part = self.part.unwrap_or_else(|| BuyerScript::draw(&mut random, offer.per_user));
        let buyer = Buyer::sign_in(shop, notes, client, user).await?;
        buyer.play(client, &offer, part).await
    }
}
