//! HTTP/1.1 over unix sockets: connections, their bounds, their orderly end, and who is at the other end. All sockets of
//! the daemon and of the gateway are served from here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// When descriptors run out, trying again at once would only turn the loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one caller, or all of them, can make a socket spend.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open at once; more wait in the socket's queue.
    pub connections: usize,
    /// From the start of a connection or the end of the last answer to the end of the next request's head.
    pub head: Duration,
    pub head_bytes: usize,
    /// How long what is being answered may take when the service stops.
    pub grace: Duration,
}

/// Who is at the other end, by the kernel's word (SO_PEERCRED, unix(7)). Its process id is left out: that may be
/// somebody else's by the time it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
}

/// Serves until the token is cancelled; returns when the last answer is out, or its time is up. `allow` decides by the
/// peer's user id before a byte is read; who is refused is hung up on.
pub async fn serve(
    listener: UnixListener,
    router: Router,
    allow: impl Fn(u32) -> bool,
    bounds: Bounds,
    token: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let connections = TaskTracker::new();
    while let Some((stream, slot)) = token.run_until_cancelled(accept(&listener, &slots)).await {
        let Ok(credentials) = stream.peer_cred() else { continue };
        let peer = Peer { uid: credentials.uid() };
        if allow(peer.uid) {
            connections.spawn(converse(stream, slot, router.clone(), peer, bounds, token.clone()));
        } else {
            // A line for each call would be the caller's to choose.
            tracing::debug!(uid = peer.uid, "caller refused");
        }
    }
    // What nobody accepted yet stays in the queue of a socket that systemd holds, for the next one of us.
    drop(listener);
    connections.close();
    connections.wait().await;
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

async fn converse(
    stream: UnixStream,
    _slot: Option<OwnedSemaphorePermit>,
    router: Router,
    peer: Peer,
    bounds: Bounds,
    token: CancellationToken,
) {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(bounds.head_bytes)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = token.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(bounds.grace, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
