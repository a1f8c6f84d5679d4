//! The editor's socket: whether something answers there, and waiting until it does. The one place where root reads what a
//! workspace wrote to a stream: the status line of `/healthz`, at most 1 KiB and for at most a second.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use crate::host::watch::{Change, Watch};

const ANSWER: Duration = Duration::from_secs(1);
const MOST: u64 = 1024;
/// An editor makes one socket. A directory in which more happens is no longer watched: its owner could keep the daemon, and
/// everybody who waits for it, busy with nothing else.
// guard: A21-restless
const MOST_CHANGES: u32 = 64;

/// Whether `GET /healthz` is answered with 200. The socket's directory is mounted `nosymfollow`, so the path can't lead
/// anywhere else.
pub async fn answers(socket: &Path) -> bool {
    matches!(timeout(ANSWER, ask(socket)).await, Ok(Ok(true)))
}

async fn ask(socket: &Path) -> io::Result<bool> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    let mut limited = stream.take(MOST);
    while !answer.contains(&b'\n') {
        if limited.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(answer.starts_with(b"HTTP/1.1 200 ") || answer.starts_with(b"HTTP/1.0 200 "))
}

/// A directory that is watched until somebody has waited long enough.
struct Watched<'a>(&'a Watch, &'a Path);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.remove(self.1);
    }
}

/// Waits until the editor answers; says whether it did before `ended` completed, when there is no use in waiting any longer.
/// May be given up at any moment.
pub async fn ready(watch: &Watch, socket: &Path, ended: impl Future<Output = ()>) -> bool {
    let Some(directory) = socket.parent() else { return false };
    let mut changes = watch.changes();
    // Without a free watch (inotify(7), max_user_watches) the slow look below still finds it.
    let _watched = watch.add(directory).is_ok().then(|| Watched(watch, directory));
    let ready = async {
        let mut pause = Duration::from_millis(1);
        let mut heard = 0;
        loop {
            if answers(socket).await {
                return;
            }
            // The socket's name appears just before the editor listens on it, so once it is there, look again soon.
            let bound = std::fs::symlink_metadata(socket).is_ok();
            pause = if bound {
                (pause * 2).min(Duration::from_millis(200))
            } else {
                Duration::from_secs(1)
            };
            let seen = async {
                loop {
                    match changes.recv().await {
                        Ok(Change::At(path)) if path.parent() != Some(directory) => {}
                        Err(RecvError::Closed) => std::future::pending().await,
                        change => {
                            heard += 1;
                            if heard == MOST_CHANGES {
                                watch.remove(directory);
                            }
                            if heard < MOST_CHANGES && matches!(change, Ok(Change::At(path)) if path == socket) {
                                break;
                            }
                        }
                    }
                }
            };
            let _ = timeout(pause, seen).await;
            if bound != std::fs::symlink_metadata(socket).is_ok() {
                pause = Duration::from_millis(1);
            }
        }
    };
    tokio::select! {
        () = ready => true,
        () = ended => false,
    }
}
