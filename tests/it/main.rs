//! Integration tests: one module a story, against the real program or a real nginx.

mod cli;
mod gateway;
mod nginx;
