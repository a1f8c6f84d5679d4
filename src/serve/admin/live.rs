//! The live view: events, as they were and as they come.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use futures_util::stream;
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::api;
use crate::host::Engine;
use crate::host::live::LiveEngine;
use crate::host::logs::{self, Log, LogError};
use crate::host::systemd::Chain;
use crate::model::names::WorkspaceName;
use crate::serve::admin::refusal::Refusal;
use crate::serve::admin::{Host, Shared, line, ndjson};
use crate::serve::events::past::{self, DAEMON, GATEWAY};

/// A reader that wants more asks again.
const EVENTS_MAX: u32 = 10_000;
/// Who follows doesn't wait for a journal that says nothing for so long: what happens from now on is worth more.
const SILENCE: Duration = Duration::from_secs(10);

/// What happened and, if `follow`, what happens from now on, one JSON object a line.
#[utoipa::path(
    get, path = "/v1/events", params(api::EventQuery),
    responses(
        (status = 200, body = api::Event, description = "one a line", content_type = "application/x-ndjson"),
        Refusal,
    )
)]
pub async fn events<E: Engine>(
    State(app): Shared<E>,
    Extension(host): Extension<Option<Host>>,
    query: Result<Query<api::EventQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let unknown = |text: &String| Refusal::Unknown(text.escape_debug().take(60).collect());
    // Also of one that is long gone.
    let name = query
        .workspace
        .as_ref()
        .map(|text| WorkspaceName::parse(text).map_err(|_| unknown(text)));
    let name = name.transpose()?;
    let since = query.since.as_ref().map(|text| text.parse::<jiff::Timestamp>());
    let since = since.transpose().map_err(|_| Refusal::Time)?;
    let mut reader = Reader {
        engine: host.ok_or(Refusal::NoRoute)?.engine,
        name,
        own: query.follow.then(|| app.controller.events().follow()),
        // What the gateway tells while the past is read must not fall in between.
        begun: jiff::Timestamp::now().as_microsecond(),
        past: None,
        gateway: None,
        seen: HashSet::new(),
    };
    let query = logs::Query {
        lines: query.lines.min(EVENTS_MAX),
        since: since.map(jiff::Timestamp::as_microsecond),
        ..past::query(&[DAEMON, GATEWAY], reader.name.as_ref())
    };
    let past = reader.engine.journal(&query).await;
    reader.past = Some(past.map_err(|error| Refusal::Log {
        source: Box::new(error),
        by_hand: format!("journalctl MESSAGE_ID={}", past::MESSAGE_ID),
    })?);
    let lines = stream::try_unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Ok::<_, LogError>(event.map(|event| (line(&event), reader)))
    });
    Ok(ndjson(lines, app.token.clone()))
}

/// The journal first, then what this daemon tells, so that neither waits for journald, and with it what the gateway tells.
struct Reader {
    engine: Arc<LiveEngine>,
    name: Option<WorkspaceName>,
    own: Option<broadcast::Receiver<api::Event>>,
    begun: i64,
    past: Option<Log>,
    gateway: Option<Log>,
    /// Ids of the past: what is both in the journal and told now is said once.
    seen: HashSet<String>,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<api::Event>, LogError> {
        while let Some(past) = &mut self.past {
            let entry = if self.own.is_none() {
                past.next().await?
            } else {
                match timeout(SILENCE, past.next()).await {
                    Ok(Ok(entry)) => entry,
                    Ok(Err(error)) => {
                        tracing::warn!(error = %Chain(&error), "earlier events are not told to who follows");
                        None
                    }
                    Err(_) => {
                        tracing::warn!("earlier events are not told to who follows: the journal says nothing");
                        None
                    }
                }
            };
            let Some(entry) = entry else {
                self.past = None;
                self.follow_gateway().await;
                break;
            };
            if let Some(event) = past::of_entry(&entry) {
                self.seen.insert(event.id.clone());
                return Ok(Some(event));
            }
        }
        Ok(self.told().await)
    }

    /// The next of what is told from now on.
    async fn told(&mut self) -> Option<api::Event> {
        loop {
            let gateway = async {
                match &mut self.gateway {
                    Some(log) => log.next().await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                told = self.own.as_mut()?.recv() => match told {
                    Ok(event) => Some(event),
                    // Who was too slow asks the journal for what is missing, from the last one on.
                    Err(broadcast::error::RecvError::Lagged(_) | broadcast::error::RecvError::Closed) => return None,
                },
                entry = gateway => {
                    // Its end is none of those that follow; without it the daemon's own go on.
                    let entry = entry.ok().flatten();
                    if entry.is_none() {
                        self.gateway = None;
                    }
                    entry.as_ref().and_then(past::of_entry)
                }
            };
            let of_interest = |event: &api::Event| {
                let name = self.name.as_ref().map(WorkspaceName::as_str);
                name.is_none_or(|name| event.workspace.as_deref() == Some(name)) && !self.seen.contains(&event.id)
            };
            if let Some(event) = event.filter(of_interest) {
                return Some(event);
            }
        }
    }

    async fn follow_gateway(&mut self) {
        if self.own.is_none() {
            return;
        }
        let query = logs::Query {
            lines: EVENTS_MAX,
            since: Some(self.begun),
            follow: true,
            ..past::query(&[GATEWAY], self.name.as_ref())
        };
        match self.engine.journal(&query).await {
            Ok(log) => self.gateway = Some(log),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the gateway's events can't be followed");
            }
        }
    }
}
