//! `csm exec` and `csm shell` against a daemon that plays the command too: what is handed over, and what becomes of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::routing::post;
use axum::{Extension, Json, Router};
use code_server_multi::api::descriptors::Received;
use code_server_multi::api::ends::{Ends, Streams};
use code_server_multi::api::{Exec, ExecStarted};
use code_server_multi::serve::http;
use rustix::fs::FileType;
use rustix::process::Signal;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::fake::{Admin, finish, problem, program, run};

struct Stage {
    socket: PathBuf,
    _directory: TempDir,
}

/// A daemon whose commands are this function.
fn stage(play: impl Fn(Exec, UnixStream, Streams) + Send + Sync + 'static) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let play = Arc::new(play);
    let answer = move |Extension(received): Extension<Received>, Json(asked): Json<Exec>| {
        let (play, ends) = (play.clone(), Ends::of(received.take().unwrap()).unwrap());
        thread::spawn(move || play(asked, UnixStream::from(ends.line), ends.streams));
        async {
            Json(ExecStarted {
                unit: "csm-dan--exec-1.service".to_owned(),
            })
        }
    };
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let bounds = http::Bounds {
            connections: 8,
            head: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            grace: Duration::from_secs(1),
            descriptors: true,
            way_out: "",
        };
        let routes = Router::new().route("/v1/workspaces/dan/exec", post(answer));
        runtime.block_on(async {
            let listener = tokio::net::UnixListener::from_std(listener).unwrap();
            http::serve(listener, routes, |_| true, bounds, CancellationToken::new()).await;
        });
    });
    Stage {
        socket,
        _directory: directory,
    }
}

impl Stage {
    fn csm(&self, words: &str) -> Command {
        let mut command = program();
        command.arg("--socket").arg(&self.socket).args(words.split(' '));
        command
    }
}

fn pipes(streams: Streams) -> [File; 3] {
    let Streams::Pipes(pipes) = streams else {
        panic!("a terminal came")
    };
    pipes.map(File::from)
}

fn terminal(streams: Streams) -> File {
    let Streams::Terminal(terminal) = streams else {
        panic!("pipes came")
    };
    File::from(terminal)
}

fn signal(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn file_type(descriptor: &impl AsFd) -> FileType {
    FileType::from_raw_mode(rustix::fs::fstat(descriptor).unwrap().st_mode)
}

#[test]
fn a_command_reads_writes_and_ends_as_if_it_ran_here() {
    let stage = stage(|asked, mut line, streams| {
        let [mut input, mut output, mut error] = pipes(streams);
        let mut text = String::new();
        input.read_to_string(&mut text).unwrap();
        write!(output, "{:?} {text}", asked.command).unwrap();
        write!(error, "{:?} {:?}", asked.workdir, asked.term).unwrap();
        // The code may be there before anybody has read what was written.
        line.write_all(&[7]).unwrap();
    });
    let mut child = stage
        .csm("exec -w /srv dan -- tr a-z A-Z")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let done = finish(child);
    assert_eq!(done.code, 7);
    assert_eq!(done.stdout, "[\"tr\", \"a-z\", \"A-Z\"] hello");
    assert_eq!(done.stderr, "Some(\"/srv\") None");
}

#[test]
fn nothing_that_the_caller_has_open_is_handed_over() {
    let stage = stage(|_, mut line, streams| {
        let ends = pipes(streams);
        let kinds = ends.each_ref().map(file_type);
        assert_eq!(kinds, [FileType::Fifo; 3]);
        // The program's own standard output is a file.
        (&ends[1]).write_all(b"x").unwrap();
        drop(ends);
        line.write_all(&[0]).unwrap();
    });
    let mut file = tempfile::tempfile().unwrap();
    let done = run(stage.csm("exec dan true").stdin(File::open("/dev/zero").unwrap()));
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "x", ""));
    let child = stage
        .csm("exec dan true")
        .stdout(file.try_clone().unwrap())
        .stderr(Stdio::piped())
        .spawn();
    assert_eq!(finish(child.unwrap()).code, 0);
    let mut text = String::new();
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
}

#[test]
fn a_terminal_is_made_where_one_is_insisted_on() {
    let stage = stage(|asked, mut line, streams| {
        let mut terminal = terminal(streams);
        let size = rustix::termios::tcgetwinsize(&terminal).unwrap();
        writeln!(
            terminal,
            "{:?} {} {} {:?}",
            asked.command, size.ws_row, size.ws_col, asked.term
        )
        .unwrap();
        drop(terminal);
        line.write_all(&[3]).unwrap();
    });
    let done = run(stage.csm("exec -t dan top").env("TERM", "screen-256color"));
    assert_eq!((done.code, done.stderr.as_str()), (3, ""));
    assert_eq!(done.stdout, "[\"top\"] 24 80 Some(\"screen-256color\")\n");
}

