//! What is different when a person sits at a terminal: colours, the line of progress, prompts without echo.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use futures_util::stream;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::fake::{self, Admin, csm, open_stream, workspace};

/// A program on a terminal of its own.
struct Terminal {
    master: File,
    output: mpsc::Receiver<Vec<u8>>,
    seen: String,
    child: std::process::Child,
}

impl Terminal {
    fn run(command: &Command) -> Self {
        // CLOEXEC: programs of other tests would hold it open as well.
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = || -> OwnedFd { rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap() };
        // A session of its own: prompts go to /dev/tty, the controlling terminal.
        let mut session = Command::new("setsid");
        session
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        session
            .stdin(Stdio::from(open()))
            .stdout(Stdio::from(open()))
            .stderr(Stdio::from(open()));
        let child = session.spawn().unwrap();
        drop(session);
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end is EIO, once the last holder of the other side has gone.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            master,
            output,
            seen: String::new(),
            child,
        }
    }

    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.seen.contains(text) {
            let rest = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(rest) else {
                panic!("no {text:?} in {:?}", self.seen)
            };
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn end(mut self) -> (i32, String) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self
                .output
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("still open after {:?}", self.seen),
            }
        }
        (self.child.wait().unwrap().code().unwrap(), self.seen)
    }
}

