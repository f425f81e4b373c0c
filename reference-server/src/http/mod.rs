//! Transport: listeners, connections, limits, problem documents. No routes, no business logic.
//!
//! A [`Server`] accepts connections of one listener and passes each request to a [`Handler`]. The
//! common parts of every answer (request id, limits, panics, timeouts) are in `dispatch`.

mod answer;
mod body;
mod client;
mod client_address;
mod code;
mod connection;
mod deferred;
mod dispatch;
pub mod document;
mod handler;
mod handshake;
mod json;
mod media_type;
mod problem;
mod proxy_protocol;
mod request_id;
mod request_smuggling;
mod server;
mod socket;
mod stream;
mod target;
mod timeout;
pub mod tls;
mod traffic;

pub use answer::{Prepared, Response, Whole, empty, no_store};
pub use body::{Body, Request};
pub(crate) use client::Client;
pub use client_address::client_address;
pub use code::Code;
pub use deferred::Deferred;
pub use handler::Handler;
pub use json::json;
pub use media_type::accepted_weight;
pub use problem::Problem;
pub use server::{Runtimes, Server};
pub use socket::Listener;
pub use target::{Query, decode_segment, segments};
pub use traffic::{OTHER, RouteTraffic, Traffic};
