//! Tests of the live page in headless Chromium, with the app behind it.
//!
//! The tests need `chromium`, `chromedriver` and a built trading app: `tests/run.sh` provides them and runs the tests.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod alive;
mod app;
mod browser;
mod buttons;
mod glance;
mod restart;
