//! ADMIN API on `admin.sock`: every route on one screen, each with what the API's document (docs/openapi.json) says of it,
//! and the caller's account checked by the kernel's word.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json, Router};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{self, ProblemDetails};
use crate::host::exec::ExecError;
use crate::host::live::LiveEngine;
use crate::host::logs::LogError;
use crate::host::systemd::Chain;
use crate::host::{Engine, accounts};
use crate::model::auth;
use crate::model::layout::ADMIN_GROUP;
use crate::model::names::WorkspaceName;
use crate::model::{probe, unit};
use crate::serve::admin::refusal::Refusal;
use crate::serve::app::App;
use crate::serve::events::Event;
use crate::serve::exec;
use crate::serve::http::Peer;

pub mod live;
pub mod refusal;
pub mod usage;

/// `csm test` as a whole.
const TEST: Duration = Duration::from_secs(60);

/// What only the real host can answer.
#[derive(Clone)]
pub struct Host {
    pub engine: Arc<LiveEngine>,
}

/// Root, and members of the admin group.
// guard: A15-who
pub fn may_administer(uid: u32) -> bool {
    uid == 0 || accounts::in_group(uid, ADMIN_GROUP)
}

pub fn router<E: Engine>(app: Arc<App<E>>, host: Option<Host>) -> Router {
    Router::from(routes::<E>())
        .fallback(|| async { Refusal::NoRoute })
        .layer(Extension(host))
        .with_state(app)
}

/// What docs/openapi.json holds.
pub fn document() -> OpenApi {
    routes::<LiveEngine>().into_openapi()
}

/// A route is what `utoipa::path` says above its handler: there is no way to answer a path that is not in the document.
fn routes<E: Engine>() -> OpenApiRouter<Arc<App<E>>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(version))
        .routes(routes!(health))
        .routes(routes!(plan))
        .routes(routes!(reload))
        .routes(routes!(live::events))
        .routes(routes!(usage::usage))
        .routes(routes!(usage::disk))
        .routes(routes!(workspaces))
        .routes(routes!(workspace))
        .routes(routes!(follow))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(restart))
        .routes(routes!(logs))
        .routes(routes!(set_password, forget_password))
        .routes(routes!(test))
        .routes(routes!(exec::exec))
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "code-server-multi admin API",
        description = "HTTP/1.1 on the unix socket /run/code-server-multi/admin.sock, for root and members of the group \
                       csm-admin; the kernel says who calls. `csm` uses nothing else. Within a version of the path fields \
                       are added and never changed, so a reader leaves out what it does not know. Try it: `curl \
                       --unix-socket /run/code-server-multi/admin.sock http://localhost/v1/workspaces`",
    ),
    servers((url = "http://localhost", description = "through the socket; the host name means nothing")),
    components(schemas(ProblemDetails)),
)]
struct Description;

type Shared<E> = State<Arc<App<E>>>;

/// The versions of the daemon and of this API.
#[utoipa::path(get, path = "/v1/version", responses((status = 200, body = api::Version, description = "the versions")))]
async fn version() -> Json<api::Version> {
    Json(api::Version {
        api: api::VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// What the daemon can't see or do at present.
#[utoipa::path(get, path = "/v1/health", responses((status = 200, body = api::Health, description = "ok or degraded")))]
async fn health<E: Engine>(State(app): Shared<E>) -> Json<api::Health> {
    let findings = app.degraded();
    let status = if findings.is_empty() { "ok" } else { "degraded" };
    Json(api::Health {
        status: status.to_owned(),
        findings,
    })
}

/// Everything that `csm status` shows.
#[utoipa::path(get, path = "/v1/workspaces", responses((status = 200, body = api::Status, description = "everything")))]
async fn workspaces<E: Engine>(State(app): Shared<E>) -> Json<api::Status> {
    Json(app.status())
}

/// One workspace.
#[utoipa::path(
    get, path = "/v1/workspaces/{name}",
    responses((status = 200, body = api::WorkspaceStatus, description = "the workspace"), Refusal)
)]
async fn workspace<E: Engine>(
    State(app): Shared<E>,
    Path(name): Path<String>,
) -> Result<Json<api::WorkspaceStatus>, Refusal> {
    status_of(&app, &known(&app, &name)?)
}

/// The workspace at each change, one JSON object a line, until the caller hangs up.
#[utoipa::path(
    get, path = "/v1/workspaces/{name}/follow",
    responses(
        (status = 200, body = api::WorkspaceStatus, description = "one a line", content_type = "application/x-ndjson"),
        Refusal,
    )
)]
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
        Some((Ok::<_, Infallible>(line(&status)), (app, name, report, false)))
    });
    Ok(ndjson(lines, token))
}

