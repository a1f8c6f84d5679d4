//! Integration tests: one module a story, against the real program or a real nginx.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that panics has failed, which is what it is for"
)]

mod cli;
mod contract;
mod engine;
mod gateway;
mod nginx;
