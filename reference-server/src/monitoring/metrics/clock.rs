//! Metrics of the clock.

use super::{Exposition, Labels};
use crate::app::App;

#[expect(clippy::cast_precision_loss, reason = "2^53 milliseconds are 285,000 years")]
pub(super) fn read(page: &mut Exposition, app: &App) {
    let (offset_ms, steps) = app.timekeeper.as_ref().map_or((0, 0), |timekeeper| {
        let state = timekeeper.state();
        (state.offset_ms, state.steps)
    });
    let help = "How far the machine's clock is ahead of the server's time; negative if it is behind.";
    page.gauge("flashsale_clock_offset_seconds", help, Labels::new(), offset_ms as f64 / 1_000.0);
    let help = "Steps of the server's time, after a jump of the machine's clock was believed.";
    page.counter("flashsale_clock_steps", help, Labels::new(), steps);
}