/// Have the workspace run.
///
/// Answers at once, with `busy` set while the daemon is at work.
#[utoipa::path(
    post, path = "/v1/workspaces/{name}/start",
    responses((status = 200, body = api::WorkspaceStatus, description = "taken on"), Refusal)
)]
async fn start<E: Engine>(
    State(app): Shared<E>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Result<Json<api::WorkspaceStatus>, Refusal> {
    let name = asked(&app, &name, peer, "start")?;
    app.controller.intend(&name, true, &by("csm start", peer)).await?;
    status_of(&app, &name)
}

/// Have the workspace stopped; its home stays.
///
/// Answers at once.
#[utoipa::path(
    post, path = "/v1/workspaces/{name}/stop",
    responses((status = 200, body = api::WorkspaceStatus, description = "taken on"), Refusal)
)]
async fn stop<E: Engine>(
    State(app): Shared<E>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Result<Json<api::WorkspaceStatus>, Refusal> {
    let name = asked(&app, &name, peer, "stop")?;
    app.controller.intend(&name, false, &by("csm stop", peer)).await?;
    status_of(&app, &name)
}

/// Stop and start the workspace, which also applies what is pending.
///
/// Answers at once.
#[utoipa::path(
    post, path = "/v1/workspaces/{name}/restart",
    responses((status = 200, body = api::WorkspaceStatus, description = "taken on"), Refusal)
)]
async fn restart<E: Engine>(
    State(app): Shared<E>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Result<Json<api::WorkspaceStatus>, Refusal> {
    let name = asked(&app, &name, peer, "restart")?;
    if let Some(trouble) = app.controller.obstacles(&name).await.into_iter().next() {
        return Err(Refusal::WouldNotStart(Box::new(trouble)));
    }
    app.controller.restart(&name, &by("csm restart", peer)).await?;
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

/// For intents and events: a name says more than a number.
fn by(verb: &str, peer: Peer) -> String {
    let user = accounts::name_of(peer.uid).unwrap_or_else(|| format!("user {}", peer.uid));
    format!("{verb} by {user}")
}

/// What the daemon would do now.
#[utoipa::path(
    get, path = "/v1/plan",
    responses((status = 200, body = api::Plan, description = "empty when everything is as configured"))
)]
async fn plan<E: Engine>(State(app): Shared<E>) -> Json<api::Plan> {
    let mut plan = App::<E>::plan_wire(&app.controller.plan().await);
    plan.host.extend(app.nginx.borrow().steps.iter().cloned());
    Json(plan)
}

/// Read the configuration again.
///
/// A file with problems is refused, and the last good one stays in force.
#[utoipa::path(
    post, path = "/v1/reload",
    responses((status = 200, body = api::Reloaded, description = "the file is in force"), Refusal)
)]
async fn reload<E: Engine>(State(app): Shared<E>) -> Result<Json<api::Reloaded>, Refusal> {
    let changed = app.reload().map_err(Refusal::Configuration)?;
    Ok(Json(api::Reloaded { changed }))
}

/// Set the password that signs in to the workspace.
///
/// The caller hashed it: the daemon never sees the password.
#[utoipa::path(
    put, path = "/v1/workspaces/{name}/password", request_body = api::PasswordString,
    responses((status = 204, description = "set; sessions with another have ended"), Refusal)
)]
async fn set_password<E: Engine>(
    State(app): Shared<E>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    body: Result<Json<api::PasswordString>, JsonRejection>,
) -> Result<StatusCode, Refusal> {
    let name = known(&app, &name)?;
    let Json(body) = body?;
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
    app.keeper.set(&name, body.argon2).await?;
    password_changed(&app, name, by("csm password", peer));
    Ok(StatusCode::NO_CONTENT)
}