/// One Ctrl-D behind the beginning of a line is not the end of anything.
#[test]
fn the_end_of_the_input_is_an_end_in_a_terminal_also_within_a_line() {
    let stage = stage(|_, mut line, streams| {
        let mut terminal = terminal(streams);
        // As the terminal inside is, for which this one stands in.
        let mut mode = tcgetattr(&terminal).unwrap();
        mode.local_modes |= LocalModes::ICANON;
        tcsetattr(&terminal, OptionalActions::Now, &mode).unwrap();
        terminal.write_all(b"ready\n").unwrap();
        let mut typed = Vec::new();
        terminal.read_to_end(&mut typed).unwrap();
        terminal.write_all(&typed).unwrap();
        drop(terminal);
        line.write_all(&[0]).unwrap();
    });
    for input in ["hi", "one\nhi", "hi\n", ""] {
        let mut child = stage
            .csm("exec -t dan cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = finish(child);
        assert_eq!((done.code, done.stdout.as_str()), (0, input), "{}", done.stderr);
    }
}

#[test]
fn a_shell_is_a_command_without_words() {
    let stage = stage(|asked, mut line, streams| {
        drop(streams);
        line.write_all(&[u8::try_from(asked.command.len()).unwrap()]).unwrap();
    });
    assert_eq!(run(&mut stage.csm("shell dan")).code, 0);
}

#[test]
fn what_was_cut_off_has_no_exit_code() {
    let stage = stage(|_, line, streams| {
        let [_, mut output, _] = pipes(streams);
        output.write_all(b"so far").unwrap();
        drop(line);
        // Somebody still holds the other end, and says nothing more.
        std::mem::forget(output);
    });
    let done = run(&mut stage.csm("exec dan true"));
    assert_eq!((done.code, done.stdout.as_str()), (125, "so far"));
    assert_eq!(
        done.stderr,
        "csm: the command in dan was cut off: how it ended is not known\n\
         Hint: see whether the workspace was stopped: csm status dan\n"
    );
}

#[test]
fn signals_are_passed_on_and_the_end_is_waited_for() {
    let stage = stage(|_, mut line, streams| {
        let [_, mut output, _] = pipes(streams);
        output.write_all(b"begun\n").unwrap();
        let mut numbers = [0; 3];
        line.read_exact(&mut numbers).unwrap();
        drop(output);
        line.write_all(&[numbers.iter().sum()]).unwrap();
    });
    let mut child = stage
        .csm("exec dan true")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    // One at a time: two that wait are heard in any order, two alike once.
    for number in [Signal::INT, Signal::QUIT, Signal::TERM] {
        signal(child.id(), number);
    }
    assert_eq!(finish(child).code, 2 + 3 + 15);
}

#[test]
fn a_killed_program_closes_everything() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let stage = stage(move |_, mut line, streams| {
        let [mut input, mut output, _] = pipes(streams);
        output.write_all(b"begun\n").unwrap();
        let (mut rest, mut said) = (Vec::new(), Vec::new());
        input.read_to_end(&mut rest).unwrap();
        line.read_to_end(&mut said).unwrap();
        sender.send((rest, said)).unwrap();
    });
    let mut child = stage
        .csm("exec dan true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let (rest, said) = receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(rest.is_empty() && said.is_empty());
}

#[test]
fn a_refusal_is_125_like_everything_that_is_not_the_commands() {
    let refusal = || async { problem(429, "refused", "too many", "end some") };
    let admin = Admin::new(Router::new().route("/v1/workspaces/dan/exec", post(refusal)));
    let done = run(super::fake::csm(&admin).args(["exec", "dan", "true"]));
    assert_eq!((done.code, done.stdout.as_str()), (125, ""));
    assert_eq!(done.stderr, "csm: refused: too many\nHint: end some\n");
    let done = run(program().args(["--socket", "/nonexistent/admin.sock", "shell", "dan"]));
    assert_eq!(done.code, 125);
    assert!(
        done.stderr.starts_with("csm: can't reach the daemon at /nonexistent/"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_reader_that_leaves_breaks_the_commands_pipe() {
    let stage = stage(|_, mut line, streams| {
        let [_, mut output, _] = pipes(streams);
        let block = [b'x'; 4096];
        while output.write_all(&block).is_ok() {}
        line.write_all(&[141]).unwrap();
    });
    let done = super::fake::run_and_leave(&mut stage.csm("exec dan yes"));
    assert_eq!((done.code, done.stderr.as_str()), (141, ""));
}

/// A terminal is never broken by that, only full: whoever writes to it would wait for ever.
#[test]
fn a_reader_that_leaves_hangs_up_on_a_command_with_a_terminal() {
    let stage = stage(|_, _line, streams| fill(terminal(streams)));
    let done = super::fake::run_and_leave(&mut stage.csm("exec -t dan yes"));
    assert_eq!((done.code, done.stderr.as_str()), (141, ""));
}

#[test]
fn what_cannot_be_written_is_no_success_in_a_terminal_either() {
    let stage = stage(|_, _line, streams| fill(terminal(streams)));
    let full = OwnedFd::from(File::options().write(true).open("/dev/full").unwrap());
    let child = stage.csm("exec -t dan yes").stdout(full).stderr(Stdio::piped()).spawn();
    let done = finish(child.unwrap());
    assert_eq!(done.code, 125);
    assert!(
        done.stderr.contains("can't write the result: No space left"),
        "{}",
        done.stderr
    );
}

/// Until it is hung up on.
fn fill(mut terminal: File) {
    let block = [b'x'; 4096];
    while terminal.write_all(&block).is_ok() {}
}

#[test]
fn what_cannot_be_written_is_no_success() {
    let stage = stage(|_, mut line, streams| {
        let [_, mut output, _] = pipes(streams);
        output.write_all(b"lost").unwrap();
        drop(output);
        line.write_all(&[0]).unwrap();
    });
    let full = OwnedFd::from(File::options().write(true).open("/dev/full").unwrap());
    let child = stage.csm("exec dan true").stdout(full).stderr(Stdio::piped()).spawn();
    let done = finish(child.unwrap());
    assert_eq!(done.code, 125);
    assert!(
        done.stderr.contains("can't write the result: No space left"),
        "{}",
        done.stderr
    );
}
