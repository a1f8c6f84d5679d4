//! nginx's unit as the publisher sees it, through systemd and the journal.

use std::sync::Arc;
use std::time::Duration;

use crate::host::logs::{self, Query};
use crate::host::nginx::{JobResult, ReloadError, Reloader, UnitState};
use crate::host::systemd::{Systemd, SystemdError};

/// nginx tests its configuration first, which takes a while with many files.
const RELOAD: Duration = Duration::from_secs(30);
/// How long the journal is read for a hint.
const HINT: Duration = Duration::from_secs(5);

impl Reloader for Arc<Systemd> {
    async fn state(&self, unit: &str) -> Result<UnitState, ReloadError> {
        let rows = self
            .list(&[unit.to_owned()])
            .await
            .map_err(|error| silent(unit, error))?;
        Ok(match rows.first().map_or("inactive", |row| row.active.as_str()) {
            "active" | "reloading" | "refreshing" => UnitState::Active,
            "activating" => UnitState::Starting,
            "failed" => UnitState::Failed,
            _ => UnitState::Inactive,
        })
    }

    async fn reload(&self, unit: &str) -> Result<JobResult, ReloadError> {
        match Systemd::reload(self, unit, RELOAD).await {
            Ok(()) => Ok(JobResult::Done),
            Err(SystemdError::Job { result, .. }) => Ok(JobResult::Failed(result)),
            Err(SystemdError::Deadline { .. }) => Ok(JobResult::Failed("timeout".to_owned())),
            Err(error) => Err(silent(unit, error)),
        }
    }

    /// The last line of the unit's journal that nginx calls an emergency, without its time and process.
    async fn complaint(&self, unit: &str) -> Option<String> {
        let path = std::env::var("PATH").ok()?;
        let read = async {
            let mut log = logs::open(self, &path, &Query::of_unit(unit, 20, false)).await.ok()?;
            let mut last = None;
            while let Ok(Some(entry)) = log.next().await {
                if let Some((_, said)) = entry.message().split_once("[emerg]") {
                    let said = said.split_once(": ").map_or(said, |(_, said)| said);
                    last = Some(said.trim().to_owned());
                }
            }
            last
        };
        tokio::time::timeout(HINT, read).await.ok()?
    }

    async fn runtime_directories(&self, unit: &str) -> Result<Vec<String>, ReloadError> {
        let ask = async {
            let path = self.load(unit).await?;
            let properties = self.properties(unit, &path, "org.freedesktop.systemd1.Service").await?;
            let directories = properties.get("RuntimeDirectory").and_then(|own| own.try_clone().ok());
            Ok(directories
                .and_then(|own| Vec::<String>::try_from(own).ok())
                .unwrap_or_default())
        };
        ask.await.map_err(|error| silent(unit, error))
    }
}

fn silent(unit: &str, error: SystemdError) -> ReloadError {
    ReloadError {
        unit: unit.to_owned(),
        source: Box::new(error),
    }
}
