//! Browser tests: the real binary and a real browser, for buyers and operators on phones and
//! desktops, in Chinese and English.
//!
//! Tests wait for visible changes, never for a fixed time. Each inspected page is checked for
//! accessible names, contrast and width, and saved as a screenshot under `target/screenshots/`. The
//! tests need Chromium and its driver; without them they fail with a message that says so.

#![allow(clippy::unwrap_used, reason = "tests and their helpers may panic")]

mod browser;
mod challenge;
mod console;
mod exported_pages;
mod pages;
mod purchase;
mod site;
mod stock;
mod tabs;
