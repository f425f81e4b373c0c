//! Metrics of the listeners.

use std::{sync::Arc, time::Duration};

use super::{Exposition, MICROS, Metrics};
use crate::http::{Traffic, tls::Tls};

impl Metrics {
    /// Registers the certificate expiry of a listener.
    pub fn watch_certificate(&self, tls: &Tls) {
        let tls = tls.clone();
        self.register(move |page| {
            let help = "When the certificate of a listener expires, in seconds since 1970.";
            let labels = vec![("listener", tls.listener().to_owned())];
            let ends_at = Duration::from_millis(tls.ends_at().as_millis()).as_secs_f64();
            page.gauge("flashsale_certificate_end_time_seconds", help, labels, ends_at);
        });
    }

    /// Registers the traffic of a listener.
    pub fn watch(&self, traffic: &Arc<Traffic>) {
        let traffic = Arc::clone(traffic);
        self.register(move |page| read(page, &traffic));
    }
}

#[expect(clippy::cast_precision_loss, reason = "connections and requests in flight are far below 2^53")]
fn read(page: &mut Exposition, traffic: &Traffic) {
    let listener = || ("listener", traffic.listener().to_owned());
    // Omit routes without requests, such as most routes of operators.
    for route in traffic.routes().into_iter().filter(|route| route.begun > 0) {
        let labels = || vec![listener(), ("route", route.route.to_owned())];
        for (status, count) in route.answers.iter().filter(|(_, count)| *count > 0) {
            let status = if *status == 0 { "other".to_owned() } else { status.to_string() };
            let labels = labels().into_iter().chain([("status", status)]).collect();
            page.counter("flashsale_http_requests", "Answered requests.", labels, *count);
        }
        let help = "Requests whose client disconnected before the answer.";
        page.counter("flashsale_http_abandoned", help, labels(), route.abandoned);
        let help = "Requests in flight.";
        page.gauge("flashsale_http_in_flight", help, labels(), route.in_flight as f64);
        let help = "Time from request head to answer; hot routes are sampled, one request in 16.";
        page.histogram("flashsale_http_request_seconds", help, labels(), route.micros, MICROS);
    }
    for (code, count) in traffic.problems() {
        let labels = vec![listener(), ("code", code.as_str().to_owned())];
        page.counter("flashsale_problems", "Problem documents sent, by code.", labels, count);
    }
    for (reason, count) in traffic.failed_handshakes() {
        let labels = vec![listener(), ("reason", reason.to_owned())];
        page.counter("flashsale_tls_handshakes_failed", "Failed TLS handshakes.", labels, count);
    }
    let open = traffic.open_connections() as f64;
    page.gauge("flashsale_http_connections", "Open connections.", vec![listener()], open);
}
