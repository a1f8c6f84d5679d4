//! Listens to the daemon: what there is, then each change. While the daemon is away its last word stays in force.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use crate::api::GatewayEvent;
use crate::serve::gateway::Gateway;

/// Between attempts: at first, and at most. A password change must be in force within 2 s of the daemon's start.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A message for the visitor and an argon2 string are far below it.
const LINE_MAX: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("can't connect to the daemon")]
    Connect(#[source] io::Error),
    #[error("the daemon did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    #[error("speaking to the daemon failed")]
    Http(#[from] hyper::Error),
    #[error("the daemon answered {0}")]
    Status(StatusCode),
    #[error("a line of the daemon's can't be read")]
    Read(#[source] LinesCodecError),
    // The parser's own words may quote the line, which holds a password string.
    #[error("a line of the daemon's is not an event (at column {column})")]
    Event { column: usize },
    #[error("the daemon closed the connection")]
    Closed,
}

/// Follows the daemon until `shutdown`, through as many connections as it takes.
pub async fn run(gateway: Arc<Gateway>, socket: PathBuf, shutdown: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        let mut heard = false;
        let Some(error) = shutdown
            .run_until_cancelled(follow(&gateway, &socket, &mut heard))
            .await
        else {
            return;
        };
        if heard {
            (pause, told) = (FIRST_PAUSE, false);
        }
        if !std::mem::replace(&mut told, true) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the daemon is away, what it said last stays in force");
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One connection, to its end. `heard` becomes true once everything there is has come in.
async fn follow(gateway: &Gateway, socket: &Path, heard: &mut bool) -> WatchError {
    let connect = async {
        let stream = UnixStream::connect(socket).await.map_err(WatchError::Connect)?;
        Ok::<_, WatchError>(http1::handshake(TokioIo::new(stream)).await?)
    };
    let (sender, connection) = match timeout(connect).await {
        Ok(connected) => connected,
        Err(error) => return error,
    };
    tokio::select! {
        biased;
        Err(error) = listen(gateway, sender, heard) => error,
        _ = connection => WatchError::Closed,
    }
}

async fn listen(
    gateway: &Gateway,
    mut sender: http1::SendRequest<Empty<Bytes>>,
    heard: &mut bool,
) -> Result<std::convert::Infallible, WatchError> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = hyper::Uri::from_static("/v1/watch");
    request
        .headers_mut()
        .insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("daemon"));
    let response = timeout(async { Ok(sender.send_request(request).await?) }).await?;
    if response.status() != StatusCode::OK {
        return Err(WatchError::Status(response.status()));
    }
    let body = response.into_body().into_data_stream().map_err(io::Error::other);
    let mut lines = FramedRead::new(StreamReader::new(body), LinesCodec::new_with_max_length(LINE_MAX));
    gateway.state().begin_list();
    while let Some(line) = lines.next().await {
        let line = line.map_err(WatchError::Read)?;
        let event = serde_json::from_str(&line).map_err(|error| WatchError::Event { column: error.column() })?;
        let is_whole = matches!(event, GatewayEvent::Synced {});
        if gateway.state().apply(event) {
            gateway.saver.ask();
        }
        if is_whole && !std::mem::replace(heard, true) {
            tracing::info!("the daemon is here");
            gateway.synced.send_replace(true);
        }
    }
    Err(WatchError::Closed)
}

async fn timeout<T>(work: impl Future<Output = Result<T, WatchError>>) -> Result<T, WatchError> {
    tokio::time::timeout(ANSWER_TIMEOUT, work)
        .await
        .map_err(|_| WatchError::Timeout)?
}
