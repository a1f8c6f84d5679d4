//! ADMIN API on `admin.sock`: every route on one screen, the caller's account checked by the kernel's word, and the one
//! place where errors become statuses.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::api::{self, ProblemDetails};
use crate::host::exec::ExecError;
use crate::host::files::FileError;
use crate::host::intents::IntentError;
use crate::host::live::LiveEngine;
use crate::host::logs::LogError;
use crate::host::systemd::Chain;
use crate::host::{Engine, accounts};
use crate::model::auth;
use crate::model::config::Problem;
use crate::model::layout::ADMIN_GROUP;
use crate::model::names::WorkspaceName;
use crate::model::probe;
use crate::serve::app::{App, wire_problem};
use crate::serve::http::Peer;

/// `csm test` as a whole.
const TEST: Duration = Duration::from_secs(60);

/// What only the real host can answer.
#[derive(Clone)]
pub struct Host {
    pub engine: Arc<LiveEngine>,
}

/// Root, and members of the admin group.
pub fn may_administer(uid: u32) -> bool {
    uid == 0 || accounts::in_group(uid, ADMIN_GROUP)
}

pub fn router<E: Engine>(app: Arc<App<E>>, host: Option<Host>) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/health", get(health::<E>))
        .route("/v1/plan", get(plan::<E>))
        .route("/v1/reload", post(reload::<E>))
        .route("/v1/workspaces", get(workspaces::<E>))
        .route("/v1/workspaces/{name}", get(workspace::<E>))
        .route("/v1/workspaces/{name}/follow", get(follow::<E>))
        .route("/v1/workspaces/{name}/start", post(start::<E>))
        .route("/v1/workspaces/{name}/stop", post(stop::<E>))
        .route("/v1/workspaces/{name}/restart", post(restart::<E>))
        .route("/v1/workspaces/{name}/logs", get(logs::<E>))
        .route(
            "/v1/workspaces/{name}/password",
            put(set_password::<E>).delete(forget_password::<E>),
        )
        .route("/v1/workspaces/{name}/test", post(test::<E>))
        .fallback(|| async { Refusal::NoRoute })
        .layer(Extension(host))
        .with_state(app)
}

type Shared<E> = State<Arc<App<E>>>;

