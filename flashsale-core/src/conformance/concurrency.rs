//! Concurrency: concurrent calls, and futures that are dropped halfway.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use tokio::{sync::Barrier, task::JoinSet};

use super::{
    Failure,
    case::cases,
    make::{self, STRATEGIES, limited, offer, rule},
    name,
    scene::{Check, Scene},
};
use crate::{
    domain::{Order, Per, Strategy, Subject},
    ledger::{Advance, Advanced, Lane, Ledger, LedgerCalls as _, LedgerError, Outcome, Reserve},
};

cases! {
    Deciding:
        the_last_units_are_sold_once,
        concurrent_requests_with_one_key_make_one_order,
        limits_hold_under_concurrent_requests,
        concurrent_captures_pay_once,
        concurrent_steps_end_an_order_once,
        dropped_requests_can_be_retried,
        dropped_steps_can_be_retried,
        concurrent_adjustments_are_applied_once;
    Buckets:
        concurrent_transfers_lose_no_units;
}

/// Sends one request in a batch of its own.
async fn ask(ledger: &Arc<dyn Ledger>, lane: Lane, request: Reserve) -> Result<Outcome, LedgerError> {
    let answer = ledger.reserve(lane, None, vec![request]).await?;
    answer.outcomes.into_iter().next().ok_or_else(|| LedgerError::Unavailable("no outcome".into()))
}

async fn step(ledger: &Arc<dyn Ledger>, lane: Lane, step: Advance) -> Result<Advanced, LedgerError> {
    let answer = ledger.advance(lane, vec![step]).await?;
    answer.outcomes.into_iter().next().ok_or_else(|| LedgerError::Unavailable("no outcome".into()))
}

/// Runs all futures at once, as far as threads allow, and returns their answers in order.
async fn concurrently<T: Send + 'static>(
    work: Vec<impl Future<Output = Result<T, LedgerError>> + Send + 'static>,
) -> Result<Vec<T>, Failure> {
    // A larger barrier would only delay the start.
    let barrier = Arc::new(Barrier::new(work.len().min(64)));
    let mut tasks = JoinSet::new();
    for (index, work) in work.into_iter().enumerate() {
        let barrier = Arc::clone(&barrier);
        tasks.spawn(async move {
            if index < 64 {
                barrier.wait().await;
            }
            (index, work.await)
        });
    }
    let mut done = Vec::new();
    while let Some(task) = tasks.join_next().await {
        match task {
            Ok((index, Ok(answer))) => done.push((index, answer)),
            Ok((_, Err(error))) => return Err(super::failure::case_failure("no error", error.to_string())),
            Err(error) => return Err(super::failure::case_failure("no panic", error.to_string())),
        }
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, answer)| answer).collect())
}

fn count(words: &[String], what: &str) -> usize {
    words.iter().filter(|word| word.as_str() == what).count()
}

/// Exactly the offered units are sold, and repeating a winning request returns its order.
async fn the_last_units_are_sold_once(scene: &mut Scene) -> Check {
    let most = scene.options.buyers;
    for (buyers, units) in [(2, 1), (10, 1), (100, 7), (1_000, 100), (10_000, 100)] {
        let buyers = buyers.min(most);
        let rounds = if buyers > 1_000 { 1 } else { scene.options.rounds };
        for round in 0..rounds {
            let strategy = STRATEGIES[usize::try_from(round % 3).unwrap_or(0)];
            let overbooked = if strategy == Strategy::PayTime { units * 150 / 100 } else { units };
            scene.open(vec![offer(1, strategy, units)]).await?;
            scene.note(format!("{buyers} concurrent buyers, {units} units, {strategy:?}"));
            let requests: Vec<_> = (1..=u64::from(buyers)).map(|buyer| scene.ask(buyer).0).collect();
            let mut answers = Vec::new();
            for _ in 0..2 {
                let race = requests.iter().map(|request| {
                    let (ledger, lane, request) =
                        (scene.ledger(), scene.lane(request.user.value()), *request);
                    async move { ask(&ledger, lane, request).await }
                });
                let outcomes = concurrently(race.collect()).await?;
                answers.push(outcomes.iter().map(name::of_outcome).collect::<Vec<_>>());
            }
            let sold = usize::try_from(overbooked.min(buyers)).unwrap_or(usize::MAX);
            scene.same("count of `reserved`", sold, count(&answers[0], "reserved"))?;
            scene.same("count of `sold_out 0`", answers[0].len() - sold, count(&answers[0], "sold_out 0"))?;
            let again = answers[0].iter().map(|first| match first.as_str() {
                "reserved" => "replayed pending".to_owned(),
                declined => declined.to_owned(),
            });
            scene.same("outcomes of the repeated requests", again.collect::<Vec<_>>(), answers[1].clone())?;
            scene.check().await?;
            let held = if strategy == Strategy::PayTime { 0 } else { sold.try_into().unwrap_or(i64::MAX) };
            scene.stock(1, [i64::from(units) - held, held, 0]).await?;
        }
    }
    Ok(())
}

