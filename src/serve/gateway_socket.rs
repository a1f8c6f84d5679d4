//! `gateway.sock`: what the gateway may know, told as it changes. It gets argon2 strings and states, and has no verb
//! that starts, stops or reads anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use crate::api::{GatewayEvent, GatewaySettings, GatewayWorkspace};
use crate::host::Engine;
use crate::serve::app::App;

/// Changes that come within this time of each other are told together.
const TOGETHER: Duration = Duration::from_millis(5);

pub fn router<E: Engine>(app: Arc<App<E>>) -> Router {
    Router::new().route("/v1/watch", get(watch)).with_state(app)
}

async fn watch<E: Engine>(State(app): State<Arc<App<E>>>) -> Response {
    let end = app.token.clone().cancelled_owned();
    let (lines, receiver) = mpsc::channel::<GatewayEvent>(64);
    let tell = async move {
        tell(app, lines).await;
    };
    // The body drives the teller: when the gateway hangs up, both are dropped.
    let body = stream::unfold(
        (Box::pin(tell), receiver, false),
        |(mut tell, mut receiver, mut ended)| async move {
            let event = loop {
                tokio::select! {
                    biased;
                    event = receiver.recv() => break event?,
                    () = &mut tell, if !ended => ended = true,
                }
            };
            let mut line = serde_json::to_vec(&event).ok()?;
            line.push(b'\n');
            Some((
                Ok::<_, std::convert::Infallible>(Bytes::from(line)),
                (tell, receiver, ended),
            ))
        },
    );
    (
        [("content-type", "application/x-ndjson")],
        Body::from_stream(body.take_until(end)),
    )
        .into_response()
}

async fn tell<E: Engine>(app: Arc<App<E>>, lines: mpsc::Sender<GatewayEvent>) {
    let mut told: BTreeMap<String, GatewayWorkspace> = BTreeMap::new();
    let mut settings = None;
    let mut passwords = app.keeper.current();
    let mut roster = app.controller.roster();
    let mut config = app.config.subscribe();
    let mut synced = false;
    loop {
        // Marked as seen before they are read, so that nothing between is missed.
        passwords.borrow_and_update();
        roster.borrow_and_update();
        let lifetime = config.borrow_and_update().gateway.session_lifetime.as_secs();
        let mut reports: Vec<_> = app.controller.reports().into_iter().collect();
        for (_, report) in &mut reports {
            report.borrow_and_update();
        }
        if settings != Some(lifetime) {
            settings = Some(lifetime);
            let event = GatewayEvent::Settings(GatewaySettings {
                session_lifetime_seconds: lifetime,
            });
            if lines.send(event).await.is_err() {
                return;
            }
        }
        // Before the passwords have been read, "no password" would be a lie that ends every session.
        let known = app.keeper.is_read();
        let fresh: BTreeMap<String, GatewayWorkspace> = reports
            .iter()
            .filter(|_| known)
            .filter_map(|(name, _)| Some((name.to_string(), app.gateway_view(name)?)))
            .collect();
        let changed = fresh
            .values()
            .filter(|view| told.get(&view.name) != Some(*view))
            .cloned();
        let gone = told.keys().filter(|name| !fresh.contains_key(*name)).cloned();
        let mut events: Vec<GatewayEvent> = changed.map(GatewayEvent::Workspace).collect();
        events.extend(gone.map(|name| GatewayEvent::Removed { name }));
        if !synced && known {
            synced = true;
            events.push(GatewayEvent::Synced {});
        }
        for event in events {
            if lines.send(event).await.is_err() {
                return;
            }
        }
        told = fresh;
        let any_report = async {
            if reports.is_empty() {
                std::future::pending::<()>().await;
            }
            futures_util::future::select_all(reports.iter_mut().map(|(_, report)| Box::pin(report.changed()))).await
        };
        tokio::select! {
            changed = passwords.changed() => if changed.is_err() { return },
            changed = roster.changed() => if changed.is_err() { return },
            changed = config.changed() => if changed.is_err() { return },
            _ = any_report => {}
            () = lines.closed() => return,
        }
        tokio::time::sleep(TOGETHER).await;
    }
}
