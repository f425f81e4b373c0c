//! The plot: two bars per variant.

use std::fmt::Write as _;

use super::{Outcome, Variant};

const ROW: u64 = 74;
const LEFT: u64 = 190;
const WIDTH: u64 = 520;

/// Draws the units and unit-seconds of actor and people as an SVG.
pub(super) fn bars(outcomes: &[(Variant, Outcome)]) -> String {
    let most =
        |of: fn(&Outcome) -> u64| outcomes.iter().map(|(_, outcome)| of(outcome)).max().unwrap_or(1).max(1);
    let units = most(|outcome| outcome.people.units + outcome.actor.units);
    let holds = most(|outcome| (outcome.people.hold_ms + outcome.actor.hold_ms) / 1_000);
    let rows = u64::try_from(outcomes.len()).unwrap_or(0);
    let (width, height) = (LEFT + WIDTH + 30, 70 + ROW * rows);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\" role=\"img\">\n<title>What an actor with 1,000 accounts gets, by guards</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"15\">Units sold and unit-seconds held: actor with many accounts, and people</text>\n\
         <rect x=\"10\" y=\"34\" width=\"12\" height=\"12\" fill=\"#b3261e\"/><text x=\"28\" y=\"45\">actor</text>\n\
         <rect x=\"90\" y=\"34\" width=\"12\" height=\"12\" fill=\"#2a6f97\"/><text x=\"108\" y=\"45\">people</text>\n"
    );
    for (row, (variant, Outcome { people, actor })) in (0_u64..).zip(outcomes) {
        let top = 60 + ROW * row;
        let name = variant.name.replace('_', " ");
        let _ = writeln!(svg, "<text x=\"10\" y=\"{}\">{name}</text>", top + 16);
        let hold = |ms: u64| ms / 1_000;
        for (offset, unit, most, (theirs, ours)) in [
            (0, "units", units, (actor.units, people.units)),
            (28, "unit-seconds held", holds, (hold(actor.hold_ms), hold(people.hold_ms))),
        ] {
            let y = top + offset;
            let red = WIDTH * theirs / most;
            let blue = WIDTH * ours / most;
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{red}\" height=\"20\" fill=\"#b3261e\"/>\
                 <rect x=\"{}\" y=\"{y}\" width=\"{blue}\" height=\"20\" fill=\"#2a6f97\"/>\
                 <text x=\"{}\" y=\"{}\" font-size=\"11\" fill=\"#fff\">{theirs} / {ours} {unit}</text>",
                LEFT + red,
                LEFT + 6,
                y + 14,
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}