/// A key is reused while the first request is in flight.
async fn concurrent_requests_with_one_key_make_one_order(scene: &mut Scene) -> Check {
    for _ in 0..scene.options.rounds {
        scene.open(vec![offer(1, Strategy::PreDeduct, 99)]).await?;
        let first = scene.ask(1);
        scene.note("64 concurrent requests with one key");
        let race: Vec<_> = (0..64)
            .map(|_| {
                let (ledger, lane, request) = (scene.ledger(), scene.lane(1), first.id(scene.fresh()).0);
                async move { ask(&ledger, lane, request).await }
            })
            .collect();
        let outcomes = concurrently(race).await?;
        let words: Vec<_> = outcomes.iter().map(name::of_outcome).collect();
        scene.same("count of `reserved`", 1, count(&words, "reserved"))?;
        scene.same("count of `replayed pending`", 63, count(&words, "replayed pending"))?;
        let mut ids: Vec<_> = outcomes.iter().filter_map(|outcome| Some(outcome.order()?.key.id)).collect();
        ids.dedup();
        scene.same("number of orders", 1, ids.len())?;
        scene.check().await?;
        scene.stock(1, [98, 1, 0]).await?;
    }
    Ok(())
}

/// Mistake: concurrent requests of one buyer exceed the limit.
async fn limits_hold_under_concurrent_requests(scene: &mut Scene) -> Check {
    for _ in 0..scene.options.rounds {
        scene
            .open(vec![limited(offer(1, Strategy::PreDeduct, 99), &[rule(Subject::User, Per::Offer, 3)])])
            .await?;
        scene.note("64 concurrent requests of one buyer");
        let race: Vec<_> = (0..64)
            .map(|_| {
                let (ledger, lane, request) = (scene.ledger(), scene.lane(1), scene.ask(1).0);
                async move { ask(&ledger, lane, request).await }
            })
            .collect();
        let words: Vec<_> = concurrently(race).await?.iter().map(name::of_outcome).collect();
        scene.same("count of `reserved`", 3, count(&words, "reserved"))?;
        scene.same("limited requests", 61, count(&words, "limit_reached user/offer 3 remaining 0"))?;
        scene.check().await?;
        scene.stock(1, [96, 3, 0]).await?;
    }
    Ok(())
}

/// Mistake: 64 concurrent deliveries all pass the "seen?" check.
async fn concurrent_captures_pay_once(scene: &mut Scene) -> Check {
    for _ in 0..scene.options.rounds {
        scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
        let order = scene.place(1).await?;
        let payment = order.key.id.value();
        scene.open_payment(&order, payment, "done paying").await?;
        scene.note("64 concurrent deliveries of one capture");
        let race: Vec<_> = (0..64)
            .map(|_| {
                let (ledger, lane) = (scene.ledger(), scene.lane(1));
                let capture = make::capture_of(&order, payment, payment);
                let replacement = make::order_id(scene.fresh());
                let capture = Advance::Capture { order: order.key, capture, in_parts: false, replacement };
                async move { step(&ledger, lane, capture).await }
            })
            .collect();
        let words: Vec<_> = concurrently(race).await?.iter().map(name::of_advanced).collect();
        scene.same("count of `done paid`", 1, count(&words, "done paid"))?;
        scene.same("count of `replayed paid`", 63, count(&words, "replayed paid"))?;
        scene.check().await?;
        scene.stock(1, [8, 0, 1]).await?;
    }
    Ok(())
}

