//! Turns what the machine says into looks: what systemd signals, what the kernel ended, and the safety net for what nobody
//! said. Decides nothing about workspaces.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::host::Engine;
use crate::host::live::LiveEngine;
use crate::host::logs::LogError;
use crate::host::systemd::{Chain, Event};
use crate::host::watch::Change;
use crate::model::unit;
use crate::serve::events::past;
use crate::serve::failpoint;
use crate::serve::reconcile::Controller;

/// Everything is looked at again this often whatever happens: a safety net, not the way things are noticed.
pub const RESYNC: Duration = Duration::from_secs(600);
/// The same while systemd can't be reached.
const UNANSWERED: Duration = Duration::from_secs(5);
/// How long the journal may take to say what was told before.
const JOURNAL: Duration = Duration::from_secs(10);

/// Turns what systemd says into looks. While it says nothing it is asked again and again, so that its return is noticed.
pub async fn follow<E: Engine>(
    mut events: Receiver<Event>,
    controller: Arc<Controller<E>>,
    connected: watch::Sender<bool>,
    token: CancellationToken,
) {
    // Those of the configuration look as they begin; the others have to be found.
    let is_connected = *connected.borrow();
    let found = is_connected && controller.find().await;
    // Moved by a look at everything and by nothing else: units of others may come and go all day.
    let mut due = Instant::now() + if found { RESYNC } else { UNANSWERED };
    loop {
        let event = tokio::select! {
            () = token.cancelled() => return,
            event = timeout_at(due, events.recv()) => event,
        };
        failpoint::daemon();
        match event {
            Ok(Ok(Event::Unit(name))) => {
                if let Some(workspace) = unit::workspace_of(&name) {
                    controller.kick(&workspace);
                }
                continue;
            }
            Ok(Ok(Event::Lost)) => {
                // guard: F4-told
                connected.send_replace(false);
                due = due.min(Instant::now() + UNANSWERED);
                continue;
            }
            Ok(Ok(Event::Resync)) => {
                connected.send_replace(true);
            }
            // Events were missed, or it is time.
            Ok(Err(RecvError::Lagged(_))) | Err(_) => {}
            Ok(Err(RecvError::Closed)) => return,
        }
        controller.resync().await;
        let pause = if *connected.borrow() { RESYNC } else { UNANSWERED };
        due = Instant::now() + pause;
    }
}

/// The kernel ended something in a workspace: it is told at once, since the run may have ended with it, and its worker looks.
pub async fn follow_kills(engine: Arc<LiveEngine>, controller: Arc<Controller<LiveEngine>>, token: CancellationToken) {
    let mut changes = engine.kills.changes();
    while let Some(change) = token.run_until_cancelled(changes.recv()).await {
        let rose = match change {
            Ok(Change::At(path)) => engine.kills.rose(&path).into_iter().collect(),
            Ok(Change::Lost) | Err(RecvError::Lagged(_)) => engine.kills.all_that_rose(),
            Err(RecvError::Closed) => return,
        };
        for (name, run, oom) in rose {
            controller.killed(&name, run, oom);
        }
    }
}

/// What was told of kills before this daemon started. What the journal doesn't say in time is told again.
pub async fn remember_kills(
    engine: Arc<LiveEngine>,
    controller: Arc<Controller<LiveEngine>>,
    mut connected: watch::Receiver<bool>,
) {
    let _ = connected.wait_for(|connected| *connected).await;
    let mut noted = Vec::new();
    let read = async {
        let mut log = engine.journal(&past::oom_query()).await?;
        while let Some(entry) = log.next().await? {
            noted.extend(past::oom_of_entry(&entry));
        }
        Ok::<_, LogError>(())
    };
    match timeout(JOURNAL, read).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = %Chain(&error), "earlier kills for want of memory are not known");
        }
        Err(_) => tracing::warn!(
            read = noted.len(),
            "the journal did not say all of earlier kills for want of memory within {} s",
            JOURNAL.as_secs()
        ),
    }
    controller.events().remember_oom(noted);
}
