//! HTTP/1.1 over a unix socket with the peer's account known: how the daemon serves its two sockets.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// A caller has this long to send its request's head.
const HEAD: Duration = Duration::from_secs(10);
/// Open connections at once; more wait in the socket's backlog.
const CONNECTIONS: usize = 128;

/// Who is at the other end, by the kernel's word (SO_PEERCRED, unix(7)). Its process id is left out: that may be
/// somebody else's by the time it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
}

/// Serves until the token is cancelled; then connections get `grace` to finish. `allow` decides by the peer's user id
/// before a byte is read; who is refused is hung up on.
pub async fn serve(
    listener: UnixListener,
    router: Router,
    allow: impl Fn(u32) -> bool,
    grace: Duration,
    token: CancellationToken,
) {
    let connections = TaskTracker::new();
    let slots = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            () = token.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Ok(credentials) = stream.peer_cred() else { continue };
        if !allow(credentials.uid()) {
            tracing::warn!(uid = credentials.uid(), "caller refused");
            continue;
        }
        let peer = Peer { uid: credentials.uid() };
        let (router, token) = (router.clone(), token.clone());
        connections.spawn(async move {
            converse(stream, router, peer, token).await;
            drop(slot);
        });
    }
    connections.close();
    let _ = tokio::time::timeout(grace, connections.wait()).await;
}

async fn converse(stream: UnixStream, router: Router, peer: Peer, token: CancellationToken) {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = token.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
