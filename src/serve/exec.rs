//! `POST /v1/workspaces/NAME/exec`: checks what came with a request, has a unit made for the command, and hands it all on.
//! From then on the caller and the command's unit have each other, and the daemon neither. `csm test` runs its commands the
//! same way, with the daemon as the caller.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use rustix::fs::{AtFlags, FileType, OFlags, StatxFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::Receiver;

use crate::api;
use crate::api::descriptors::{self, Carrier, Received, TooMany};
use crate::api::ends::{Ends, Streams};
use crate::host::Engine;
use crate::host::exec::{ExecError, Waiting};
use crate::host::live::LiveEngine;
use crate::model::desired::Workspace;
use crate::model::exec::{Command, Terminal};
use crate::model::names::WorkspaceName;
use crate::model::plan::{Fact, Service};
use crate::serve::admin::refusal::Refusal;
use crate::serve::admin::{Host, known};
use crate::serve::app::App;
use crate::serve::http::Peer;
use crate::serve::waiter;

/// Of what a command of the daemon's own prints.
const PRINTED_MAX: u64 = 64 * 1024;
/// Type and mode of the slave end of a pseudo-terminal, by its major numbers (Linux's devices.txt: UNIX98_PTY_SLAVE).
const SLAVES: std::ops::RangeInclusive<u32> = 136..=143;

/// Run a command in the workspace.
///
/// Open descriptors come with the request (SCM_RIGHTS, unix(7)): the command's end of a line, which is a connected unix
/// stream socket, and then the slave end of a pseudo-terminal, or the ends of three pipes: standard input, output and error.
/// After the answer the caller and the command have each other: over the line the caller sends signals, one byte each, and
/// gets the exit code in one byte. Whoever closes it hangs up, and the command is ended.
#[utoipa::path(
    post, path = "/v1/workspaces/{name}/exec", request_body = api::Exec,
    responses((status = 200, body = api::ExecStarted, description = "the command's unit has the descriptors"), Refusal)
)]
pub async fn exec<E: Engine>(
    State(app): State<Arc<App<E>>>,
    Extension(host): Extension<Option<Host>>,
    Extension(peer): Extension<Peer>,
    received: Option<Extension<Received>>,
    Path(name): Path<String>,
    body: Result<Json<api::Exec>, JsonRejection>,
) -> Result<Json<api::ExecStarted>, Refusal> {
    let name = known(&app, &name)?;
    let Json(body) = body?;
    let ends = sort(received.map_or(Ok(Vec::new()), |Extension(received)| received.take()))?;
    let terminal = described(&ends.streams, body.term);
    let has_terminal = terminal.is_some();
    let command = Command::new(body.command, terminal, body.workdir)?;
    let workspace = enterable(&app, &name).await?;
    let engine = host.ok_or(Refusal::NoRoute)?.engine;
    let waiting = engine.start_command(&workspace).await?;
    // Not which command: its arguments are nobody else's business.
    tracing::info!(workspace = %name, uid = peer.uid, unit = waiting.unit, terminal = has_terminal, "{name}: command of user {}", peer.uid);
    let unit = waiting.unit.clone();
    tell(&engine, waiting, &command, ends).await?;
    Ok(Json(api::ExecStarted { unit }))
}

/// A workspace whose container runs and can answer. Its editor need not: that may be what somebody wants to look into.
/// Looked at afresh, because nobody tells of a unit that was frozen by hand.
async fn enterable<E: Engine>(app: &App<E>, name: &WorkspaceName) -> Result<Workspace, Refusal> {
    let desired = app.controller.desired();
    let workspace = desired.workspaces.get(name);
    let report = app.controller.report(name).map(|report| report.borrow().clone());
    let (Some(workspace), Some(report)) = (workspace, report) else {
        return Err(Refusal::Unknown(name.to_string()));
    };
    match app.controller.look(workspace).await.service {
        Fact::Known(Service::Running(running)) if running.frozen => Err(Refusal::Suspended(name.to_string())),
        Fact::Known(Service::Running(_)) | Fact::Unknown(_) if report.state != api::State::Stopping => {
            Ok(workspace.clone())
        }
        service => Err(Refusal::NotReady {
            name: name.to_string(),
            state: absence(&service, report.state).word(),
        }),
    }
}

/// The state of a workspace in which no command can be run: by the fresh look, and where that leaves it open, by the report.
fn absence(service: &Fact<Service>, reported: api::State) -> api::State {
    use api::State::{Blocked, Disabled, Failed, Starting, Stopped, Stopping};
    match service {
        Fact::Known(Service::Starting) => Starting,
        Fact::Known(Service::Running(_) | Service::Stopping) | Fact::Unknown(_) => Stopping,
        Fact::Known(Service::Absent) if matches!(reported, Blocked | Disabled | Failed | Starting) => reported,
        Fact::Known(Service::Absent) => Stopped,
    }
}

fn described(streams: &Streams, term: Option<String>) -> Option<Terminal> {
    let Streams::Terminal(slave) = streams else { return None };
    let size = rustix::termios::tcgetwinsize(slave).ok().filter(|size| size.ws_col > 0);
    let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
    Some(Terminal {
        term: term.unwrap_or_else(|| "dumb".to_owned()),
        rows,
        columns,
    })
}

