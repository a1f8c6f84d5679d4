//! HTTP/1.1 over the daemon's unix socket: one connection a request, each wait with a deadline, except for the next line of
//! a stream that goes on until somebody hangs up.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{LocalBoxStream, TryStreamExt};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

use crate::api::ProblemDetails;
use crate::api::descriptors::Carrier;
use crate::cli::error::CliError;

/// Enough for every answer that the daemon has at hand.
const ANSWER_SECONDS: u64 = 30;
/// For what takes work: programs inside a workspace, a whole home, the journal.
const WORK_SECONDS: u64 = 180;
const ANSWER_MAX: usize = 16 << 20;
const LINE_MAX: usize = 1 << 20;

#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub async fn get(&self, path: &str) -> Result<Answer, CliError> {
        self.whole(Method::GET, path, Bytes::new(), ANSWER_SECONDS).await
    }

    pub async fn post(&self, path: &str) -> Result<Answer, CliError> {
        self.whole(Method::POST, path, Bytes::new(), ANSWER_SECONDS).await
    }

    /// For an answer that takes work.
    pub async fn get_slowly(&self, path: &str) -> Result<Answer, CliError> {
        self.whole(Method::GET, path, Bytes::new(), WORK_SECONDS).await
    }

    pub async fn post_slowly(&self, path: &str) -> Result<Answer, CliError> {
        self.whole(Method::POST, path, Bytes::new(), WORK_SECONDS).await
    }

    pub async fn put(&self, path: &str, body: Bytes) -> Result<Answer, CliError> {
        self.whole(Method::PUT, path, body, ANSWER_SECONDS).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer, CliError> {
        self.whole(Method::DELETE, path, Bytes::new(), ANSWER_SECONDS).await
    }

    /// Hands open descriptors over with the request.
    pub async fn exec(&self, path: &str, body: Bytes, descriptors: Vec<OwnedFd>) -> Result<Answer, CliError> {
        let doing = format!("POST {path}");
        within(&doing, ANSWER_SECONDS, async {
            let (response, _connection) = self.send(Method::POST, path, body, descriptors).await?;
            Answer::read(response, &doing).await
        })
        .await
    }

    /// A stream of JSON lines. One that goes on has no deadline once it has begun, since nothing may happen for days.
    pub async fn lines(&self, path: &str, goes_on: bool) -> Result<Lines, CliError> {
        let doing = format!("GET {path}");
        let begin = self.send(Method::GET, path, Bytes::new(), Vec::new());
        let (response, connection) = within(&doing, ANSWER_SECONDS, begin).await?;
        let reader = StreamReader::new(response.into_body().into_data_stream().map_err(std::io::Error::other));
        let stream = FramedRead::new(reader, LinesCodec::new_with_max_length(LINE_MAX)).boxed_local();
        Ok(Lines {
            stream,
            doing,
            goes_on,
            _connection: connection,
        })
    }

    async fn whole(&self, method: Method, path: &str, body: Bytes, seconds: u64) -> Result<Answer, CliError> {
        let doing = format!("{method} {path}");
        within(&doing, seconds, async {
            let (response, _connection) = self.send(method, path, body, Vec::new()).await?;
            Answer::read(response, &doing).await
        })
        .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Response<Incoming>, JoinSet<()>), CliError> {
        let doing = format!("{method} {path}");
        let lost = |source: hyper::Error| CliError::Lost {
            doing: doing.clone(),
            source: source.into(),
        };
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| CliError::Unreachable {
                socket: self.socket.clone(),
                source,
            })?;
        let stream = TokioIo::new(Carrier::sending(stream, descriptors));
        let (mut sender, connection) = http1::handshake(stream).await.map_err(lost)?;
        // The connection has to be driven beside the request; dropping the set ends it.
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // What breaks it is also the request's or the body's error.
            drop(connection.await);
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|source| CliError::Machine {
                doing: "make the request",
                source: source.into(),
            })?;
        let response = sender.send_request(request).await.map_err(lost)?;
        if response.status().is_success() {
            return Ok((response, driver));
        }
        Err(refusal(response, &doing).await)
    }
}

/// The whole body of an answer.
#[derive(Debug)]
pub struct Answer {
    body: Bytes,
    doing: String,
}

impl Answer {
    async fn read(response: Response<Incoming>, doing: &str) -> Result<Self, CliError> {
        Ok(Self {
            body: read(response, doing).await?,
            doing: doing.to_owned(),
        })
    }

    /// The JSON as the daemon wrote it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }

    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_slice(&self.body).map_err(|source| CliError::Strange {
            doing: self.doing.clone(),
            source: source.into(),
        })
    }
}

/// A stream of answers, one JSON object a line.
pub struct Lines {
    stream: LocalBoxStream<'static, Result<String, LinesCodecError>>,
    doing: String,
    goes_on: bool,
    _connection: JoinSet<()>,
}

impl Lines {
    /// The next line as it came; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Answer>, CliError> {
        let line = self.stream.next();
        let line = if self.goes_on {
            line.await
        } else {
            within(&self.doing, WORK_SECONDS, async { Ok(line.await) }).await?
        };
        match line {
            None => Ok(None),
            Some(Ok(line)) => Ok(Some(Answer {
                body: Bytes::from(line),
                doing: self.doing.clone(),
            })),
            Some(Err(source)) => Err(CliError::Lost {
                doing: self.doing.clone(),
                source: source.into(),
            }),
        }
    }

    /// The error for a stream that ended although it should not.
    pub fn ended(&self) -> CliError {
        CliError::Lost {
            doing: self.doing.clone(),
            source: "the stream ended".into(),
        }
    }
}

async fn within<T>(doing: &str, seconds: u64, work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    timeout(Duration::from_secs(seconds), work).await.unwrap_or_else(|_| {
        Err(CliError::Silent {
            doing: doing.to_owned(),
            seconds,
        })
    })
}

async fn read(response: Response<Incoming>, doing: &str) -> Result<Bytes, CliError> {
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|source| CliError::Lost {
            doing: doing.to_owned(),
            source,
        })
}

async fn refusal(response: Response<Incoming>, doing: &str) -> CliError {
    let status = response.status();
    let body = match read(response, doing).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    match serde_json::from_slice::<ProblemDetails>(&body) {
        Ok(problem) => CliError::Refused(Box::new(problem)),
        Err(_) => CliError::Strange {
            doing: doing.to_owned(),
            source: format!("HTTP {status}").into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::time::Instant;

    use super::*;

    /// One line, and then nothing more.
    fn stalled(goes_on: bool) -> Lines {
        let line = stream::iter([Ok("{}".to_owned())]);
        Lines {
            stream: line.chain(stream::pending()).boxed_local(),
            doing: "GET /v1/workspaces/dan/logs".to_owned(),
            goes_on,
            _connection: JoinSet::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_an_end_may_not_stall_before_it() {
        let mut lines = stalled(false);
        assert!(lines.next().await.unwrap().is_some());
        let begun = Instant::now();
        let error = lines.next().await.unwrap_err();
        assert!(matches!(error, CliError::Silent { .. }), "{error}");
        assert_eq!(begun.elapsed(), Duration::from_secs(WORK_SECONDS));
        let mut lines = stalled(true);
        assert!(lines.next().await.unwrap().is_some());
        let days = Duration::from_secs(7 * 86_400);
        assert!(timeout(days, lines.next()).await.is_err());
    }
}
