//! The one place where the errors of the admin API become statuses, codes and ways out.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};

use crate::api::ProblemDetails;
use crate::host::disk::DiskError;
use crate::host::exec::ExecError;
use crate::host::files::FileError;
use crate::host::intents::IntentError;
use crate::host::logs::LogError;
use crate::host::systemd::Chain;
use crate::model::config::Problem;
use crate::model::exec::CommandProblem;
use crate::model::status::Trouble;
use crate::serve::app::wire_problem;

/// Why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such path")]
    NoRoute,
    #[error("{0}")]
    Request(&'static str),
    #[error("there is no workspace {0}")]
    Unknown(String),
    #[error("the workspace {0} is disabled in the configuration")]
    Disabled(String),
    #[error("it could not be started again, so it was left running: {}", .0.message)]
    WouldNotStart(Box<Trouble>),
    #[error("the workspace {name} is {state}, not ready")]
    NotReady { name: String, state: &'static str },
    #[error("the configuration says where the password of {name} is: {file}")]
    PasswordFile { name: String, file: String },
    #[error("that is no time as in 2026-03-01T12:00:00Z")]
    Time,
    #[error("that is no usable argon2id string: {0}")]
    PasswordString(String),
    #[error("the configuration was refused; the last good one stays in force")]
    Configuration(Vec<Problem>),
    #[error("the daemon's own files can't be written")]
    Intent(#[from] IntentError),
    #[error("the daemon's own files can't be written")]
    File(#[from] FileError),
    #[error("the log can't be read")]
    Log { source: Box<LogError>, by_hand: String },
    #[error("the workspace {0} is suspended: its unit is frozen, and so would be the command")]
    Suspended(String),
    #[error("such a command can't be run")]
    Command(#[from] CommandProblem),
    #[error("the open descriptors that came with the request won't do: {0}")]
    Descriptors(String),
    #[error("what the home takes on the disk can't be counted")]
    Disk(#[from] DiskError),
    #[error("the command can't be run in the workspace")]
    Exec(#[from] ExecError),
}

impl IntoResponse for Refusal {
    #[expect(clippy::too_many_lines, reason = "the one table of all refusals")]
    fn into_response(self) -> Response {
        let (status, code, title, remediation) = match &self {
            Self::NoRoute => (
                404,
                "no-such-path",
                "not found",
                "this csm and the daemon may be of different versions: `csm version`".to_owned(),
            ),
            Self::Request(_) => (
                400,
                "bad-request",
                "refused",
                "docs/openapi.json says what is taken".to_owned(),
            ),
            Self::Unknown(_) => (
                404,
                "no-such-workspace",
                "not found",
                "`csm status` lists those there are; after a change of the configuration: `csm reload`".to_owned(),
            ),
            Self::Disabled(name) => (
                409,
                "disabled",
                "refused",
                format!("set workspaces.{name}.enabled = true and run `csm reload`"),
            ),
            Self::WouldNotStart(trouble) => (409, trouble.code, "refused", trouble.remediation.clone()),
            Self::NotReady { name, .. } => (
                409,
                "not-ready",
                "refused",
                format!("`csm start {name}`, or `csm status {name}` for why it is not"),
            ),
            Self::PasswordFile { file, .. } => (
                409,
                "password-file",
                "refused",
                format!("change the content of {file}; it is noticed at once"),
            ),
            Self::Time => (
                422,
                "bad-time",
                "refused",
                "write it in RFC 3339, as events have it".to_owned(),
            ),
            Self::PasswordString(_) => (
                422,
                "password-string",
                "refused",
                "let `csm password` make it".to_owned(),
            ),
            Self::Configuration(_) => (
                422,
                "configuration-refused",
                "refused",
                "mend every key named and run `csm reload` again".to_owned(),
            ),
            Self::Intent(_) | Self::File(_) => (
                507,
                "disk-refused",
                "failed",
                "make room in /var/lib/code-server-multi or make it writable; nothing was changed".to_owned(),
            ),
            Self::Log { by_hand, .. } => (
                503,
                "log-unreadable",
                "failed",
                format!("`{by_hand}` as root shows the same"),
            ),
            Self::Suspended(name) => (
                409,
                "suspended",
                "refused",
                format!("`systemctl thaw csm-{name}.service`"),
            ),
            Self::Command(problem) => (422, "exec-command", "refused", way_out(*problem).to_owned()),
            Self::Descriptors(_) => (
                422,
                "exec-descriptors",
                "refused",
                "`csm exec` makes the right ones; this csm and the daemon may be of different versions: `csm version`"
                    .to_owned(),
            ),
            Self::Exec(ExecError::TooMany) => (
                429,
                "exec-too-many",
                "refused",
                "end some: `systemctl list-units 'csm-*--exec-*'` lists them".to_owned(),
            ),
            Self::Disk(_) => (
                503,
                "disk-unknown",
                "failed",
                "`journalctl -u 'csm-NAME--disk-*'` may say more; nothing else depends on it".to_owned(),
            ),
            Self::Exec(_) => (
                503,
                "exec-failed",
                "failed",
                "`csm logs NAME` and `journalctl -u 'csm-NAME--exec-*'` say more".to_owned(),
            ),
        };
        let problems = match &self {
            Self::Configuration(problems) => problems.iter().map(wire_problem).collect(),
            _ => Vec::new(),
        };
        if status >= 500 {
            tracing::warn!(code, error = %Chain(&self), "request failed: {}", Chain(&self));
        }
        let details = ProblemDetails {
            code: code.to_owned(),
            title: title.to_owned(),
            status,
            detail: Chain(&self).to_string(),
            remediation,
            problems,
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (
            status,
            [(header::CONTENT_TYPE, "application/problem+json")],
            Json(details),
        )
            .into_response()
    }
}

/// What to ask for in place of a command that can't be run.
fn way_out(problem: CommandProblem) -> &'static str {
    match problem {
        CommandProblem::Nul => "leave the NUL byte out; what has one goes through standard input",
        CommandProblem::Long => "put it into a file in the workspace, or through standard input",
        CommandProblem::Empty => "name a program, as in `csm exec dan -- ls`",
        CommandProblem::Directory => "write it from the root, as in /home/coder/project",
        CommandProblem::Term => "set TERM to a name that terminfo(5) has, as in xterm-256color",
    }
}

/// axum's own words would repeat what was sent, which may be a secret.
impl From<JsonRejection> for Refusal {
    fn from(_: JsonRejection) -> Self {
        Self::Request("the body is no JSON of the shape that is wanted")
    }
}

impl From<QueryRejection> for Refusal {
    fn from(_: QueryRejection) -> Self {
        Self::Request("the query has a value that can't be read")
    }
}

/// How the API's document shows it.
impl utoipa::IntoResponses for Refusal {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let details = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemDetails")));
        let refusal = ResponseBuilder::new()
            .description("Refused or failed: the code says why, the remediation what to do")
            .content("application/problem+json", details.build());
        BTreeMap::from([("default".to_owned(), refusal.build().into())])
    }
}
