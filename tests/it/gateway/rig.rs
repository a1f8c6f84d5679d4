//! A gateway with a daemon that is played, and what a browser behind nginx would send it.

use std::path::PathBuf;
use std::time::Duration;

use code_server_multi::api::{GatewayEvent, GatewaySettings, GatewayWorkspace, State};
use code_server_multi::serve::gateway::{self, Bounds, GatewayError, GatewayOptions};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, LOCATION, SET_COOKIE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Longest that anything here may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A password string that costs next to nothing to check.
pub fn cheap(password: &str) -> String {
    use argon2::PasswordHasher;
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash: argon2::PasswordHash = argon2
        .hash_password_with_salt(password.as_bytes(), b"somesalt")
        .unwrap();
    hash.to_string()
}

pub fn workspace(name: &str, state: State, password: Option<&str>) -> GatewayEvent {
    GatewayEvent::Workspace(GatewayWorkspace {
        name: name.to_owned(),
        host: format!("{name}.code.example.org"),
        state,
        message: String::new(),
        password: password.map(cheap),
    })
}

pub struct Rig {
    pub dir: TempDir,
    /// Kept over the gateway's restarts, as systemd does.
    listener: std::os::unix::net::UnixListener,
    bounds: Bounds,
    picture: watch::Sender<Vec<GatewayEvent>>,
    changes: broadcast::Sender<String>,
    daemon: Option<JoinSet<()>>,
    gateway: JoinSet<Result<(), GatewayError>>,
    shutdown: CancellationToken,
}

impl Rig {
    /// Dan's password is `dan's`, alice's is `alice's`; both are signed in to nowhere.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Bounds)) -> Self {
        let mut rig = Self::without_daemon(change);
        rig.start_daemon();
        rig.start_gateway();
        rig.until_synced().await;
        rig
    }

    pub fn without_daemon(change: impl FnOnce(&mut Bounds)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut bounds = Bounds {
            first_sync: Duration::from_millis(300),
            ..Bounds::default()
        };
        change(&mut bounds);
        Self {
            listener: std::os::unix::net::UnixListener::bind(dir.path().join("http.sock")).unwrap(),
            dir,
            bounds,
            picture: watch::Sender::new(vec![
                GatewayEvent::Settings(GatewaySettings {
                    session_lifetime_seconds: 3600,
                }),
                workspace("alice", State::Ready, Some("alice's")),
                workspace("dan", State::Ready, Some("dan's")),
            ]),
            changes: broadcast::Sender::new(64),
            daemon: None,
            gateway: JoinSet::new(),
            shutdown: CancellationToken::new(),
        }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn start_gateway(&mut self) {
        self.shutdown = CancellationToken::new();
        let options = GatewayOptions {
            state_dir: self.state_dir(),
            listener: self.listener.try_clone().unwrap(),
            daemon_socket: self.dir.path().join("daemon.sock"),
            bounds: self.bounds.clone(),
        };
        self.gateway.spawn(gateway::run(options, self.shutdown.clone()));
    }

    /// As systemd stops it.
    pub async fn stop_gateway(&mut self) {
        self.begin_stop();
        self.end_stop().await;
    }

    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }

    pub async fn end_stop(&mut self) {
        soon("the gateway to stop", self.gateway.join_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// As `kill -9` ends it: nothing is written down afterwards.
    pub async fn kill_gateway(&mut self) {
        self.gateway.abort_all();
        let end = soon("the gateway to die", self.gateway.join_next()).await.unwrap();
        assert!(end.as_ref().is_err_and(JoinError::is_cancelled));
    }

    pub fn start_daemon(&mut self) {
        let path = self.dir.path().join("daemon.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        let (picture, changes) = (self.picture.subscribe(), self.changes.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (picture, changes) = (picture.borrow().clone(), changes.subscribe());
                connections.spawn(tell(stream, picture, changes));
            }
        });
        self.daemon = Some(tasks);
    }

    pub async fn stop_daemon(&mut self) {
        if let Some(mut tasks) = self.daemon.take() {
            tasks.shutdown().await;
        }
    }

    /// The daemon says something new.
    pub fn say(&self, event: GatewayEvent) {
        self.say_line(serde_json::to_string(&event).unwrap());
        self.picture.send_modify(|picture| match event {
            GatewayEvent::Removed { name } => forget(picture, &name),
            GatewayEvent::Workspace(workspace) => {
                forget(picture, &workspace.name);
                picture.push(GatewayEvent::Workspace(workspace));
            }
            other => picture.push(other),
        });
    }

    pub fn say_line(&self, line: String) {
        let _ = self.changes.send(line);
    }

    /// What the daemon says changes without its being asked for: seen at its next start.
    pub fn forget_silently(&self, name: &str) {
        self.picture.send_modify(|picture| forget(picture, name));
    }

    /// Sign-ins are possible.
    pub async fn until_synced(&self) {
        self.until("the daemon to be heard", async || {
            let status = Ask::of("dan").form("").await_reply(self).await.status;
            assert!(matches!(status.as_u16(), 401 | 503), "{status}");
            status == StatusCode::UNAUTHORIZED
        })
        .await;
    }

    /// Everything that the daemon has said so far was taken in. Uses dan's state, shown to a cookie of his.
    pub async fn until_heard(&self, dans_cookie: &str) {
        let page = Ask::of("dan").cookie(dans_cookie).get("/_csm/away");
        for (state, words) in [(State::Suspended, "is paused"), (State::Ready, "does not answer")] {
            self.say(workspace("dan", state, Some("dan's")));
            let text = format!("The workspace dan {words}.\n");
            self.until("the news", async || page.clone().await_reply(self).await.body == text)
                .await;
        }
    }

    pub async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let turns = async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(what, turns).await;
    }

    /// Signs in and returns the cookie, as `name=value`.
    pub async fn sign_in(&self, workspace: &str, password: &str) -> String {
        let reply = Ask::of(workspace).form(password).await_reply(self).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.body);
        pair(reply.cookie().expect("a cookie comes with the sign-in"))
    }

    /// The same, and what marks the browser.
    pub async fn sign_in_with_device(&self, workspace: &str, password: &str) -> (String, String) {
        let reply = Ask::of(workspace).form(password).await_reply(self).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.body);
        (pair(reply.cookie().unwrap()), pair(reply.device().unwrap()))
    }

    pub async fn auth(&self, workspace: &str, cookie: &str) -> StatusCode {
        Ask::of(workspace)
            .cookie(cookie)
            .get("/_csm/auth")
            .await_reply(self)
            .await
            .status
    }

    pub async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("http.sock")).await.unwrap()
    }
}

