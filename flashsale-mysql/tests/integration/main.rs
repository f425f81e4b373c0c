//! Tests against a real server, which they start.

mod crash;
mod leases;
mod ledger;
mod migration;
mod schemas;