/// Forget the password that was set.
#[utoipa::path(
    delete, path = "/v1/workspaces/{name}/password",
    responses((status = 204, description = "forgotten: nobody can sign in"), Refusal)
)]
async fn forget_password<E: Engine>(
    State(app): Shared<E>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let name = known(&app, &name)?;
    app.keeper.forget(&name).await?;
    password_changed(&app, name, by("csm password --remove", peer));
    Ok(StatusCode::NO_CONTENT)
}

/// Who lets somebody in has to be known later.
fn password_changed<E: Engine>(app: &App<E>, workspace: WorkspaceName, why: String) {
    app.controller.events().tell(Event::PasswordChanged { workspace, why });
}

/// What the workspace's service wrote to the journal, one JSON object a line.
#[utoipa::path(
    get, path = "/v1/workspaces/{name}/logs", params(api::LogQuery),
    responses(
        (status = 200, body = api::LogLine, description = "one a line", content_type = "application/x-ndjson"),
        Refusal,
    )
)]
async fn logs<E: Engine>(
    State(app): Shared<E>,
    Extension(host): Extension<Option<Host>>,
    Path(name): Path<String>,
    query: Result<Query<api::LogQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let name = known(&app, &name)?;
    let Query(query) = query?;
    let engine = host.ok_or(Refusal::NoRoute)?.engine;
    let unreadable = |error| Refusal::Log {
        source: Box::new(error),
        by_hand: format!(
            "journalctl --namespace=+{} -u {}",
            unit::LOG_NAMESPACE,
            unit::service_name(&name)
        ),
    };
    let log = engine.log(&name, query.lines.min(100_000), query.follow).await;
    let token = app.token.clone();
    let lines = stream::try_unfold(log.map_err(unreadable)?, |mut log| async move {
        let Some(entry) = log.next().await? else {
            return Ok(None);
        };
        let at = jiff::Timestamp::from_microsecond(entry.at)
            .map(|at| at.to_string())
            .unwrap_or_default();
        let from = entry.get("SYSLOG_IDENTIFIER").unwrap_or_default().to_owned();
        let message = entry.message().to_owned();
        Ok::<_, LogError>(Some((line(&api::LogLine { at, from, message }), log)))
    });
    Ok(ndjson(lines, token))
}

/// Check from inside whether the workspace works.
#[utoipa::path(
    post, path = "/v1/workspaces/{name}/test",
    responses((status = 200, body = api::TestReport, description = "one line a check"), Refusal)
)]
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
    let work = async {
        let printed = exec::printed(&engine, workspace, shell(probe::SCRIPT), false).await?;
        let terminal = exec::printed(&engine, workspace, shell(probe::TERMINAL), true).await?;
        Ok::<_, Refusal>((printed, terminal))
    };
    // Given up on, the line is closed, which ends the command.
    let (printed, terminal) = tokio::time::timeout(TEST, work)
        .await
        .map_err(|_| ExecError::Deadline(TEST))??;
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
pub fn known<E: Engine>(app: &App<E>, name: &str) -> Result<WorkspaceName, Refusal> {
    let unknown = || Refusal::Unknown(name.escape_debug().take(60).collect());
    let parsed = WorkspaceName::parse(name).map_err(|_| unknown())?;
    if !app.knows(&parsed) {
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

/// Lines until their end, or the daemon's. An error cuts the answer off, which its reader can tell from an end.
fn ndjson<Error: std::error::Error + Send + Sync + 'static>(
    lines: impl futures_util::Stream<Item = Result<Bytes, Error>> + Send + 'static,
    token: CancellationToken,
) -> Response {
    let lines = lines.inspect_err(|error| tracing::warn!(error = %Chain(error), "an answer was cut off"));
    let body = Body::from_stream(lines.take_until(token.cancelled_owned()));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}
