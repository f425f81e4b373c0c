//! What an actor with a thousand accounts gets of a sale, with the guards off, observing and on.
//!
//! Ledger and guards are real. The clock is manual, so the same scenario always gives the same
//! figures. Solving a challenge takes simulated time only.

mod plot;
mod scenario;
mod simulation;

use flashsale_core::admission::Mode;

pub use scenario::Scenario;
pub use simulation::{Outcome, Share, play};

use crate::{Failure, report};

/// The output path of the plot.
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/bots.svg");

/// Settings with which the scenario is played.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The name in figures.
    pub name: &'static str,
    /// The mode of all rules.
    pub mode: Mode,
    /// Whether the identity provider reports age and level of accounts.
    pub accounts_known: bool,
    /// An address counts as busy after a third of the requests, the work that replaces a quiz is 16
    /// times harder, and challenges are issued from 2 minutes before the start instead of 10.
    pub strict: bool,
}

/// All variants.
pub const VARIANTS: [Variant; 6] = {
    let off = Variant { name: "off", mode: Mode::Off, accounts_known: true, strict: false };
    let on = Variant { name: "on", mode: Mode::On, ..off };
    [
        off,
        Variant { name: "observed", mode: Mode::Observe, ..off },
        on,
        Variant { name: "on_accounts_unknown", accounts_known: false, ..on },
        Variant { name: "on_strict", strict: true, ..on },
        Variant { name: "on_strict_accounts_unknown", strict: true, accounts_known: false, ..on },
    ]
};

/// Plays the scenario in every variant, prints the figures and writes the plot.
///
/// # Errors
/// If the scenario cannot be read, or the plot cannot be written.
pub fn run() -> Result<(), Failure> {
    let scenario = Scenario::read()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut outcomes = Vec::new();
    for variant in VARIANTS {
        report::progress(format_args!("bots: guards {}", variant.name));
        outcomes.push((variant, runtime.block_on(play(&scenario, variant))?));
    }
    report::info(
        "bots.columns",
        "units: paid; orders: placed; hold: unit-seconds in unpaid orders; cores, readers: work on challenges",
    );
    for (Variant { name, .. }, outcome) in &outcomes {
        let Outcome { people, actor } = outcome;
        let figure = |what: &str, value: u64, unit| {
            report::figure(&format!("bots.{name}.{what}"), report::count(value), unit);
        };
        figure("actor_units", actor.units, "units");
        figure("actor_orders", actor.orders, "orders");
        figure("actor_hold", actor.hold_ms / 1_000, "unit-s");
        figure("people_units", people.units, "units");
        figure("people_challenged", people.challenged, "people");
        figure("people_denied", people.denied, "people");
        figure("actor_cores", actor.work_ms / 1_000, "core-s");
        figure("actor_readers", actor.read_ms / 1_000, "person-s");
    }
    std::fs::write(PLOT, plot::bars(&outcomes))?;
    report::info("bots.plot", "docs/bots.svg");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_same_scenario_has_the_same_outcome_and_every_unit_is_somewhere() {
        let scenario = Scenario::read().unwrap();
        let [off, observed, on, ..] = VARIANTS;
        let first = play(&scenario, off).await.unwrap();
        assert_eq!(
            first,
            play(&scenario, observed).await.unwrap(),
            "observing changes nothing, and neither does chance"
        );
        let guarded = play(&scenario, on).await.unwrap();
        for outcome in [first, guarded] {
            assert!(outcome.people.units + outcome.actor.units <= u64::from(scenario.offer.units));
        }
        assert_eq!((first.people.challenged, first.actor.work_ms), (0, 0));
        assert!(guarded.actor.work_ms > 0);
    }
}
