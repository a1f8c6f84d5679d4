//! Asks nginx which generation it serves.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// One question takes at most this long.
const ANSWER: Duration = Duration::from_secs(1);
/// More than a digest is not an answer.
const LIMIT: usize = 64;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("connect to nginx's probe socket")]
    Connect(#[source] std::io::Error),
    #[error("ask nginx for its generation")]
    Http(#[source] hyper::Error),
    #[error("read nginx's generation")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("nginx answers the probe with status {0}")]
    Status(u16),
    #[error("nginx didn't answer the probe within {} s", ANSWER.as_secs())]
    Late,
}

/// The digest that nginx answers with.
pub async fn served(socket: &Path) -> Result<String, ProbeError> {
    timeout(ANSWER, ask(socket)).await.unwrap_or(Err(ProbeError::Late))
}

async fn ask(socket: &Path) -> Result<String, ProbeError> {
    let stream = UnixStream::connect(socket).await.map_err(ProbeError::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(ProbeError::Http)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    let headers = request.headers_mut();
    headers.insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("probe"));
    headers.insert(
        hyper::header::CONNECTION,
        hyper::header::HeaderValue::from_static("close"),
    );
    let question = async move {
        let reply = sender.send_request(request).await.map_err(ProbeError::Http)?;
        if reply.status() != hyper::StatusCode::OK {
            return Err(ProbeError::Status(reply.status().as_u16()));
        }
        let body = Limited::new(reply.into_body(), LIMIT)
            .collect()
            .await
            .map_err(ProbeError::Body)?
            .to_bytes();
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    };
    // The connection carries the answer, so an error of its own shows in the answer.
    join(question, connection).await.0
}