/// Mistake: concurrent cancellations and expiries of an order release its units twice.
async fn concurrent_steps_end_an_order_once(scene: &mut Scene) -> Check {
    for _ in 0..scene.options.rounds {
        scene.open(vec![offer(1, Strategy::PreDeduct, 9)]).await?;
        let mut orders = Vec::new();
        for buyer in 1..=4 {
            let order = scene.place(buyer).await?;
            let payment = order.key.id.value();
            scene.open_payment(&order, payment, "done paying").await?;
            scene.fail_payment(&order, payment, "done pending").await?;
            orders.push(order);
        }
        scene.time(100).await?;
        let other = scene.place(9).await?;
        scene.note("cancel, expire and capture concurrently");
        race_to_end(scene, &orders).await?;
        scene.check().await?;
        let mut paid = 0;
        for order in &orders {
            let order = scene.order(order.key.id, order.key.user.value()).await?;
            scene.holds("a terminal status", !order.status.is_open(), order.status)?;
            paid += i64::from(order.status == crate::domain::OrderStatus::Paid);
        }
        scene.stock(1, [8 - paid, 1, paid]).await?;
        scene.status(&other, "pending").await?;
    }
    Ok(())
}

async fn race_to_end(scene: &mut Scene, orders: &[Order]) -> Check {
    let mut race = Vec::new();
    for order in orders {
        for kind in 0..9 {
            let (ledger, lane) = (scene.ledger(), scene.lane(order.key.user.value()));
            let (key, payment) = (order.key, order.key.id.value());
            let capture = make::capture_of(order, payment, payment);
            let replacement = make::order_id(scene.fresh());
            race.push(async move {
                match kind % 3 {
                    0 => step(&ledger, lane, Advance::Cancel { order: key, by: None }).await.map(drop),
                    1 => ledger.expire_due(lane, 1).await.map(drop),
                    _ => step(
                        &ledger,
                        lane,
                        Advance::Capture { order: key, capture, in_parts: false, replacement },
                    )
                    .await
                    .map(drop),
                }
            });
        }
    }
    scene.rng.shuffle(&mut race);
    concurrently(race).await.map(drop)
}

/// Polls a future at most `polls` times, and drops it if it is not ready by then.
pub(super) async fn poll_at_most<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A dropped request may have been decided; repeating it with the same key makes one order.
async fn dropped_requests_can_be_retried(scene: &mut Scene) -> Check {
    for _ in 0..scene.options.rounds {
        scene.open(vec![offer(1, Strategy::PreDeduct, 40)]).await?;
        scene.note("100 buyers drop their requests halfway and repeat them");
        let requests: Vec<_> = (1..=100).map(|buyer| scene.ask(buyer).0).collect();
        let race = requests.iter().map(|request| {
            let (ledger, lane, request) = (scene.ledger(), scene.lane(request.user.value()), *request);
            let polls = scene.rng.u32(0..4);
            async move {
                let first = poll_at_most(polls, ask(&ledger, lane, request)).await.transpose()?;
                let second = ask(&ledger, lane, request).await?;
                let third = ask(&ledger, lane, request).await?;
                Ok((first, second, third))
            }
        });
        let race: Vec<_> = race.collect();
        let mut orders = std::collections::HashSet::new();
        for (first, second, third) in concurrently(race).await? {
            let made = second.order().map(|order| order.key);
            if let Some(first) = first.as_ref().and_then(Outcome::order) {
                scene.same("order in the first answer", Some(first.key), made)?;
            }
            scene.same("order in the third answer", made, third.order().map(|order| order.key))?;
            orders.extend(made);
        }
        scene.check().await?;
        let placed = scene.inspect(scene.activity()).await?.lanes.iter().map(|lane| lane.orders.len()).sum();
        scene.same("number of stored orders", orders.len(), placed)?;
        scene.same("number of orders", 40, orders.len())?;
        scene.stock(1, [0, 40, 0]).await?;
    }
    Ok(())
}

