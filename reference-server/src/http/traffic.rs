//! Counters of a listener: requests by route and status, problems by code, latencies.
//!
//! Each worker has its own counters, so that cores share no cache lines. Reading adds them up.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use flashsale_core::metrics::{Histogram, HistogramSnapshot};
use hyper::{Method, StatusCode};

use super::{Code, Response};

/// The statuses that are counted separately; all others are counted as 0.
const STATUSES: [u16; 22] = [
    0, 200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 422, 429, 431, 500,
    503,
];

/// Bucket bounds of the latency histogram, in microseconds.
const MICROS: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// One in this many requests is timed on hot routes, where reading the clock costs too much.
const SAMPLE: u64 = 16;

/// The label of requests that match no route.
pub const OTHER: &str = "other";

/// Why a TLS handshake failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum FailedHandshake {
    /// The client did not complete it in time.
    Timeout,
    /// No common version or protocol, or the client rejected the certificate or disconnected.
    Refused,
    /// The client does not speak TLS.
    Plain,
}

impl FailedHandshake {
    const ALL: [Self; 3] = [Self::Timeout, Self::Refused, Self::Plain];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Plain => "plain",
        }
    }
}

/// The counters of one listener.
#[derive(Debug)]
pub struct Traffic {
    listener: &'static str,
    routes: Routes,
    /// How many of the first routes are timed by sampling.
    sampled: usize,
    pub(super) open: Arc<AtomicUsize>,
    workers: Mutex<Vec<Arc<Counters>>>,
}

/// The counts of one route since the start.
#[derive(Clone, Debug)]
pub struct RouteTraffic {
    /// The route, such as `POST /v1/orders/{ticket}`.
    pub route: &'static str,
    /// Requests that began, answered or not.
    pub begun: u64,
    /// Answers by status; 0 stands for every status outside the contract.
    pub answers: Vec<(u16, u64)>,
    /// Requests whose client disconnected before the answer.
    pub abandoned: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Latency in microseconds; sampled on some routes.
    pub micros: HistogramSnapshot,
}

impl Traffic {
    /// Creates the counters of a listener. `routes` look like `POST /v1/orders/{ticket}`, the most
    /// frequent first; the first `sampled` of them are timed by sampling.
    ///
    /// # Panics
    /// If a route is not a method and a path.
    pub fn new(listener: &'static str, routes: &'static [&'static str], sampled: usize) -> Arc<Self> {
        let (routes, workers) = (Routes::new(routes), Mutex::default());
        Arc::new(Self { listener, routes, sampled, open: Arc::default(), workers })
    }

    /// Returns the listener's name.
    pub fn listener(&self) -> &'static str {
        self.listener
    }

    /// Returns the number of open connections.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Reads the counts of every route in order, followed by [`OTHER`].
    pub fn routes(&self) -> Vec<RouteTraffic> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.routes.patterns.iter().map(|pattern| pattern.name).chain([OTHER]);
        names
            .enumerate()
            .map(|(index, route)| {
                let micros = Histogram::new(MICROS);
                let mut sum = RouteTraffic {
                    route,
                    begun: 0,
                    answers: STATUSES.map(|status| (status, 0)).to_vec(),
                    abandoned: 0,
                    in_flight: 0,
                    micros: micros.read(),
                };
                for counters in workers.iter().map(|worker| &worker.routes[index]) {
                    // Read the answers first, so that no request appears answered but not begun.
                    let mut ended = 0;
                    for ((_, answers), count) in sum.answers.iter_mut().zip(&counters.answers) {
                        let count = count.load(Ordering::Relaxed);
                        *answers += count;
                        ended += count;
                    }
                    let abandoned = counters.abandoned.load(Ordering::Relaxed);
                    sum.abandoned += abandoned;
                    let begun = counters.begun.load(Ordering::Relaxed);
                    sum.begun += begun;
                    sum.in_flight += begun.saturating_sub(ended + abandoned);
                    micros.add(&counters.micros);
                }
                sum.micros = micros.read();
                sum
            })
            .collect()
    }

    /// Returns the number of problems sent, by code.
    pub fn problems(&self) -> Vec<(Code, u64)> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |index: usize| -> u64 {
            workers.iter().map(|worker| worker.codes[index].load(Ordering::Relaxed)).sum()
        };
        Code::ALL.iter().enumerate().map(|(index, code)| (*code, sum(index))).collect()
    }

    /// Returns the number of failed TLS handshakes, by reason.
    pub fn failed_handshakes(&self) -> Vec<(&'static str, u64)> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |reason: FailedHandshake| -> u64 {
            workers.iter().map(|worker| worker.handshakes[reason as usize].load(Ordering::Relaxed)).sum()
        };
        FailedHandshake::ALL.map(|reason| (reason.as_str(), sum(reason))).into()
    }

    /// Adds the counters of another worker.
    pub(super) fn worker(&self) -> Arc<Counters> {
        let routes = (0..=self.routes.patterns.len()).map(|_| RouteCounters::new()).collect();
        let codes = Code::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        let counters = Arc::new(Counters { routes, codes, handshakes: Default::default() });
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counters));
        counters
    }

    /// Counts the start of a request.
    pub(super) fn begin<'c>(&self, counters: &'c Counters, method: &Method, path: &str) -> InFlight<'c> {
        let index = self.routes.index(method, path);
        let route = &counters.routes[index];
        let number = route.begun.fetch_add(1, Ordering::Relaxed);
        let timed = index >= self.sampled || number.is_multiple_of(SAMPLE);
        InFlight { counters, route, since: timed.then(Instant::now), ended: false }
    }
}

