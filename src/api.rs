//! The wire: what the daemon says on `admin.sock` and `gateway.sock`, and what the command line and the gateway read.
//! HTTP/1.1 with JSON over unix sockets; every path begins with the version. Only this file derives `Serialize` for the wire.

pub mod descriptors;
pub mod ends;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Version of the paths and shapes below; fields may be added within it, never changed.
pub const VERSION: u32 = 1;

/// `GET /v1/workspaces`: everything that `csm status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub api: u32,
    /// The daemon's own version.
    pub version: String,
    pub configuration: ConfigurationStatus,
    pub image: ImageStatus,
    pub nginx: NginxStatus,
    /// What the daemon can't see or do at present, in words; empty when all is well.
    pub degraded: Vec<Finding>,
    pub workspaces: Vec<WorkspaceStatus>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationStatus {
    pub path: String,
    /// When the configuration in force was read (RFC 3339).
    pub loaded_at: String,
    /// Why the file as it stands now is not in force; empty when it is.
    pub problems: Vec<ConfigProblem>,
}

/// One thing wrong in a configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigProblem {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    pub message: String,
    pub hint: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ImageStatus {
    pub name: String,
    /// The id in the shared store; nothing while it is not there.
    pub id: Option<String>,
    /// `present`, `loading`, `missing`, `unknown` or `failed`.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finding: Option<Finding>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NginxStatus {
    /// Name of the generation of snippets that nginx serves; nothing before the first one.
    pub generation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finding: Option<Finding>,
}

/// Something that is not as it should be: a stable code, what it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    pub code: String,
    pub message: String,
    pub remediation: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkspaceStatus {
    pub name: String,
    pub url: String,
    pub state: State,
    /// Whether the daemon is still at work on something it was asked for, so that `state` is not its last word.
    /// Set before the answer to start, stop or restart; cleared with the state that the work ended in.
    #[serde(default)]
    pub busy: bool,
    /// Since when it is in this state, as far as this daemon saw (RFC 3339).
    pub since: String,
    pub account: String,
    pub unit: String,
    /// Why it is failed or blocked, why its start takes so long (`editor-slow`), or what is wrong with it although it runs.
    pub findings: Vec<Finding>,
    /// What a restart would change: `image`, `environment`, `secrets`, `runtime`.
    pub pending: Vec<String>,
    pub intent: IntentStatus,
    pub limits: LimitsStatus,
    /// The image it runs on now.
    pub image: Option<String>,
    pub main_pid: Option<u32>,
    /// Bytes in use as the kernel counts them; nothing where the host has no memory controller.
    pub memory_bytes: Option<u64>,
}

/// The states of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Disabled,
    Stopped,
    Starting,
    Ready,
    Suspended,
    Stopping,
    Failed,
    Blocked,
}

impl State {
    /// The word as it is written in JSON and shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Suspended => "suspended",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntentStatus {
    pub running: bool,
    /// `admin`, `boot` or `default`.
    pub by: String,
    pub why: String,
    /// RFC 3339; nothing for the default.
    pub at: Option<String>,
}

/// Bytes, and processor time in millionths of a core.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitsStatus {
    pub memory_max: u64,
    pub memory_high: u64,
    pub memory_low: u64,
    pub cpu_quota_usec: u64,
    pub cpu_weight: u64,
    pub tasks_max: u64,
}

/// `GET /v1/plan`: what the daemon would do now; empty when everything is as it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    pub api: u32,
    /// Steps for what all workspaces share, in words.
    pub host: Vec<String>,
    /// Steps by workspace, in words.
    pub workspaces: BTreeMap<String, Vec<String>>,
    /// What waits for a restart, by workspace.
    pub pending: BTreeMap<String, Vec<String>>,
}

/// `GET /v1/version`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    pub api: u32,
    pub version: String,
}

/// `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `degraded`.
    pub status: String,
    pub findings: Vec<Finding>,
}

/// `POST /v1/reload`: the configuration was read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Whether anything in it was different.
    pub changed: bool,
}

/// Body of `PUT /v1/workspaces/NAME/password`: the caller hashed it, the daemon never sees the password.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PasswordString {
    /// `$argon2id$v=19$...` (PHC string format).
    pub argon2: String,
}

/// Query of `GET /v1/workspaces/NAME/logs`; the answer is a stream of `LogLine`, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    #[serde(default)]
    pub follow: bool,
    /// At most this many old lines.
    #[serde(default = "default_lines")]
    pub lines: u32,
}

