//! Notices that the configuration file has changed, behind whatever links it lies. A file that is being written is left
//! alone until it has been quiet for a moment; a bad one changes nothing but the status.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::host::Engine;
use crate::host::secrets::waypoints;
use crate::host::watch::{Change, Watch};
use crate::serve::app::App;
use crate::serve::triggers::RESYNC;

/// Editors write in several steps, and a switch of generations swaps several links.
// guard: F19-one-change
const QUIET: Duration = Duration::from_millis(200);

/// Reads the file again after each change, until the token is cancelled.
pub async fn watch<E: Engine>(app: Arc<App<E>>, watch: Arc<Watch>, path: PathBuf, token: CancellationToken) {
    let mut changes = watch.changes();
    loop {
        let entries = waypoints(&path);
        watch.add_parents(entries.iter());
        tokio::select! {
            () = token.cancelled() => return,
            () = changed(&mut changes, &entries) => {}
            // Should a change ever go unnoticed.
            () = tokio::time::sleep(RESYNC) => {}
        }
        while tokio::time::timeout(QUIET, changed(&mut changes, &entries))
            .await
            .is_ok()
        {}
        // What it says of problems is in the status; nobody waits for an answer here.
        let _ = app.reload();
    }
}

/// Waits for a change of one of these entries, or for having missed some.
async fn changed(changes: &mut broadcast::Receiver<Change>, entries: &BTreeSet<PathBuf>) {
    loop {
        match changes.recv().await {
            Ok(Change::At(path)) if !entries.contains::<Path>(path.as_ref()) => {}
            // guard: F29-read-again-lagged
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            _ => return,
        }
    }
}