fn forget(picture: &mut Vec<GatewayEvent>, name: &str) {
    picture.retain(|event| !matches!(event, GatewayEvent::Workspace(workspace) if workspace.name == name));
}

/// The daemon's side of a watch.
async fn tell(stream: UnixStream, picture: Vec<GatewayEvent>, mut changes: broadcast::Receiver<String>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap() == 0 {
            return;
        }
    }
    assert!(head.starts_with("GET /v1/watch HTTP/1.1\r\n"), "{head}");
    let mut text =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for event in picture.iter().chain([&GatewayEvent::Synced {}]) {
        text += &chunk(&serde_json::to_string(event).unwrap());
    }
    while stream.write_all(text.as_bytes()).await.is_ok() {
        match changes.recv().await {
            Ok(line) => text = chunk(&line),
            Err(_) => return,
        }
    }
}

fn chunk(line: &str) -> String {
    format!("{:x}\r\n{line}\n\r\n", line.len() + 1)
}

/// A request as nginx makes it.
#[derive(Clone)]
pub struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Ask {
    pub fn of(workspace: &str) -> Self {
        let ask = Self {
            method: "GET",
            path: String::new(),
            headers: Vec::new(),
            body: String::new(),
        };
        ask.with("x-csm-workspace", workspace)
            .with("x-csm-origin", &format!("https://{workspace}.code.example.org"))
            .with("x-csm-method", "GET")
            .with("x-csm-uri", "/")
            .with("x-real-ip", "192.0.2.1")
    }

    /// Sets or replaces a header.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn without(mut self, name: &'static str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self
    }

    pub fn cookie(self, cookie: &str) -> Self {
        self.with("cookie", cookie)
    }

    pub fn get(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub fn post(mut self, path: &str, body: String) -> Self {
        self.method = "POST";
        self.body = body;
        let own = self.header("x-csm-origin");
        self.get(path)
            .with("x-csm-method", "POST")
            .with("content-type", "application/x-www-form-urlencoded")
            .with("origin", &own)
    }

    /// The sign-in form, filled in.
    pub fn form(self, password: &str) -> Self {
        self.form_to(password, "/")
    }

    pub fn form_to(self, password: &str, next: &str) -> Self {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let body = form
            .append_pair("password", password)
            .append_pair("next", next)
            .finish();
        self.post("/_csm/sign-in", body)
    }

    /// A person opens a page.
    pub fn navigating(self) -> Self {
        self.with("sec-fetch-mode", "navigate")
            .with("sec-fetch-dest", "document")
            .with("sec-fetch-site", "none")
    }

    pub async fn await_reply(self, rig: &Rig) -> Reply {
        soon("an answer", self.reply(rig.connect().await))
            .await
            .expect("the connection lasts until the answer")
    }

    pub async fn reply(self, stream: UnixStream) -> Result<Reply, hyper::Error> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.path)
            .header("host", "gateway");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(self.body))).unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async move {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Reply {
                status: head.status,
                headers: head.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            })
        };
        tokio::join!(exchange, connection).0
    }

    fn header(&self, name: &str) -> String {
        self.headers.iter().find(|(other, _)| *other == name).unwrap().1.clone()
    }
}

/// `name=value` of what is set.
pub fn pair(cookie: &str) -> String {
    cookie.split(';').next().unwrap().to_owned()
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn location(&self) -> &str {
        self.headers[LOCATION].to_str().unwrap()
    }

    /// Of the cookies that are set the session's.
    pub fn cookie(&self) -> Option<&str> {
        let set = self.cookies().into_iter();
        set.filter(|cookie| !cookie.contains("=;"))
            .find(|cookie| !cookie.contains("--device-"))
    }

    /// What marks the browser as known.
    pub fn device(&self) -> Option<&str> {
        self.cookies().into_iter().find(|cookie| cookie.contains("--device-"))
    }

    pub fn cookies(&self) -> Vec<&str> {
        let set = self.headers.get_all(SET_COOKIE).iter();
        set.map(|value| value.to_str().unwrap()).collect()
    }
}

pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
