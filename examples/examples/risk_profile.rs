//! How do I decide myself which buyers look like bots?
//!
//! `cargo run -p flashsale-examples --example risk_profile`
//!
//! A shop knows more about its customers than any library: who bought before, who returns goods,
//! what its fraud service says. Your own `RiskProfile` turns that into a number from 0 to 100, and
//! the guards turn the number into a step: nothing, a proof of work, a quiz, or no ticket.

use std::{
    collections::HashMap,
    convert::Infallible,
    error::Error,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use flashsale_core::{
    admission::{
        Account, AccountRisk, Count, GuardOptions, Guards, Ladder, Mode, Risk, RiskProfile, Rule, Step,
        Visitor,
    },
    cache::{Cache, CacheOptions},
    domain::{Clock, SubjectId, SystemClock, Timestamp, UserId},
    rate_limiter::Quota,
};

/// This shop's record of a customer.
#[derive(Clone, Copy, Debug)]
struct History {
    /// Orders that were paid and kept.
    kept: u32,
    /// Holds that expired unpaid, keeping units from others.
    abandoned: u32,
}

/// Where histories are stored. In your service, a database too slow to be queried for each ticket.
#[derive(Debug, Default)]
struct Database {
    histories: HashMap<UserId, History>,
    asked: AtomicU32,
}

impl Database {
    /// Give the real query a timeout: everyone who needs the same history waits for one call.
    async fn history(&self, user: UserId) -> Result<Option<History>, Infallible> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.histories.get(&user).copied())
    }
}

/// The shop's profile: the customer's history if known, else the library's own assessment.
#[derive(Debug)]
struct ShopRisk {
    database: Database,
    // Caches histories, and users who have none. Only slow-changing facts: recent requests and
    // failures are in the visitor and never cached.
    histories: Cache<UserId, History>,
    otherwise: AccountRisk,
}

#[async_trait]
impl RiskProfile for ShopRisk {
    async fn risk(&self, visitor: &Visitor, now: Timestamp) -> Risk {
        let usual = self.otherwise.risk(visitor, now).await;
        // The guards wait for this, so it must return within milliseconds. It cannot fail: if the
        // database does not answer, decide here which risk applies.
        let known = self.histories.get(&visitor.user, self.database.history(visitor.user)).await;
        let Ok(Some(history)) = known else { return usual };
        let trust = 10 * history.kept.min(5);
        let blame = 20 * history.abandoned.min(5);
        let risk = (u32::from(usual.value()) + blame).saturating_sub(trust);
        Risk::new(u8::try_from(risk).unwrap_or(Risk::MAX))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let now = SystemClock.now();
    let (ana, ben, chen) = (UserId::try_from(1)?, UserId::try_from(2)?, UserId::try_from(3)?);
    let histories =
        HashMap::from([(ana, History { kept: 12, abandoned: 0 }), (ben, History { kept: 0, abandoned: 3 })]);
    let profile = Arc::new(ShopRisk {
        database: Database { histories, ..Database::default() },
        histories: Cache::new(CacheOptions::default(), Arc::new(SystemClock)),
        otherwise: AccountRisk,
    });

    // 1. Assemble the guards. Each rule has a mode: start with `Observe`, watch the counters for a
    //    while, and turn the rule on when it hits the right buyers.
    let guards = Guards::new(&options(Mode::On)?, Arc::clone(&profile) as _, now);

    // 2. Ask the guards for each ticket, with the account and digests of address and device.
    let new_account = Account { created_at: Some(now.before(Duration::from_secs(3_600))), level: Some(0) };
    let address = SubjectId::digest(b"203.0.113.9");
    for (name, user, account) in [
        ("Ana, who bought twelve times", ana, new_account),
        ("Ben, who lets holds expire", ben, new_account),
        ("Chen, who is new", chen, new_account),
        (
            "Chen, if the account were older",
            chen,
            Account { created_at: Some(Timestamp::EPOCH), level: Some(3) },
        ),
    ] {
        let step =
            guards.ask(user, account, address, None, now).await.map_err(|limited| format!("{limited:?}"))?;
        println!("{name}: {}", in_words(step));
    }
    let step = async |user| guards.ask(user, new_account, address, None, now).await;
    assert_eq!(step(ana).await, Ok(Step::None));
    assert_eq!(step(ben).await, Ok(Step::Deny));
    assert_eq!(step(chen).await, Ok(Step::ProofOfWork));

    // 3. Report wrong solutions: the next challenge is harder.
    guards.failed(chen, now);
    assert_eq!(step(chen).await, Ok(Step::Quiz));
    println!("Chen, after a wrong solution: {}", in_words(Step::Quiz));

    // 4. Look at the counts. In your service these are metrics.
    for Count { rule, verdict, count } in guards.counts().filter(|count| count.count > 0) {
        println!("{} {}: {count}", rule.as_str(), verdict.as_str());
    }

    // 5. In observe mode Ben passes, but is counted.
    let observed = Guards::new(&options(Mode::Observe)?, Arc::clone(&profile) as _, now);
    assert_eq!(observed.ask(ben, new_account, address, None, now).await, Ok(Step::None));
    let denied =
        observed.counts().find(|count| count.rule == Rule::Risk && count.verdict.as_str() == "denied");
    assert_eq!(denied.map(|count| count.count), Some(1));
    println!("In observe mode, Ben passes but is counted.");

    // 6. The database was asked once per user, even about Chen, whom it does not know. When a
    //    history changes, remove it from the cache.
    assert_eq!(profile.database.asked.load(Ordering::Relaxed), 3);
    profile.histories.forget(&ben);
    assert_eq!(step(ben).await, Ok(Step::Deny));
    assert_eq!(profile.database.asked.load(Ordering::Relaxed), 4);
    println!("The database was asked four times.");
    Ok(())
}

fn options(mode: Mode) -> Result<GuardOptions, Box<dyn Error>> {
    let quota = |burst, seconds| {
        Ok::<_, Box<dyn Error>>(Quota::new(NonZeroU32::try_from(burst)?, Duration::from_secs(seconds))?)
    };
    Ok(GuardOptions {
        user_orders: quota(30, 10)?,
        user_orders_mode: mode,
        address_orders: quota(20_000, 10)?,
        address_orders_mode: mode,
        user_tickets: quota(30, 60)?,
        user_tickets_mode: mode,
        busy_address: quota(60, 60)?,
        busy_address_mode: mode,
        risk_mode: mode,
        ladder: Ladder::default(),
        failures: quota(5, 1_800)?,
        users: NonZeroU32::try_from(10_000)?,
        addresses: NonZeroU32::try_from(10_000)?,
    })
}

fn in_words(step: Step) -> &'static str {
    match step {
        Step::None => "gets a ticket at once",
        Step::ProofOfWork => "solves a proof of work",
        Step::Quiz => "solves a quiz",
        Step::Deny => "gets no ticket",
    }
}
