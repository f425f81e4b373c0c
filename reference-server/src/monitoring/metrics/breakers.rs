//! Metrics of the circuit breakers.

use flashsale_core::circuit_breaker::BreakerState;

use super::Exposition;
use crate::app::App;

pub(super) fn read(page: &mut Exposition, app: &App) {
    let sinks = app.notifier.iter().map(|notifier| notifier.breaker());
    for breaker in app.payments.breakers().chain(sinks) {
        let reading = breaker.read();
        let dependency = || ("dependency", breaker.name().to_owned());
        let state = match reading.state {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open => 2.0,
        };
        let help = "State of a circuit breaker: 0 closed, 1 half-open (probes pass), 2 open (no calls pass).";
        page.gauge("flashsale_breaker_state", help, vec![dependency()], state);
        for (outcome, count) in
            [("succeeded", reading.succeeded), ("failed", reading.failed), ("rejected", reading.rejected)]
        {
            let labels = vec![dependency(), ("outcome", outcome.to_owned())];
            let help = "Calls to a remote dependency by outcome; rejected ones were stopped by the breaker.";
            page.counter("flashsale_breaker_calls", help, labels, count);
        }
    }
}
