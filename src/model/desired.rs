//! DESIRED: configuration and intent together say what should be there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::model::account::Account;
use crate::model::config::{Apply, Config, Image, Limits};
use crate::model::layout::Layout;
use crate::model::names::{AccountName, HostName, VariableName, WorkspaceName};

/// Whether a workspace should run, by whose word and why: what no other place holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub running: bool,
    pub by: IntentBy,
    pub why: String,
    /// RFC 3339; nothing for the default.
    pub at: Option<String>,
    /// The run ([`Running::started`](crate::model::plan::Running)) that has to end and be followed by another: a restart
    /// that is not done yet. Any other run is left alone, so it is never carried out twice.
    pub restart_of: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IntentBy {
    Admin,
    Boot,
    Default,
}

impl IntentBy {
    pub fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Boot => "boot",
            Self::Default => "default",
        }
    }
}

impl Default for Intent {
    /// A workspace that nobody said anything about runs.
    fn default() -> Self {
        Self {
            running: true,
            by: IntentBy::Default,
            why: "declared in the configuration".to_owned(),
            at: None,
            restart_of: None,
        }
    }
}

/// Everything that should be there, and what it takes to make it.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    pub image: Image,
    pub machine: Machine,
    pub workspaces: BTreeMap<WorkspaceName, Workspace>,
}

/// What the daemon found of its host when it started; the same for all workspaces.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    pub layout: Layout,
    pub podman: PathBuf,
    /// PATH of the units: where Podman finds crun, pasta, newuidmap.
    pub path: String,
    /// Owner of the image store.
    pub images: Account,
    /// Group id of the editors' sockets.
    pub web_gid: u32,
    /// Addresses of this host that no workspace may reach: all but loopback.
    pub own_addresses: Vec<std::net::IpAddr>,
}

/// One workspace as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Workspace {
    pub name: WorkspaceName,
    pub host: HostName,
    pub account: AccountName,
    /// `workspace_base/NAME`.
    pub home: PathBuf,
    pub limits: Limits,
    /// UDP ports of this host that it may not take.
    pub reserved_ports: BTreeSet<u16>,
    pub environment: BTreeMap<VariableName, String>,
    pub secret_environment: BTreeMap<VariableName, PathBuf>,
    pub password_file: Option<PathBuf>,
    pub apply: Apply,
    pub enabled: bool,
    pub intent: Intent,
}

impl Workspace {
    pub fn should_run(&self) -> bool {
        self.enabled && self.intent.running
    }
}

/// Puts configuration and intents together. A workspace without an intent gets the default one; an intent without a
/// workspace in the configuration counts for nothing (and is kept on disk for when the workspace comes back).
pub fn build(config: &Config, machine: Machine, intents: &BTreeMap<WorkspaceName, Intent>) -> Desired {
    let workspaces = config
        .workspaces
        .iter()
        .map(|(name, own)| {
            let workspace = Workspace {
                name: name.clone(),
                host: HostName::of_workspace(name, &config.domain),
                account: own.account.clone(),
                home: config.workspace_base.join(name.as_str()),
                limits: own.limits.clone(),
                reserved_ports: config.reserved_ports.clone(),
                environment: own.environment.clone(),
                secret_environment: own.secret_environment.clone(),
                password_file: own.password_file.clone(),
                apply: own.apply,
                enabled: own.enabled,
                intent: intents.get(name).cloned().unwrap_or_default(),
            };
            (name.clone(), workspace)
        })
        .collect();
    Desired {
        image: config.image.clone(),
        machine,
        workspaces,
    }
}