async fn tell(engine: &LiveEngine, waiting: Waiting, command: &Command, ends: Ends) -> Result<(), ExecError> {
    let orders = waiter::orders(&command.argv(&engine.machine));
    let mut carrier = Carrier::sending(waiting.orders, ends.into_descriptors());
    let sent = async {
        carrier.write_all(&orders).await?;
        carrier.shutdown().await
    };
    sent.await.map_err(|source| ExecError::Io {
        doing: "tell the command's process what to run",
        source,
    })
}

/// What came with a request, if it is what a command can be given. Whoever may ask for a command may make the daemon hold
/// any open file, so nothing is asked of it here that its file system would have to answer.
fn sort(received: Result<Vec<OwnedFd>, TooMany>) -> Result<Ends, Refusal> {
    let wrong = |what: String| Refusal::Descriptors(what);
    let descriptors = received.map_err(|TooMany| wrong(format!("more than {} came", descriptors::MOST)))?;
    let count = descriptors.len();
    let ends = Ends::of(descriptors).ok_or_else(|| wrong(format!("{count} came, not 2 or 4")))?;
    let line = check(&ends.line, Kind::Line).map_err(|why| format!("the line {why}"));
    let streams = line.and_then(|()| match &ends.streams {
        Streams::Terminal(terminal) => check(terminal, Kind::Slave).map_err(|why| format!("the terminal {why}")),
        Streams::Pipes([input, output, error]) => {
            for (name, end, kind) in [
                ("input", input, Kind::Readable),
                ("output", output, Kind::Writable),
                ("error", error, Kind::Writable),
            ] {
                check(end, kind).map_err(|why| format!("standard {name} {why}"))?;
            }
            Ok(())
        }
    });
    streams.map_err(wrong)?;
    Ok(ends)
}

#[derive(Clone, Copy)]
enum Kind {
    Line,
    Slave,
    /// A pipe's ends.
    Readable,
    Writable,
}

fn check(descriptor: &OwnedFd, kind: Kind) -> Result<(), &'static str> {
    let unusable = "can't be looked at";
    let flags = rustix::fs::fcntl_getfl(descriptor).map_err(|_| unusable)?;
    if flags.contains(OFlags::PATH) {
        return Err("is not open, it only names a file (O_PATH)");
    }
    let known = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let status = rustix::fs::statx(descriptor, c"", known, StatxFlags::TYPE).map_err(|_| unusable)?;
    let file = FileType::from_raw_mode(u32::from(status.stx_mode));
    let access = flags & OFlags::ACCMODE;
    match kind {
        Kind::Line if file != FileType::Socket || !is_line(descriptor) => Err("is no connected unix stream socket"),
        Kind::Slave if file != FileType::CharacterDevice || !SLAVES.contains(&status.stx_rdev_major) => {
            Err("is no pseudo-terminal's slave end")
        }
        Kind::Slave if access != OFlags::RDWR => Err("is not open for reading and writing"),
        Kind::Readable | Kind::Writable if file != FileType::Fifo => Err("is no pipe"),
        Kind::Readable if access == OFlags::WRONLY => Err("is not open for reading"),
        Kind::Writable if access == OFlags::RDONLY => Err("is not open for writing"),
        _ => Ok(()),
    }
}

fn is_line(socket: &OwnedFd) -> bool {
    sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(socket) == Ok(SocketType::STREAM)
        && rustix::net::getpeername(socket).is_ok()
}

