//! Accepted orders: each is its buyer's first, with its own ticket issued in advance. The server
//! persists each order before it answers.

use std::{path::Path, time::Duration};

use flashsale_core::{
    admission::{Claims, TicketKeys},
    domain::{ActivityId, Clock as _, Name, SkuId, SystemClock, UserId},
};
use reference_server::{auth::keyring::Keyring, config::Config};
use serde_json::json;
use tokio::runtime::Runtime;

use super::{
    CONNECTIONS, SERVERS_CORE, Server, compare,
    load::{self, Requests, Target},
    shop::{self, Shop, Storage},
};
use crate::{Failure, machine, report::count};

/// Orders per measurement: a multiple of 32 connections times 16 pipelined requests.
const ORDERS: u64 = 204_800;

/// Enough for all measurements, with a wide margin.
const UNITS: u64 = 100 * ORDERS;

const SKU: u64 = 11;

/// The validity of tickets and holds: longer than all measurements together.
const LIFE: Duration = Duration::from_secs(6 * 3_600);

/// Measures and prints the figures.
pub(super) fn run(runtime: &Runtime, directory: &Path) -> Result<(), Failure> {
    machine::stay_on(SERVERS_CORE)?;
    let data = directory.join("data");
    let shop = Shop::start(directory, &Storage::Directory(data.clone()))?;
    let limits = json!([{ "subject": "user", "per": "offer", "max": 2 }]);
    let offer = json!({
        "sku_id": SKU.to_string(), "price": shop::price(), "units": UNITS, "strategy": "pre_deduct",
        "hold_seconds": LIFE.as_secs(), "limits": limits,
    });
    runtime.block_on(shop.sell(&json!([offer])))?;
    // Use the server's own ticket keys, from its data directory.
    let tickets = Keyring::load(&Config::default(), Some(&data))?.tickets;
    let mut buyers = Buyers { tickets, seen: 0 };

    let target = Target { address: shop.public, request: buyers.order()?, begins: "HTTP/1.1 201" };
    let answer = runtime.block_on(load::answer(&target))?;
    let mut orders = buyers.orders(ORDERS)?;
    compare(directory, "accepted", &answer, |server, depth| {
        let address = server.address(shop.public);
        let target = Target { address, ..target.clone() };
        let run = load::run_through(&target, &orders, answer.len(), CONNECTIONS, depth);
        let taken = match server {
            Server::Ours => runtime.block_on(run)?,
            Server::Bare(_) => {
                // Our server's remaining work on its orders must not slow down the reference.
                shop.process.hold();
                let taken = runtime.block_on(run);
                shop.process.resume();
                // Both servers have received these orders, so make new ones.
                orders = buyers.orders(ORDERS)?;
                taken?
            }
        };
        Ok(count(ORDERS) / taken.as_secs_f64())
    })?;

    // The last batch of orders was not sent.
    let placed = buyers.seen - ORDERS;
    let held = runtime.block_on(shop.held(SKU))?;
    if held == placed {
        Ok(())
    } else {
        Err(format!("{placed} orders were placed, but {held} units are held").into())
    }
}

/// An endless supply of buyers who have not ordered.
struct Buyers {
    tickets: TicketKeys,
    /// The number of buyers used.
    seen: u64,
}

impl Buyers {
    /// Builds the orders of the next `many` buyers, one unit each.
    fn orders(&mut self, many: u64) -> Result<Requests, Failure> {
        let orders: Vec<_> = (0..many).map(|_| self.order()).collect::<Result<_, _>>()?;
        Requests::new(orders)
    }

    fn order(&mut self) -> Result<Vec<u8>, Failure> {
        self.seen += 1;
        let claims = Claims {
            activity: ActivityId::new(1).ok_or("not zero")?,
            sku: SkuId::new(SKU).ok_or("not zero")?,
            user: UserId::new(4_000_000_000 + self.seen).ok_or("not zero")?,
            user_name: Name::new("Li")?,
            device: None,
        };
        let now = SystemClock.now();
        let ticket = self.tickets.issue(claims, now, now.after(LIFE))?;
        Ok(shop::order(&ticket.text))
    }
}
