//! What workspaces use: read from the kernel for each answer, and kept nowhere.

use axum::extract::{Path, State};
use axum::{Extension, Json};

use crate::api;
use crate::host::{Engine, stats};
use crate::serve::admin::refusal::Refusal;
use crate::serve::admin::{Host, Shared, known};

/// What workspaces use at this moment.
#[utoipa::path(get, path = "/v1/usage", responses((status = 200, body = api::Usage, description = "what is in use")))]
pub async fn usage<E: Engine>(State(app): Shared<E>) -> Json<api::Usage> {
    let statuses = app.status().workspaces;
    // Some ten small files each.
    let looked = tokio::task::spawn_blocking(move || statuses.into_iter().map(of_workspace).collect());
    Json(api::Usage {
        api: api::VERSION,
        workspaces: looked.await.unwrap_or_default(),
        clock_usec: clock_usec(),
    })
}

fn of_workspace(status: api::WorkspaceStatus) -> api::WorkspaceUsage {
    let counts = stats::look(&status.unit).map(|counts| api::Counts {
        cpu_usec: counts.cpu_usec,
        memory_bytes: counts.memory_bytes,
        memory_peak_bytes: counts.memory_peak_bytes,
        tasks: counts.tasks,
        oom_kills: counts.oom.map(|oom| oom.kills),
        pressure_cpu: counts.pressure_cpu,
        pressure_memory: counts.pressure_memory,
        pressure_io: counts.pressure_io,
    });
    api::WorkspaceUsage {
        name: status.name,
        state: status.state,
        limits: status.limits,
        counts,
    }
}

fn clock_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unwrap_or_default()
}

/// What the home takes on the disk, counted now: it may take a minute.
#[utoipa::path(
    get, path = "/v1/workspaces/{name}/disk",
    responses((status = 200, body = api::DiskUse, description = "what it takes"), Refusal)
)]
pub async fn disk<E: Engine>(
    State(app): Shared<E>,
    Extension(host): Extension<Option<Host>>,
    Path(name): Path<String>,
) -> Result<Json<api::DiskUse>, Refusal> {
    let name = known(&app, &name)?;
    let engine = host.ok_or(Refusal::NoRoute)?.engine;
    let desired = app.controller.desired();
    let workspace = desired.workspaces.get(&name);
    let workspace = workspace.ok_or_else(|| Refusal::Unknown(name.to_string()))?;
    let bytes = engine.disk(workspace).await?;
    Ok(Json(api::DiskUse { bytes }))
}
