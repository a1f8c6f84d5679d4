//! HTTP/1.1 on the socket that nginx asks on: connections, their bounds, their orderly end, and what is answered where.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::serve::gateway::{Gateway, answers, sign_in};

/// nginx takes heads of 32 KiB (`large_client_header_buffers`), and names the path twice.
const HEAD_MAX: usize = 64 * 1024;

/// When descriptors run out, trying again at once would only turn the loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers until `shutdown`; returns when the last answer is out, or its time is up.
pub async fn run(gateway: &Arc<Gateway>, listener: UnixListener, shutdown: &CancellationToken) {
    let router = router(gateway.clone());
    let slots = Arc::new(Semaphore::new(gateway.bounds.connections));
    let connections = TaskTracker::new();
    while let Some((stream, slot)) = shutdown.run_until_cancelled(accept(&listener, &slots)).await {
        connections.spawn(serve(gateway.clone(), stream, slot, router.clone(), shutdown.clone()));
    }
    // What nobody accepted yet stays in the queue of the socket, which systemd holds for the next one of us.
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/_csm/auth", any(answers::auth))
        .route("/_csm/denied", any(answers::denied))
        .route("/_csm/away", any(answers::away))
        .route("/_csm/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/_csm/sign-out", get(sign_in::show_out).post(sign_in::submit_out))
        .fallback(answers::not_found)
        .with_state(gateway)
}

async fn accept(listener: &UnixListener, slots: &Arc<Semaphore>) -> (UnixStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so that there always is a permit.
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(
    gateway: Arc<Gateway>,
    stream: UnixStream,
    _slot: Option<OwnedSemaphorePermit>,
    router: Router,
    shutdown: CancellationToken,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(gateway.bounds.head)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(gateway.bounds.grace, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