async fn version() -> Json<api::Version> {
    Json(api::Version {
        api: api::VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

async fn health<E: Engine>(State(app): Shared<E>) -> Json<api::Health> {
    let findings = app.degraded();
    let status = if findings.is_empty() { "ok" } else { "degraded" };
    Json(api::Health {
        status: status.to_owned(),
        findings,
    })
}

async fn workspaces<E: Engine>(State(app): Shared<E>) -> Json<api::Status> {
    Json(app.status())
}

async fn workspace<E: Engine>(
    State(app): Shared<E>,
    Path(name): Path<String>,
) -> Result<Json<api::WorkspaceStatus>, Refusal> {
    status_of(&app, &known(&app, &name)?)
}

/// The status at each change, one JSON object a line, until the caller hangs up.
async fn follow<E: Engine>(State(app): Shared<E>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let name = known(&app, &name)?;
    let report = app.controller.report(&name).ok_or(Refusal::Unknown(name.to_string()))?;
    let token = app.token.clone();
    let lines = stream::unfold((app, name, report, true), |(app, name, mut report, first)| async move {
        if !first {
            report.changed().await.ok()?;
        }
        report.borrow_and_update();
        let status = app.workspace_status(&name)?;
        Some((line(&status), (app, name, report, false)))
    });
    Ok(ndjson(lines, token))
}

async fn start<E: Engine>(
    State(app): Shared<E>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Result<Json<api::WorkspaceStatus>, Refusal> {
    let name = asked(&app, &name, peer, "start")?;
    app.controller.intend(&name, true, "csm start")?;
    status_of(&app, &name)
}

async fn stop<E: Engine>(
    State(app): Shared<E>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Result<Json<api::WorkspaceStatus>, Refusal> {
    let name = asked(&app, &name, peer, "stop")?;
    app.controller.intend(&name, false, "csm stop")?;
    status_of(&app, &name)
}

async fn restart<E: Engine>(
    State(app): Shared<E>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Result<Json<api::WorkspaceStatus>, Refusal> {
    let name = asked(&app, &name, peer, "restart")?;
    app.controller.restart(&name)?;
    status_of(&app, &name)
}

/// Notes who asked for what; a disabled workspace can only be stopped.
fn asked<E: Engine>(app: &App<E>, name: &str, peer: Peer, verb: &str) -> Result<WorkspaceName, Refusal> {
    let name = known(app, name)?;
    tracing::info!(workspace = %name, uid = peer.uid, "{name}: {verb} asked for by user {}", peer.uid);
    let config = app.controller.config();
    if verb != "stop" && config.workspaces.get(&name).is_some_and(|own| !own.enabled) {
        return Err(Refusal::Disabled(name.to_string()));
    }
    Ok(name)
}

async fn plan<E: Engine>(State(app): Shared<E>) -> Json<api::Plan> {
    let mut plan = App::<E>::plan_wire(&app.controller.plan().await);
    plan.host.extend(app.nginx.borrow().steps.iter().cloned());
    Json(plan)
}

async fn reload<E: Engine>(State(app): Shared<E>) -> Result<Json<api::Reloaded>, Refusal> {
    let changed = app.reload().map_err(Refusal::Configuration)?;
    Ok(Json(api::Reloaded { changed }))
}

async fn set_password<E: Engine>(
    State(app): Shared<E>,
    Path(name): Path<String>,
    Json(body): Json<api::PasswordString>,
) -> Result<StatusCode, Refusal> {
    let name = known(&app, &name)?;
    if let Some(file) = app
        .controller
        .config()
        .workspaces
        .get(&name)
        .and_then(|own| own.password_file.as_ref())
    {
        return Err(Refusal::PasswordFile {
            name: name.to_string(),
            file: file.display().to_string(),
        });
    }
    auth::check_string(&body.argon2).map_err(|error| Refusal::PasswordString(error.to_string()))?;
    app.keeper.set(&name, &body.argon2)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn forget_password<E: Engine>(State(app): Shared<E>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    app.keeper.forget(&known(&app, &name)?)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn logs<E: Engine>(
    State(app): Shared<E>,
    Extension(host): Extension<Option<Host>>,
    Path(name): Path<String>,
    Query(query): Query<api::LogQuery>,
) -> Result<Response, Refusal> {
    let name = known(&app, &name)?;
    let engine = host.ok_or(Refusal::NoRoute)?.engine;
    let log = engine.log(&name, query.lines.min(100_000), query.follow).await?;
    let token = app.token.clone();
    let lines = stream::unfold(log, |mut log| async move {
        let entry = log.next().await?;
        let at = jiff::Timestamp::from_microsecond(entry.at)
            .map(|at| at.to_string())
            .unwrap_or_default();
        Some((
            line(&api::LogLine {
                at,
                from: entry.from,
                message: entry.message,
            }),
            log,
        ))
    });
    Ok(ndjson(lines, token))
}

async fn test<E: Engine>(
    State(app): Shared<E>,
    Extension(host): Extension<Option<Host>>,
    Path(name): Path<String>,
) -> Result<Json<api::TestReport>, Refusal> {
    let name = known(&app, &name)?;
    let engine = host.ok_or(Refusal::NoRoute)?.engine;
    let desired = app.controller.desired();
    let workspace = desired
        .workspaces
        .get(&name)
        .ok_or_else(|| Refusal::Unknown(name.to_string()))?;
    let state = app.controller.report(&name).map(|report| report.borrow().state);
    if state != Some(api::State::Ready) {
        return Err(Refusal::NotReady {
            name: name.to_string(),
            state: state.map_or("unknown", api::State::word),
        });
    }
    let shell = |script: &str| vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let printed = engine.exec(workspace, &shell(probe::SCRIPT), false, TEST).await?;
    let terminal = engine.exec(workspace, &shell(probe::TERMINAL), true, TEST).await?;
    let mut checks = probe::read(&printed);
    let mut terminal = probe::read(&terminal);
    if terminal.is_empty() {
        terminal = probe::read("no\tterminal\tno answer");
    }
    checks.extend(terminal);
    let wire = |check: probe::Checked| api::Check {
        name: check.name,
        ok: check.ok,
        detail: check.detail,
    };
    Ok(Json(api::TestReport {
        checks: checks.into_iter().map(wire).collect(),
    }))
}

/// A name that the configuration or the host knows.
fn known<E: Engine>(app: &App<E>, name: &str) -> Result<WorkspaceName, Refusal> {
    let unknown = || Refusal::Unknown(name.escape_debug().take(60).collect());
    let parsed = WorkspaceName::parse(name).map_err(|_| unknown())?;
    if app.workspace_status(&parsed).is_none() {
        return Err(unknown());
    }
    Ok(parsed)
}

fn status_of<E: Engine>(app: &App<E>, name: &WorkspaceName) -> Result<Json<api::WorkspaceStatus>, Refusal> {
    app.workspace_status(name)
        .map(Json)
        .ok_or_else(|| Refusal::Unknown(name.to_string()))
}

fn line(value: &impl serde::Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    Bytes::from(line)
}

/// Lines until their end, or the daemon's.
fn ndjson(lines: impl futures_util::Stream<Item = Bytes> + Send + 'static, token: CancellationToken) -> Response {
    let lines = lines.take_until(token.cancelled_owned());
    let body = Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such path")]
    NoRoute,
    #[error("there is no workspace {0}")]
    Unknown(String),
    #[error("the workspace {0} is disabled in the configuration")]
    Disabled(String),
    #[error("the workspace {name} is {state}, not ready")]
    NotReady { name: String, state: &'static str },
    #[error("the configuration says where the password of {name} is: {file}")]
    PasswordFile { name: String, file: String },
    #[error("that is no usable argon2id string: {0}")]
    PasswordString(String),
    #[error("the configuration was refused; the last good one stays in force")]
    Configuration(Vec<Problem>),
    #[error("the daemon's own files can't be written")]
    Intent(#[from] IntentError),
    #[error("the daemon's own files can't be written")]
    File(#[from] FileError),
    #[error("the log can't be read")]
    Log(#[from] LogError),
    #[error("the command can't be run in the workspace")]
    Exec(#[from] ExecError),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, title, remediation) = match &self {
            Self::NoRoute => (
                404,
                "no-such-path",
                "not found",
                "this csm and the daemon may be of different versions: `csm version`".to_owned(),
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
            Self::Log(_) => (
                503,
                "log-unreadable",
                "failed",
                "`journalctl -u csm-NAME` as root shows the same".to_owned(),
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
            tracing::warn!(code, error = %Chain(&self), "request failed");
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