#[test]
fn a_terminal_gets_colour_unless_it_is_refused() {
    let admin = Admin::json("/v1/workspaces", super::machine());
    let (code, text) = Terminal::run(csm(&admin).arg("status")).end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\u{1b}[32mready\u{1b}[0m"), "{text:?}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let (code, text) = Terminal::run(csm(&admin).arg("status").env(name, value)).end();
        assert_eq!(code, 0, "{text}");
        assert!(!text.contains('\u{1b}'), "{name}: {text:?}");
    }
}

#[test]
fn progress_is_one_line_rewritten_and_gone_at_the_end() {
    let starting = || async { workspace("dan", "starting", true).to_string() };
    let follow = || async { open_stream(vec![workspace("dan", "ready", false)]) };
    let admin = Admin::new(
        Router::new()
            .route("/v1/workspaces/dan/start", post(starting))
            .route("/v1/workspaces/dan/follow", get(follow)),
    );
    let (code, text) = Terminal::run(csm(&admin).args(["start", "dan"]).env("NO_COLOR", "1")).end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\r\u{1b}[K0 s: dan starting"), "{text:?}");
    let last = text.rsplit("\u{1b}[K").next().unwrap();
    assert!(
        last.is_empty() || last == "dan is ready at https://dan.code.example.org\r\n",
        "{text:?}"
    );
    assert!(
        text.contains("\u{1b}[Kdan is ready at https://dan.code.example.org\r\n"),
        "{text:?}"
    );
}

#[test]
fn a_password_is_asked_for_twice_and_not_shown() {
    let body = Arc::new(Mutex::new(String::new()));
    let kept = body.clone();
    let take = move |text: String| async move {
        *kept.lock().unwrap() = text;
        StatusCode::NO_CONTENT
    };
    let admin = Admin::new(Router::new().route("/v1/workspaces/dan/password", put(take)));
    for (second, expected) in [("correct horse\n", 0), ("correct hose\n", 2)] {
        body.lock().unwrap().clear();
        let mut terminal = Terminal::run(fake::csm(&admin).args(["password", "dan"]));
        terminal.wait_for("New password for dan: ");
        terminal.write("correct horse\n");
        terminal.wait_for("Once more: ");
        terminal.write(second);
        let (code, text) = terminal.end();
        assert_eq!(code, expected, "{text}");
        assert!(!text.contains("horse") && !text.contains("hose"), "{text:?}");
        let body = body.lock().unwrap();
        assert_eq!(!body.is_empty(), expected == 0, "{body}");
        assert!(body.is_empty() || super::password::opens(&body, "correct horse"));
    }
}

#[test]
fn top_is_drawn_in_place_until_q_and_leaves_the_terminal_as_it_was() {
    let admin = super::live::busy_host();
    let mut terminal = Terminal::run(csm(&admin).arg("top").env("NO_COLOR", "1"));
    // The size of a terminal that was never told any: 24 lines of 80.
    terminal.wait_for("\u{1b}[?1049h\u{1b}[?25l\u{1b}[HNAME   STATE    CPU");
    terminal.wait_for("0.75 of 1.5");
    terminal.write("xq");
    let (code, text) = terminal.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{text:?}");
    assert!(!text.contains('x'), "keys are shown: {text:?}");
    let pictures = text.matches("\u{1b}[H").count();
    assert_eq!(text.matches("\u{1b}[J").count(), pictures);
    for line in text.split("\r\n") {
        let plain = line.replace("\u{1b}[K", "");
        let plain = plain.rsplit("\u{1b}[H").next().unwrap_or_default();
        assert!(plain.chars().count() <= 80 + "\u{1b}[J".len(), "{plain:?}");
    }
}

#[test]
fn ctrl_c_ends_top_as_q_does() {
    let admin = super::live::busy_host();
    let mut terminal = Terminal::run(csm(&admin).arg("top"));
    terminal.wait_for("running of 3 workspaces");
    terminal.write("\u{3}");
    let (code, text) = terminal.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{text:?}");
}

#[test]
fn a_signal_ends_top_as_q_does() {
    let admin = super::live::busy_host();
    for signal in [Signal::INT, Signal::QUIT, Signal::TERM, Signal::HUP] {
        let mut terminal = Terminal::run(csm(&admin).arg("top"));
        terminal.wait_for("running of 3 workspaces");
        // setsid has become csm itself.
        kill_process(Pid::from_child(&terminal.child), signal).unwrap();
        let (code, text) = terminal.end();
        assert_eq!(code, 0, "{signal:?}: {text}");
        assert!(text.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{signal:?}: {text:?}");
    }
}

/// A host whose second answer is this; the others are good.
fn host_with_a_second_answer(second: fn() -> Option<Body>) -> Admin {
    let answers = Arc::new(AtomicU64::new(1));
    let usage = move || async move {
        let number = answers.fetch_add(1, Ordering::SeqCst);
        if number != 2 {
            return Body::from(super::live::usage(number * 1_000_000, number * 750_000));
        }
        match second() {
            Some(body) => body,
            None => std::future::pending().await,
        }
    };
    Admin::new(Router::new().route("/v1/usage", get(usage)))
}

#[test]
fn keys_end_top_while_the_daemon_does_not_answer() {
    for key in ["q", "\u{3}"] {
        let admin = host_with_a_second_answer(|| None);
        let mut terminal = Terminal::run(csm(&admin).arg("top"));
        terminal.wait_for("The daemon does not answer. 2 running of 3 workspaces. q ends.");
        let typed = Instant::now();
        terminal.write(key);
        let (code, text) = terminal.end();
        assert_eq!(code, 0, "{text}");
        assert!(typed.elapsed() < Duration::from_secs(10), "{:?}", typed.elapsed());
    }
}

#[test]
fn top_goes_on_when_the_daemon_was_restarted() {
    let cut_off = || Some(Body::from_stream(stream::iter([Err::<&str, _>("killed")])));
    let admin = host_with_a_second_answer(cut_off);
    let mut terminal = Terminal::run(csm(&admin).arg("top").env("NO_COLOR", "1"));
    terminal.wait_for("The daemon does not answer. 2 running of 3 workspaces.");
    terminal.wait_for("0.75 of 1.5");
    terminal.write("q");
    let (code, text) = terminal.end();
    assert_eq!(code, 0, "{text}");
    let last = text.rsplit("\u{1b}[H").next().unwrap();
    assert!(
        last.contains("2 running of 3") && !last.contains("does not answer"),
        "{last:?}"
    );
}

/// The shell shows which mode the terminal was left in.
#[test]
fn ctrl_c_at_the_password_gives_the_terminal_back_and_changes_nothing() {
    let admin = Admin::new(Router::new());
    for (key, code) in [("\u{3}", "130"), ("\u{1c}", "131")] {
        let mut shell = fake::command("sh".as_ref());
        shell.args(["-c", r#"trap : INT QUIT; "$0" "$@"; echo "code $?"; stty -a; echo end"#]);
        let csm = csm(&admin);
        shell
            .arg(csm.get_program())
            .args(csm.get_args())
            .args(["password", "dan"]);
        let mut terminal = Terminal::run(&shell);
        terminal.wait_for("New password for dan: ");
        terminal.write("half of");
        terminal.write(key);
        terminal.wait_for("\r\nend\r\n");
        let (_, text) = terminal.end();
        assert!(
            text.contains(&format!("\r\ncsm: nothing was changed\r\ncode {code}\r\n")),
            "{text}"
        );
        assert!(text.contains(" echo ") && text.contains(" icanon "), "{text}");
    }
    assert_eq!(admin.requests(), [""; 0]);
}
