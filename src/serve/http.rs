//! HTTP/1.1 over unix sockets: connections, their bounds, their orderly end, and who is at the other end. All sockets of
//! the daemon and of the gateway are served from here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::api::ProblemDetails;
use crate::api::descriptors::{Carrier, Received};

/// When descriptors run out, trying again at once would only turn the loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long who is refused gets to take the answer, and how much of what he says meanwhile is thrown away unread: a
/// connection that is closed on unread bytes is reset, and the answer with it.
const REFUSAL: Duration = Duration::from_secs(1);
const REFUSED_BYTES: u64 = 64 * 1024;

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
    /// Whether open descriptors that come with a request are kept for it, as the extension [`Received`].
    pub descriptors: bool,
    /// What somebody can do who is refused.
    pub way_out: &'static str,
}

/// Who is at the other end, by the kernel's word (SO_PEERCRED, unix(7)). Its process id is left out: that may be
/// somebody else's by the time it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
}

/// Serves until the token is cancelled; returns when the last answer is out, or its time is up. `allow` decides by the
/// peer's user id; of who is refused no byte is looked at, and the answer is always the same.
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
            connections.spawn(refuse(stream, slot, bounds.way_out));
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

/// Answers 403 to whatever is asked for.
async fn refuse(mut stream: UnixStream, _slot: Option<OwnedSemaphorePermit>, way_out: &str) {
    let answer = async {
        // An answer that comes before the question is a breach of protocol to its client.
        stream.read_exact(&mut [0]).await?;
        stream.write_all(&refusal(way_out)).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(REFUSED_BYTES), &mut tokio::io::sink()).await
    };
    // Who doesn't take the answer goes without.
    let _ = tokio::time::timeout(REFUSAL, answer).await;
}

fn refusal(way_out: &str) -> Vec<u8> {
    let problem = ProblemDetails {
        code: "not-permitted".to_owned(),
        title: "refused".to_owned(),
        status: 403,
        detail: "this socket is not for your account".to_owned(),
        remediation: way_out.to_owned(),
        problems: Vec::new(),
    };
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let length = body.len();
    format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn converse(
    stream: UnixStream,
    _slot: Option<OwnedSemaphorePermit>,
    router: Router,
    peer: Peer,
    bounds: Bounds,
    token: CancellationToken,
) {
    let received = bounds.descriptors.then(Received::default);
    let carrier = Carrier::receiving(stream, received.clone());
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if let Some(received) = &received {
            request.extensions_mut().insert(received.clone());
        }
        router.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(bounds.head_bytes)
        .serve_connection(TokioIo::new(carrier), service);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves one socket to the user id that is given, and says something to it; the answer is all that comes back.
    async fn answer(allowed: u32, say: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("http.sock");
        let bounds = Bounds {
            connections: 1,
            head: Duration::from_secs(5),
            head_bytes: 16 * 1024,
            grace: Duration::from_secs(5),
            descriptors: false,
            way_out: "ask somebody else",
        };
        let router = Router::new().fallback(|| async { "let in" });
        let token = CancellationToken::new();
        let listener = UnixListener::bind(&path).unwrap();
        let server = serve(listener, router, move |uid| uid == allowed, bounds, token.clone());
        let client = async {
            let mut answers = Vec::new();
            // With one slot, the second is answered only if the first has given it back.
            for _ in 0..2 {
                let mut stream = UnixStream::connect(&path).await.unwrap();
                let _ = stream.write_all(say).await;
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                answers.push(text);
            }
            token.cancel();
            assert_eq!(answers[0].lines().next(), answers[1].lines().next());
            answers.remove(0)
        };
        let within = Duration::from_secs(20);
        tokio::time::timeout(within, async { tokio::join!(client, server).0 })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn who_may_not_call_is_told_so_and_not_hung_up_on() {
        let own = rustix::process::geteuid().as_raw();
        let asked = b"GET /v1/workspaces HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(answer(own, asked).await.ends_with("let in"));
        for say in [asked.to_vec(), b"\x16\x03\x01 nonsense".to_vec(), vec![b'x'; 40_000]] {
            let text = answer(own + 1, &say).await;
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
            assert!(head.contains("content-type: application/problem+json"), "{head}");
            let problem: ProblemDetails = serde_json::from_str(body).unwrap();
            assert_eq!((problem.code.as_str(), problem.status), ("not-permitted", 403));
            assert_eq!(problem.remediation, "ask somebody else");
        }
    }
}
