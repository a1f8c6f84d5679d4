//! Gateway and editor as far as nginx can tell. Both answer with what they were sent.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;

type Reply = Response<Full<Bytes>>;

pub async fn gateway(socket: PathBuf) {
    let front = socket.parent().unwrap().parent().unwrap().join("front");
    let crashes = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
    serve(&socket, move |request| {
        let (front, crashes) = (front.clone(), crashes.clone());
        async move {
            let path = request.uri().path().to_owned();
            // Killed in the middle of a request: of one on a kept connection and of one on a new connection.
            if cookie(&request).contains("crash") || request.uri().query() == Some("crash") {
                let mut crashes = crashes.lock().unwrap();
                let count = crashes.entry(path.clone()).or_default();
                *count += 1;
                if *count <= 2 {
                    return None;
                }
            }
            if path == "/_csm/away" && cookie(&request).contains("gone=1") {
                return None;
            }
            Some(answer_as_gateway(request, front).await)
        }
    })
    .await;
}

pub async fn editor(socket: PathBuf) {
    serve(&socket, async |request| Some(answer_as_editor(request).await)).await;
}

async fn serve<F, A>(socket: &Path, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Option<Reply>> + Send + 'static,
{
    let listener = UnixListener::bind(socket).unwrap();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = answer.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer.clone();
                async move { answer(request).await.ok_or_else(|| io::Error::other("killed")) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn echo(who: &str, status: u16, request: Request<Incoming>) -> Reply {
    let (head, mut body) = request.into_parts();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    let headers: serde_json::Map<String, serde_json::Value> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let seen = serde_json::json!({
        "who": who, "method": head.method.as_str(), "uri": head.uri.to_string(), "headers": headers, "length": length,
    });
    Response::builder()
        .status(status)
        .body(Full::new(Bytes::from(seen.to_string())))
        .unwrap()
}

fn cookie(request: &Request<Incoming>) -> &str {
    request
        .headers()
        .get("cookie")
        .map_or("", |value| value.to_str().unwrap())
}

async fn answer_as_gateway(request: Request<Incoming>, front: PathBuf) -> Reply {
    let cookie = cookie(&request).to_owned();
    let workspace = request.headers()["x-csm-workspace"].to_str().unwrap().to_owned();
    let session = if request.headers().contains_key("x-csm-tunnel") {
        format!("csm-{workspace}=")
    } else {
        "__Host-csm=".to_owned()
    };
    let has = |value: &str| cookie.contains(&format!("{session}{value}"));
    match request.uri().path() {
        "/_csm/auth" => {
            let clean = [
                "forwarded",
                "x-forwarded-host",
                "x-forwarded-user",
                "x_forwarded_user",
                "content-length",
                "transfer-encoding",
            ];
            let spoofed = clean.iter().any(|name| request.headers().contains_key(*name));
            let method = request.method() == "GET";
            let answer = |status: u16| Response::builder().status(status);
            let answer = match () {
                () if spoofed || !method => answer(500),
                () if has("good-renew") => {
                    answer(204).header("set-cookie", "__Host-csm=renewed; Path=/; Secure; HttpOnly")
                }
                () if has("good") => answer(204),
                () if has("forbidden") => answer(403),
                () if has("broken") => answer(502),
                () => answer(401),
            };
            answer.body(Full::default()).unwrap()
        }
        "/_csm/denied" => echo("gateway", 401, request).await,
        "/_csm/away" if cookie.contains("wake=1") => {
            let link = front.join(format!("{workspace}.sock"));
            std::os::unix::fs::symlink(front.join(format!("{workspace}.sock.later")), link).unwrap();
            Response::builder()
                .header("x-accel-redirect", "@ide")
                .body(Full::default())
                .unwrap()
        }
        "/_csm/away" => echo("gateway", 503, request).await,
        _ => echo("gateway", 200, request).await,
    }
}

async fn answer_as_editor(mut request: Request<Incoming>) -> Reply {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let path = request.uri().path().to_owned();
    if let Some(status) = path.strip_prefix("/status/") {
        return echo("editor", status.parse().unwrap(), request).await;
    }
    match path.as_str() {
        "/accel" => {
            let target = request.uri().query().unwrap().parse().unwrap();
            let mut reply = echo("editor", 200, request).await;
            reply.headers_mut().insert("x-accel-redirect", target);
            reply
        }
        "/cookies" => {
            let mut reply = echo("editor", 200, request).await;
            let evil = [
                "__Host-csm=evil; Path=/; Secure",
                "__host-CSM=; Path=/; SECURE; Max-Age=0",
                "csm-dan=evil; Path=/",
                "app=1; Path=/; Secure",
            ];
            for cookie in evil {
                reply.headers_mut().append("set-cookie", cookie.parse().unwrap());
            }
            reply
                .headers_mut()
                .insert("clear-site-data", "\"cookies\"".parse().unwrap());
            reply
                .headers_mut()
                .insert("strict-transport-security", "max-age=0".parse().unwrap());
            reply
                .headers_mut()
                .insert("service-worker-allowed", "/".parse().unwrap());
            reply
        }
        "/count" => {
            let count = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
            Response::builder()
                .header("cache-control", "max-age=3600")
                .body(Full::new(Bytes::from(count)))
                .unwrap()
        }
        "/ws" => {
            let text = format!("cookie={}", cookie(&request));
            let upgrade = hyper::upgrade::on(&mut request);
            // Ends with the connection: the upgraded stream is written and closed.
            #[expect(
                clippy::disallowed_methods,
                reason = "a stand-in's connection, gone with the test's runtime"
            )]
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                stream.write_all(text.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            });
            Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .body(Full::default())
                .unwrap()
        }
        _ => echo("editor", 200, request).await,
    }
}