/// Runs a command of the daemon's own to its end, for which the caller has a deadline; the answer is what it printed, at most
/// [`PRINTED_MAX`]. Its exit code counts for nothing. With a terminal, that is what it prints to.
pub async fn printed(
    engine: &LiveEngine,
    workspace: &Workspace,
    words: Vec<String>,
    terminal: bool,
) -> Result<String, Refusal> {
    let made = |source| ExecError::Io {
        doing: "make a terminal or pipes",
        source,
    };
    let (ends, mut line, reader) = if terminal {
        Ends::with_terminal().map_err(made)?
    } else {
        let (mut ends, line, [_, output, _]) = Ends::piped().map_err(made)?;
        if let Streams::Pipes([_, output, error]) = &mut ends.streams {
            *error = output.try_clone().map_err(made)?;
        }
        (ends, line, output)
    };
    let terminal = described(&ends.streams, None);
    let command = Command::new(words, terminal, None)?;
    let waiting = engine.start_command(workspace).await?;
    tell(engine, waiting, &command, ends).await?;
    let text = read(reader).await.map_err(made)?;
    // The exit code, or nothing: then it is over as well.
    let _ = line.read_u8().await;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Reads to the end, or [`PRINTED_MAX`]. Given up, it leaves nothing behind: no thread waits in it.
async fn read(reader: OwnedFd) -> std::io::Result<Vec<u8>> {
    rustix::io::ioctl_fionbio(&reader, true)?;
    // Unchecked: a terminal is no pipe, but is read like one.
    let mut reader = Receiver::from_owned_fd_unchecked(reader)?.take(PRINTED_MAX);
    let mut text = Vec::new();
    // A terminal without anybody at its other end is an error, which here is the end.
    let _ = reader.read_to_end(&mut text).await;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn open(path: &str, flags: OFlags) -> OwnedFd {
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap()
    }

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe().unwrap()
    }

    /// The two ends of a pseudo-terminal.
    fn terminal() -> (OwnedFd, OwnedFd) {
        use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        (master, slave)
    }

    /// A thread waited in it for ever, also when the daemon ended.
    #[test]
    fn what_a_command_prints_is_waited_for_by_nobody_who_gave_up() {
        let deadline = std::time::Duration::from_millis(50);
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
        };
        let (pipe, writer) = pipe();
        let (master, slave) = terminal();
        for silent in [pipe, master] {
            let (ended, has_ended) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let runtime = runtime();
                let given_up = runtime.block_on(async { tokio::time::timeout(deadline, read(silent)).await.is_err() });
                drop(runtime);
                let _ = ended.send(given_up);
            });
            assert_eq!(has_ended.recv_timeout(std::time::Duration::from_secs(20)), Ok(true));
        }
        drop((writer, slave));
    }

    #[tokio::test]
    async fn what_a_command_prints_is_read_to_its_end_or_to_the_most() {
        let (reader, writer) = pipe();
        rustix::io::write(&writer, b"hello").unwrap();
        drop(writer);
        assert_eq!(read(reader).await.unwrap(), b"hello");
        let (master, slave) = terminal();
        rustix::io::write(&slave, b"hello").unwrap();
        drop(slave);
        assert_eq!(read(master).await.unwrap(), b"hello");
        let (reader, writer) = pipe();
        let flood = std::thread::spawn(move || while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {});
        assert_eq!(read(reader).await.unwrap().len() as u64, PRINTED_MAX);
        flood.join().unwrap();
    }

    /// It said "the workspace dan is ready, not ready".
    #[test]
    fn who_can_not_enter_is_told_what_was_seen_just_now() {
        use api::State::{Failed, Ready, Starting, Stopped, Stopping};
        for (service, reported, told) in [
            (Fact::Known(Service::Absent), Ready, Stopped),
            (Fact::Known(Service::Absent), Stopping, Stopped),
            (Fact::Known(Service::Absent), Failed, Failed),
            (Fact::Known(Service::Starting), Ready, Starting),
            (Fact::Known(Service::Stopping), Ready, Stopping),
            (Fact::Unknown("lost".to_owned()), Stopping, Stopping),
        ] {
            assert_eq!(absence(&service, reported), told, "{service:?} {reported:?}");
        }
    }

    #[test]
    fn a_line_is_a_connected_unix_stream_socket() {
        let (line, _peer) = UnixStream::pair().unwrap();
        assert_eq!(check(&line.into(), Kind::Line), Ok(()));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(path).unwrap();
        let internet = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let far = std::net::TcpStream::connect(internet.local_addr().unwrap()).unwrap();
        let (datagram, _peer) = UnixDatagram::pair().unwrap();
        for other in [
            listener.into(),
            far.into(),
            datagram.into(),
            pipe().0,
            open("/dev/null", OFlags::RDWR),
        ] {
            assert_eq!(
                check(&other, Kind::Line),
                Err("is no connected unix stream socket"),
                "{other:?}"
            );
        }
    }

    #[test]
    fn a_terminal_is_a_slave_open_both_ways() {
        let (master, slave) = terminal();
        assert_eq!(check(&slave, Kind::Slave), Ok(()));
        let path = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let path = path.to_str().unwrap();
        for (other, why) in [
            (
                open(path, OFlags::RDONLY | OFlags::NOCTTY),
                "is not open for reading and writing",
            ),
            (open(path, OFlags::PATH), "is not open, it only names a file (O_PATH)"),
            (master, "is no pseudo-terminal's slave end"),
            (open("/dev/null", OFlags::RDWR), "is no pseudo-terminal's slave end"),
            (pipe().0, "is no pseudo-terminal's slave end"),
        ] {
            assert_eq!(check(&other, Kind::Slave), Err(why), "{other:?}");
        }
    }

    #[test]
    fn streams_are_ends_of_pipes_open_the_right_way() {
        let (reader, writer) = pipe();
        assert_eq!(check(&reader, Kind::Readable), Ok(()));
        assert_eq!(check(&writer, Kind::Writable), Ok(()));
        assert_eq!(check(&writer, Kind::Readable), Err("is not open for reading"));
        assert_eq!(check(&reader, Kind::Writable), Err("is not open for writing"));
        let (socket, _peer) = UnixStream::pair().unwrap();
        for other in [
            socket.into(),
            open("/etc/passwd", OFlags::RDONLY),
            open("/dev/zero", OFlags::RDWR),
            open("/", OFlags::RDONLY | OFlags::DIRECTORY),
        ] {
            assert_eq!(check(&other, Kind::Readable), Err("is no pipe"), "{other:?}");
            assert_eq!(check(&other, Kind::Writable), Err("is no pipe"), "{other:?}");
        }
    }
}