/// The counters of one worker.
#[derive(Debug)]
pub(super) struct Counters {
    routes: Box<[RouteCounters]>,
    codes: Box<[AtomicU64]>,
    handshakes: [AtomicU64; FailedHandshake::ALL.len()],
}

impl Counters {
    /// Counts a failed handshake.
    pub(super) fn handshake_failed(&self, reason: FailedHandshake) {
        self.handshakes[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct RouteCounters {
    begun: AtomicU64,
    answers: [AtomicU64; STATUSES.len()],
    abandoned: AtomicU64,
    micros: Histogram,
}

impl RouteCounters {
    fn new() -> Self {
        Self {
            begun: AtomicU64::new(0),
            answers: std::array::from_fn(|_| AtomicU64::new(0)),
            abandoned: AtomicU64::new(0),
            micros: Histogram::new(MICROS),
        }
    }
}

/// A request in flight. Dropping it without an answer counts as abandoned: the client disconnected.
pub(super) struct InFlight<'c> {
    counters: &'c Counters,
    route: &'c RouteCounters,
    since: Option<Instant>,
    ended: bool,
}

impl InFlight<'_> {
    /// Counts the answer.
    pub(super) fn end(mut self, response: &Response) {
        self.ended = true;
        self.route.answers[status_index(response.status())].fetch_add(1, Ordering::Relaxed);
        if let Some(code) = response.body().code() {
            self.counters.codes[code as usize].fetch_add(1, Ordering::Relaxed);
        }
        if let Some(since) = self.since {
            self.route.micros.record(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.route.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn status_index(status: StatusCode) -> usize {
    STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(0)
}

/// Matches requests to routes.
#[derive(Debug)]
struct Routes {
    patterns: Box<[Pattern]>,
}

#[derive(Debug)]
struct Pattern {
    name: &'static str,
    method: Method,
    /// `None` matches any segment.
    segments: Box<[Option<&'static str>]>,
}

impl Routes {
    fn new(names: &'static [&'static str]) -> Self {
        let pattern = |name: &&'static str| {
            let (method, path) = name.split_once(' ').expect("a route is a method and a path");
            let method = method.parse().expect("a route begins with a method");
            let segments =
                path.split('/').skip(1).map(|segment| (!segment.starts_with('{')).then_some(segment));
            Pattern { name, method, segments: segments.collect() }
        };
        Self { patterns: names.iter().map(pattern).collect() }
    }

    /// Returns the index of a request's route. All unknown paths share the last index, because
    /// paths that clients make up must not become metric labels.
    fn index(&self, method: &Method, path: &str) -> usize {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let found = self.patterns.iter().position(|pattern| pattern.matches(method, path));
        found.unwrap_or(self.patterns.len())
    }
}

impl Pattern {
    fn matches(&self, method: &Method, path: &str) -> bool {
        if self.method != *method {
            return false;
        }
        let mut segments = path.split('/').skip(1);
        let matched = self.segments.iter().all(|expected| match (segments.next(), expected) {
            (Some(segment), Some(expected)) => segment == *expected,
            (Some(_), None) => true,
            (None, _) => false,
        });
        matched && segments.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Problem, empty};

    const ROUTES: &[&str] = &["POST /v1/orders/{ticket}", "GET /v1/orders", "GET /v1/orders/{id}", "GET /"];

    #[test]
    fn requests_are_counted_by_route_status_and_code() {
        let traffic = Traffic::new("public", ROUTES, 1);
        let workers = [traffic.worker(), traffic.worker()];
        for (method, path, status) in [
            (Method::POST, "/v1/orders/abc", StatusCode::CREATED),
            (Method::POST, "/v1/orders/def", StatusCode::CREATED),
            (Method::GET, "/v1/orders", StatusCode::OK),
            (Method::HEAD, "/v1/orders/7", StatusCode::OK),
            (Method::GET, "/", StatusCode::OK),
            (Method::DELETE, "/v1/orders/7", StatusCode::IM_A_TEAPOT),
            (Method::GET, "/v1/orders/7/x", StatusCode::NOT_FOUND),
        ] {
            for worker in &workers {
                traffic.begin(worker, &method, path).end(&empty(status));
            }
        }
        let problem = Problem::new(Code::SoldOut, "").into_response();
        traffic.begin(&workers[0], &Method::POST, "/v1/orders/ghi").end(&problem);
        drop(traffic.begin(&workers[0], &Method::POST, "/v1/orders/ghi"));
        let _in_flight = traffic.begin(&workers[1], &Method::POST, "/v1/orders/ghi");

        let routes = traffic.routes();
        let seen: Vec<_> = routes
            .iter()
            .map(|route| {
                let answers: Vec<_> = route.answers.iter().filter(|(_, count)| *count > 0).copied().collect();
                (route.route, answers)
            })
            .collect();
        assert_eq!(
            seen,
            [
                (ROUTES[0], vec![(201, 4), (409, 1)]),
                (ROUTES[1], vec![(200, 2)]),
                (ROUTES[2], vec![(200, 2)]),
                (ROUTES[3], vec![(200, 2)]),
                (OTHER, vec![(0, 2), (404, 2)]),
            ]
        );
        assert_eq!((routes[0].abandoned, routes[0].in_flight), (1, 1));
        assert_eq!(routes[0].micros.count(), 2, "the first of each worker is a sample");
        assert_eq!(routes[4].micros.count(), 4);
        let problems: Vec<_> = traffic.problems().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(problems, [(Code::SoldOut, 1)]);
    }

    #[test]
    fn every_code_has_an_index_and_its_status_is_counted_separately() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, index);
            assert_ne!(status_index(code.status()), 0, "{code:?}");
        }
    }
}
