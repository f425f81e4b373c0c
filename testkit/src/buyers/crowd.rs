//! A crowd of concurrent buyers.

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

/// A crowd of users. Each follows one script for one offer, both chosen by the seed.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// The user ids.
    pub users: Range<u64>,
    /// The offers.
    pub offers: Vec<Offer>,
    /// The number of concurrent connections.
    pub connections: usize,
    /// Determines every user's offer and script.
    pub seed: u64,
    /// The script that everyone follows; `None` to draw one per user.
    pub part: Option<BuyerScript>,
}

impl Crowd {
    /// Runs all buyers. If the server goes away, a connection stops with its remaining users;
    /// unanswered requests are in the log.
    ///
    /// # Panics
    /// If a buyer panics, or a user number is not a valid id.
    pub async fn buy(&self, shop: &Shop, log: &ClientLog) {
        let crowd = Arc::new(self.clone());
        let (shop, next) = (Arc::new(shop.clone()), Arc::new(AtomicU64::new(self.users.start)));
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            let (crowd, shop, log, next) = (crowd.clone(), shop.clone(), log.clone(), next.clone());
            connections.spawn(async move {
                let mut client = Client::new(shop.public);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= crowd.users.end {
                        break;
                    }
                    if let Err(interrupted) = crowd.play(&shop, &log, &mut client, number).await {
                        log.count("interrupted");
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
        log: &ClientLog,
        client: &mut Client,
        number: u64,
    ) -> Result<(), super::Interrupted> {
        let user = UserId::new(number).expect("user numbers start at 1");
        let mut random = Rng::with_seed(self.seed.wrapping_add(number));
        let offer = self.offers[random.usize(0..self.offers.len())];
        let part = self.part.unwrap_or_else(|| BuyerScript::draw(&mut random, offer.per_user));
        let buyer = Buyer::sign_in(shop, log, client, user).await?;
        buyer.play(client, &offer, part).await
    }
}