fn default_lines() -> u32 {
    100
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// RFC 3339.
    pub at: String,
    /// `podman`, `systemd`, ...: who wrote it.
    pub from: String,
    /// Control characters are escaped.
    pub message: String,
}

/// `GET /v1/usage`: what workspaces use at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    pub api: u32,
    /// A clock that only goes forward, for the time between two answers.
    pub clock_usec: u64,
    pub workspaces: Vec<WorkspaceUsage>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkspaceUsage {
    pub name: String,
    pub state: State,
    pub limits: LimitsStatus,
    /// Nothing while it does not run.
    pub counts: Option<Counts>,
}

/// What the kernel counts of a workspace that runs. Nothing where this host does not count it, which is not zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Processor time since it was started: the share is the difference of two answers by that of their clocks.
    pub cpu_usec: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub memory_peak_bytes: Option<u64>,
    pub tasks: Option<u64>,
    /// Processes that the kernel ended for want of memory, since it was started.
    pub oom_kills: Option<u64>,
    /// Per cent of the last ten seconds in which some process had to wait for a processor.
    pub pressure_cpu: Option<f64>,
    pub pressure_memory: Option<f64>,
    pub pressure_io: Option<f64>,
}

/// `GET /v1/workspaces/NAME/disk`: counted anew for each answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskUse {
    /// What the home takes on the disk.
    pub bytes: u64,
}

/// Query of `GET /v1/events`; the answer is a stream of `Event`, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    #[serde(default)]
    pub follow: bool,
    /// At most this many old events.
    #[serde(default = "default_lines")]
    pub lines: u32,
    /// Only what happened at this time (RFC 3339) or later, for a reader that was cut off: it may get some events again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<String>,
    /// Only events of this workspace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workspace: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Tells this event from every other.
    pub id: String,
    /// RFC 3339.
    pub at: String,
    /// The state that a workspace entered, or one of the other kinds in docs/operations.md.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workspace: Option<String>,
    /// Why it is failed or blocked, or starts once more: one of the codes in docs/operations.md.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// Whose word it was, as in `intent.by`; of a refused caller the user id, of a refused sign-in the address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// How many processes were ended; how many more refusals there were before this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u64>,
    /// All of it in words.
    pub message: String,
}

/// `POST /v1/workspaces/NAME/test`: one line a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestReport {
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    /// The version found, or what is wrong.
    pub detail: String,
}

/// Body of `POST /v1/workspaces/NAME/exec`: a command to run in a workspace. Open descriptors come with the request's
/// bytes ([`descriptors`]), in this order: the command's end of a *line*, which is a connected unix stream socket; then
/// either the slave end of a pseudo-terminal, or the ends of three pipes: standard input, output and error.
///
/// The answer, `ExecStarted`, says that the command's unit has them; from then on the daemon has no part in it. Over the
/// line the caller sends signals for the command, one byte each, and gets one byte, the exit code, before it is closed.
/// Closed without one, the command was cut off. A caller that closes its end hangs up: the command is ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exec {
    /// Program and arguments; none asks for the login shell.
    pub command: Vec<String>,
    /// What TERM says, where there is a terminal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub term: Option<String>,
    /// Directory in the workspace in which the command starts; else /home/coder/project.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workdir: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecStarted {
    /// The unit that carries the command.
    pub unit: String,
}

/// An error's body (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// Stable; one of the codes in docs/operations.md.
    pub code: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    pub remediation: String,
    /// The problems of a refused configuration.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<ConfigProblem>,
}

/// One line of `GET /v1/watch` on `gateway.sock`. First everything there is, then `Synced`, then each change.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayEvent {
    Settings(GatewaySettings),
    Workspace(GatewayWorkspace),
    Removed { name: String },
    Synced {},
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewaySettings {
    pub session_lifetime_seconds: u64,
}

/// What the gateway knows of a workspace.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayWorkspace {
    pub name: String,
    /// The host name without a port, as in `dan.code.example.org`.
    pub host: String,
    pub state: State,
    /// Why it is failed or blocked, in words for the visitor.
    pub message: String,
    /// The argon2id string that a password is checked against; the same as long as the password is the same.
    /// Nothing when no password is set: then nobody can sign in.
    pub password: Option<String>,
}
