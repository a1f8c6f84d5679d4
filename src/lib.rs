//! Browser workspaces for people and their AI agents on one machine.
//!
//! A TOML file says who has a workspace. The daemon compares that with what systemd, Podman, the file system and nginx
//! show, and makes the difference go away: `model` decides (pure), `host` touches the machine, `serve` runs the loops,
//! `api` is the wire between daemon and command line, `cli` is the command line.
//! The map and the invariants are in `docs/architecture.md`; the modules below are in reading order.

/// Values and decisions: no I/O, no clock, no randomness.
pub mod model {
    pub mod account;
    pub mod auth;
    pub mod config;
    pub mod desired;
    pub mod doctor;
    pub mod exec;
    pub mod layout;
    pub mod names;
    pub mod network;
    pub mod nginx;
    pub mod oom;
    pub mod plan;
    pub mod podman;
    pub mod probe;
    pub mod size;
    pub mod start;
    pub mod status;
    pub mod systemd;
    pub mod unit;
}

pub mod api;

/// The machine: thin adapters that decide nothing.
pub mod host;

/// The long-running loops of the services.
pub mod serve {
    pub mod admin;
    pub mod app;
    pub mod config_file;
    pub mod daemon;
    pub mod events;
    pub mod exec;
    pub mod failpoint;
    pub mod gateway;
    pub mod gateway_socket;
    pub mod http;
    pub mod logging;
    pub mod nginx;
    pub mod pace;
    pub mod passwords;
    pub mod reconcile;
    pub mod teller;
    pub mod triggers;
    pub mod turns;
    pub mod vital;
    pub mod waiter;
    pub mod worker;
}

pub mod cli;