async fn dropped_steps_can_be_retried(scene: &mut Scene) -> Check {
    for _ in 0..scene.options.rounds {
        scene.open(vec![offer(1, Strategy::PayTime, 20)]).await?;
        let mut orders = Vec::new();
        for buyer in 1..=20 {
            orders.push(scene.place(buyer).await?);
        }
        scene.note("drop steps of 20 orders halfway and repeat them");
        let race = orders.iter().map(|order| {
            let (ledger, lane) = (scene.ledger(), scene.lane(order.key.user.value()));
            let (key, payment) = (order.key, order.key.id.value());
            let capture = make::capture_of(order, payment, payment);
            let replacement = make::order_id(scene.fresh());
            let polls: [u32; 2] = [scene.rng.u32(0..4), scene.rng.u32(0..4)];
            async move {
                let open = Advance::OpenPayment {
                    order: key,
                    payment: make::payment_id(payment),
                    provider: make::provider("sandbox"),
                    in_parts: false,
                };
                let pay = Advance::Capture { order: key, capture, in_parts: false, replacement };
                let mut last = Advanced::NotFound;
                for (polls, advance) in polls.into_iter().zip([open, pay]) {
                    poll_at_most(polls, step(&ledger, lane, advance.clone())).await.transpose()?;
                    last = step(&ledger, lane, advance).await?;
                }
                Ok(last)
            }
        });
        let race: Vec<_> = race.collect();
        for last in concurrently(race).await? {
            let word = name::of_advanced(&last);
            scene.holds("the order is paid", word.ends_with(" paid"), word)?;
        }
        scene.check().await?;
        scene.stock(1, [0, 0, 20]).await?;
    }
    Ok(())
}

async fn concurrent_adjustments_are_applied_once(scene: &mut Scene) -> Check {
    for _ in 0..scene.options.rounds {
        scene.open(vec![offer(1, Strategy::PreDeduct, 10)]).await?;
        scene.note("four adjustments, 16 times each, concurrently");
        let done = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut race = Vec::new();
        for n in 0..64 {
            let adjustment = crate::ledger::Adjustment {
                activity: scene.activity(),
                sku: make::sku(1),
                id: make::adjustment_id(&format!("adj-{}", n % 4)),
                delta: [5, -3, 7, -4][n % 4],
                by: make::by(),
            };
            let (ledger, done) = (scene.ledger(), Arc::clone(&done));
            race.push(async move {
                let adjusted = ledger.adjust(adjustment).await?;
                let made = usize::from(adjusted == crate::ledger::Adjusted::Done);
                done.fetch_add(made, Ordering::SeqCst);
                Ok(())
            });
        }
        concurrently(race).await?;
        scene.same("count of `done`", 4, done.load(Ordering::SeqCst))?;
        scene.check().await?;
        scene.stock(1, [15, 0, 0]).await?;
    }
    Ok(())
}

/// Units move between buckets while buyers take them.
async fn concurrent_transfers_lose_no_units(scene: &mut Scene) -> Check {
    for _ in 0..scene.options.rounds {
        scene.open_over(4, vec![offer(1, Strategy::PreDeduct, 60)]).await?;
        scene.note("120 concurrent buyers and 60 transfers over 4 buckets");
        let activity = scene.activity();
        let mut race: Vec<std::pin::Pin<Box<dyn Future<Output = _> + Send>>> = Vec::new();
        for buyer in 1..=120 {
            let (ledger, lane, request) = (scene.ledger(), scene.lane(buyer), scene.ask(buyer).0);
            race.push(Box::pin(async move { ask(&ledger, lane, request).await.map(drop) }));
        }
        for n in 0..60_u16 {
            let (ledger, lane) = (scene.ledger(), Lane { activity, bucket: n % 4 });
            let to = (n % 4 + 1 + n / 4 % 3) % 4;
            race.push(Box::pin(async move {
                ledger.send(lane, to, make::sku(1), 3).await?;
                // Concurrent tasks resend the same transfers.
                for transfer in ledger.transfers(lane).await? {
                    if ledger.receive(transfer).await? {
                        ledger.forget(transfer).await?;
                    }
                }
                Ok(())
            }));
        }
        scene.rng.shuffle(&mut race);
        concurrently(race).await?;
        scene.check().await?;
        for lane in scene.lanes() {
            for transfer in scene.ok("transfers", scene.ledger().transfers(lane).await)? {
                super::buckets::receive(scene, transfer, true).await?;
                super::buckets::forget(scene, transfer).await?;
            }
        }
        let stock = scene.ok("stock", scene.ledger().stock(activity, make::sku(1)).await)?;
        let stock = stock.ok_or_else(|| scene.failure("`stock` returns the units", "None".into()))?;
        scene.same("units in transit", 0, stock.transit)?;
        scene.same("units available or held", 60, stock.available + stock.held)?;
    }
    Ok(())
}
