//! A daemon that plays a part on a unix socket, and the program under test.

use std::convert::Infallible;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Whatever takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct Admin {
    pub socket: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    _directory: TempDir,
}

impl Admin {
    pub fn new(routes: Router) -> Self {
        Self::later(routes, |socket| {
            // Bound before the thread exists: the first request can't come too early.
            let listener = UnixListener::bind(socket).unwrap();
            || listener
        })
    }

    /// Listens once `begin`'s answer, in a thread of its own, has a listener for the socket.
    pub fn later<L: FnOnce() -> UnixListener + Send + 'static>(routes: Router, begin: impl FnOnce(&Path) -> L) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let listen = begin(&socket);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let routes = routes.layer(middleware::from_fn(move |request: Request, next: Next| {
            seen.lock()
                .unwrap()
                .push(format!("{} {}", request.method(), request.uri()));
            next.run(request)
        }));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let listener = listen();
            listener.set_nonblocking(true).unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                axum::serve(listener, routes).await.unwrap();
            });
        });
        Self {
            socket,
            requests,
            _directory: directory,
        }
    }

    /// Answers one path with one body.
    pub fn json(path: &str, body: Value) -> Self {
        Self::new(Router::new().route(path, get(move || async move { body.to_string() })))
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

pub fn workspace(name: &str, state: &str, busy: bool) -> Value {
    json!({
        "name": name, "url": format!("https://{name}.code.example.org"), "state": state, "busy": busy,
        "since": "2020-01-01T00:00:00Z", "account": format!("csm-{name}"), "unit": format!("csm-{name}.service"),
        "findings": [], "pending": [],
        "intent": { "running": true, "by": "default", "why": "never decided", "at": null },
        "limits": {
            "memory_max": 3_221_225_472_u64, "memory_high": 2_684_354_560_u64, "memory_low": 0,
            "cpu_quota_usec": 1_500_000, "cpu_weight": 100, "tasks_max": 4096,
        },
        "image": "5f70bf18a086", "main_pid": 4711, "memory_bytes": 851_443_712,
    })
}

pub fn problem(status: u16, title: &str, detail: &str, remediation: &str) -> Response {
    let body =
        json!({ "code": "some-code", "title": title, "status": status, "detail": detail, "remediation": remediation });
    problem_body(status, &body)
}

pub fn problem_body(status: u16, body: &Value) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response();
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/problem+json"));
    response
}

/// A stream of lines that stays open after the last one.
pub fn open_stream(lines: Vec<Value>) -> Body {
    let lines = lines
        .into_iter()
        .map(|line| Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))));
    Body::from_stream(futures_util::StreamExt::chain(stream::iter(lines), stream::pending()))
}

pub async fn endless_log() -> Body {
    let line = json!({ "at": "2026-03-01T12:00:00Z", "from": "podman", "message": "x".repeat(200) });
    let bytes = Bytes::from(format!("{line}\n"));
    Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(bytes.clone())))
}

/// `csm` with nothing in its environment that changes what it writes.
pub fn program() -> Command {
    command(Path::new(env!("CARGO_BIN_EXE_csm")))
}

pub fn command(path: &Path) -> Command {
    let mut command = Command::new(path);
    for name in ["NO_COLOR", "CSM_LOG", "JOURNAL_STREAM", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").stdin(Stdio::null());
    command
}

pub fn csm(admin: &Admin) -> Command {
    let mut command = program();
    command.arg("--socket").arg(&admin.socket);
    command
}

pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(command: &mut Command) -> Done {
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Reads a little of the output, which is what it gives back, then closes it, as `head` does.
pub fn run_and_leave(command: &mut Command) -> Done {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut little = [0; 512];
    stdout.read_exact(&mut little).unwrap();
    drop(stdout);
    Done {
        stdout: String::from_utf8_lossy(&little).into_owned(),
        ..finish(child)
    }
}

pub fn finish(child: Child) -> Done {
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        panic!("the program did not end within {} s", DEADLINE.as_secs());
    };
    let output = output.unwrap();
    Done {
        code: output.status.code().expect("no signal ended it"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
