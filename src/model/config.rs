//! CONFIG: the TOML file as checked values, and the only home of defaults.
//! All problems of a file are reported at once, each with its key path, the value and a hint.

mod build;
mod document;
pub mod keys;
mod rules;
pub mod schema;
#[cfg(test)]
mod tests;
mod values;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::config::document::Document;
use crate::model::names::{AccountName, HostName, ImageRef, VariableName, WorkspaceName};

/// Where the daemon looks when `--config` is not given.
pub const DEFAULT_PATH: &str = "/etc/code-server-multi/config.toml";

/// Larger than any list of people on one machine; what is larger is not read at all.
pub const SIZE_MAX: usize = 1024 * 1024;

/// Checks a file as it was read: size, encoding, then [`parse`].
pub fn parse_bytes(bytes: &[u8]) -> Result<Config, Vec<Problem>> {
    if bytes.len() > SIZE_MAX {
        let message = format!("the file has {} bytes, more than {SIZE_MAX}", bytes.len());
        return Err(vec![Problem::of_file(
            "line 1, column 1",
            message,
            "name the file that holds the configuration",
        )]);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let place = document::position(&before, before.len());
        vec![Problem::of_file(
            &place,
            "not UTF-8".to_owned(),
            "save the file as UTF-8",
        )]
    })?;
    parse(text)
}

/// Checks a whole configuration; every problem is reported, not only the first.
pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    if text.len() > SIZE_MAX {
        return parse_bytes(text.as_bytes());
    }
    // guard: F20-byte-order-mark
    if text.starts_with('\u{feff}') {
        let message = "the file begins with a byte order mark".to_owned();
        return Err(vec![Problem::of_file(
            "line 1, column 1",
            message,
            "save the file as UTF-8 without one",
        )]);
    }
    let mut document = Document::new(text);
    let config = document.parse().and_then(|table| build::config(&mut document, &table));
    let problems = document.finish();
    match config {
        // guard: F20-whole-file
        Ok(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

/// A whole configuration file, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub domain: HostName,
    pub workspace_base: PathBuf,
    pub start_on_boot: StartOnBoot,
    /// UDP ports that no workspace takes of this host.
    pub reserved_ports: BTreeSet<u16>,
    pub image: Image,
    pub nginx: Nginx,
    pub gateway: Gateway,
    pub workspaces: BTreeMap<WorkspaceName, WorkspaceConfig>,
}

impl Config {
    /// Where visitors find a workspace.
    pub fn url(&self, name: &WorkspaceName) -> String {
        let host = HostName::of_workspace(name, &self.domain);
        match self.nginx.public_port {
            443 => format!("https://{host}/"),
            port => format!("https://{host}:{port}/"),
        }
    }
}

/// What runs after the machine has booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOnBoot {
    /// What ran comes back, what was stopped stays stopped.
    AsItWas,
    Always,
    Never,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub name: ImageRef,
    /// An archive (`podman save`) that holds the image; loaded when the store lacks it.
    pub archive: Option<PathBuf>,
    pub pull: Pull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    Never,
    /// Fetched once, when the store lacks it; never updated unasked.
    Missing,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Nginx {
    /// Generations of snippets; nginx includes `SNIPPET_DIR/current/*.conf`.
    pub snippet_dir: PathBuf,
    pub unit: String,
    /// The group nginx reads snippets as.
    pub group: String,
    /// Addresses (with port) for HTTPS. Each address also gets the redirect on port 80.
    pub listen: Vec<SocketAddr>,
    /// The port that visitors see, when it is not the one nginx listens on.
    pub public_port: u16,
    /// Whether workspaces' hosts answer HTTP/1.1 that is no websocket.
    pub plain_http1: bool,
    pub certificate: PathBuf,
    pub certificate_key: PathBuf,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// How long a sign-in lasts without use.
    pub session_lifetime: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WorkspaceConfig {
    pub account: AccountName,
    pub password_file: Option<PathBuf>,
    /// Loopback port of an HTTP server for use through an SSH tunnel.
    pub port: Option<u16>,
    pub limits: Limits,
    pub environment: BTreeMap<VariableName, String>,
    /// Variable -> file whose content it gets.
    pub secret_environment: BTreeMap<VariableName, PathBuf>,
    pub apply: Apply,
    pub enabled: bool,
}

/// What the kernel holds a workspace to (systemd.resource-control(5)); applied live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `MemoryMax=`, bytes: above it a process is killed.
    pub memory_max: u64,
    /// `MemoryHigh=`, bytes: above it the workspace is slowed down.
    pub memory_high: u64,
    /// `MemoryLow=`, bytes: kept for it when memory is short; 0 is none.
    pub memory_low: u64,
    /// `CPUQuotaPerSecUSec=`: microseconds of processor time a second; 1 core is 1,000,000.
    pub cpu_quota_usec: u64,
    /// `CPUWeight=`, 1 to 10000.
    pub cpu_weight: u64,
    pub tasks_max: u64,
}

/// When a change that needs a restart is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// With the next start or `csm restart`.
    Pending,
    /// At once.
    Now,
}

/// One thing wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `workspaces.dan.memory_limit`; for a syntax error `line 3, column 7`.
    pub key: String,
    /// The offending value as written, shortened; nothing where there is none.
    pub value: Option<String>,
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl Problem {
    fn of_file(place: &str, message: String, hint: &str) -> Self {
        Self {
            key: place.to_owned(),
            value: None,
            message,
            hint: hint.to_owned(),
        }
    }
}

/// `workspaces.dan.port = 80: outside 1024 to 65535; write for example 8443`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, ": {}; {}", self.message, self.hint)
    }
}
