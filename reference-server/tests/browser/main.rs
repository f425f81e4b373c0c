//! Browser tests: the real binary, a real browser, buyers and operators at a phone and at a desk, in Chinese and
//! in English.
//!
//! They wait for what a buyer would see, never for a time. Each page that a test looks at is checked for what every page
//! has to keep (names of controls, contrast, width) and kept as a picture under `target/screenshots/`. Chromium and its
//! driver have to be installed; a test that finds none fails and says so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, also in its helpers")]

mod browser;
mod challenge;
mod console;
mod elsewhere;
mod pages;
mod purchase;
mod site;
mod stock;
mod tabs;
