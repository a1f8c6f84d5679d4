//! What the process of a command's unit does: it waits, as the workspace's account, until the daemon has moved it and says
//! which command it is; runs that in the container; tells the caller how it ended; and sees to it that a command whose
//! caller has gone ends too. The daemon has no part in this: it may be killed meanwhile.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::api::descriptors::{Carrier, Received};
use crate::api::ends::{Ends, Streams};
use crate::host::inside;

/// How long a command may take to end once it was hung up on, and then Podman once the command was killed.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a process that is expected to come or go is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// When Podman itself could not be run; what else it means is podman-exec(1)'s.
const NOT_RUN: u8 = 125;

/// A command line as the daemon tells it: how many words, then the words, each with a NUL at its end. What was cut off is
/// told from what is whole by the number.
pub fn orders(argv: &[String]) -> Vec<u8> {
    let count = argv.len().to_string();
    let words = std::iter::once(&count).chain(argv);
    words.flat_map(|word| word.bytes().chain([0])).collect()
}

fn parse(orders: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(orders).ok()?.strip_suffix('\0')?;
    let mut words = text.split('\0');
    let count: usize = words.next()?.parse().ok()?;
    let argv: Vec<String> = words.map(str::to_owned).collect();
    (argv.len() == count && count > 0).then_some(argv)
}

/// Carries one command from beginning to end. Fails only before there is one.
pub async fn run() -> io::Result<()> {
    let orders = StdStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
    orders.set_nonblocking(true)?;
    let received = Received::default();
    let mut orders = Carrier::receiving(UnixStream::from_std(orders)?, Some(received.clone()));
    let mut told = Vec::new();
    orders.read_to_end(&mut told).await?;
    let argv = parse(&told).ok_or(io::ErrorKind::UnexpectedEof)?;
    let ends = received.take().ok().and_then(Ends::of);
    let ends = ends.ok_or(io::ErrorKind::InvalidInput)?;

    let line = StdStream::from(ends.line);
    line.set_nonblocking(true)?;
    inside::adopt()?;
    let mut carried = Carried {
        line: UnixStream::from_std(line)?,
        asked: None,
    };
    let code = carried.carry(&argv, ends.streams).await?;
    // A caller that has gone does not hear it.
    let _ = carried.line.write_all(&[code]).await;
    Ok(())
}

struct Carried {
    line: UnixStream,
    /// A signal for a command that is not there yet.
    asked: Option<Signal>,
}

impl Carried {
    async fn carry(&mut self, argv: &[String], streams: Streams) -> io::Result<u8> {
        // Their default would end this process, which is to end the command first.
        let (mut end, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
        let _interrupt = signal(SignalKind::interrupt())?;
        let _quit = signal(SignalKind::quit())?;
        let mut ended = signal(SignalKind::child())?;
        let mut podman = match spawn(argv, streams) {
            Ok(podman) => podman,
            Err(error) => {
                tracing::error!(%error, "podman can't be run");
                return Ok(NOT_RUN);
            }
        };
        let pid = podman.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let status = loop {
            let mut byte = [0_u8; 1];
            tokio::select! {
                status = podman.wait() => break Some(status?),
                said = self.line.read(&mut byte) => match said {
                    Ok(1) => {
                        self.asked = Signal::from_named_raw(i32::from(byte[0]));
                        self.pass_on();
                    }
                    _ => break None,
                },
                _ = end.recv() => break None,
                _ = hang_up.recv() => break None,
                _ = ended.recv() => inside::reap(pid),
                () = sleep(LOOK), if self.asked.is_some() => self.pass_on(),
            }
        };
        // Podman ends before its command when nobody reads what it prints.
        Ok(match (finish(&mut podman).await, status) {
            (_, Some(status)) | (Some(status), None) => code(status),
            (None, None) => NOT_RUN,
        })
    }

    /// Gives the command the signal that was asked for, once there is one.
    fn pass_on(&mut self) {
        let first = inside::first();
        if let (false, Some(signal)) = (first.is_empty(), self.asked) {
            self.asked = None;
            for pid in first {
                inside::signal(pid, signal);
            }
        }
    }
}

/// The caller hears on standard error why there is no command.
fn spawn(argv: &[String], streams: Streams) -> io::Result<Child> {
    let (error, newline) = match &streams {
        Streams::Pipes([_, _, error]) => (error.try_clone()?, "\n"),
        Streams::Terminal(terminal) => (terminal.try_clone()?, "\r\n"),
    };
    begin(argv, streams).inspect_err(|problem| {
        let text = format!("csm: podman can't be run: {problem}{newline}");
        // Nobody else writes there. A caller who doesn't read must not hold this process, and goes without.
        let _ = rustix::fs::fcntl_setfl(&error, rustix::fs::OFlags::NONBLOCK);
        let _ = rustix::io::write(&error, text.as_bytes());
    })
}

fn begin(argv: &[String], streams: Streams) -> io::Result<Child> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let [input, output, error] = match streams {
        Streams::Pipes(pipes) => pipes,
        Streams::Terminal(terminal) => {
            // systemd made this process the leader of a session without a terminal. With one, Podman hears of each
            // change of its size, and everybody here when it is gone.
            rustix::process::ioctl_tiocsctty(&terminal)?;
            [terminal.try_clone()?, terminal.try_clone()?, terminal]
        }
    };
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(error))
        .spawn()
}

/// Leaves nothing of the command: hung up on, killed when that does not help, and in the end Podman with it. Returns at once
/// if nothing is there. What the command put into the background by itself, in a session of its own, stays.
async fn finish(podman: &mut Child) -> Option<ExitStatus> {
    let begun = Instant::now();
    let mut hung_up: Vec<Pid> = Vec::new();
    loop {
        let first = inside::first();
        let status = podman.try_wait().ok().flatten();
        if first.is_empty() && status.is_some() {
            return status;
        }
        let waited = begun.elapsed();
        if waited > PATIENCE * 3 {
            return status;
        }
        for pid in first {
            if waited > PATIENCE {
                inside::signal(pid, Signal::KILL);
            } else if !hung_up.contains(&pid) {
                hung_up.push(pid);
                inside::signal(pid, Signal::HUP);
                // A stopped one hears of it only when it goes on.
                inside::signal(pid, Signal::CONT);
            }
        }
        if waited > PATIENCE * 2 {
            inside::kill_children();
        }
        sleep(LOOK).await;
    }
}

/// As a shell has it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_RUN)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    use proptest::prelude::*;
    use rustix::fs::{OFlags, fcntl_setfl};

    use super::*;

    /// Pipes for a command, and the other end of its standard error.
    fn pipes() -> (Streams, File) {
        let pipe = || rustix::pipe::pipe().unwrap();
        let (near, error) = pipe();
        (Streams::Pipes([pipe().0, pipe().1, error]), File::from(near))
    }

    #[tokio::test]
    async fn why_podman_cannot_be_run_is_said_on_standard_error() {
        let argv = ["/nonexistent/podman".to_owned()];
        let (streams, mut near) = pipes();
        assert!(spawn(&argv, streams).is_err());
        let mut said = String::new();
        near.read_to_string(&mut said).unwrap();
        assert_eq!(
            said,
            "csm: podman can't be run: No such file or directory (os error 2)\n"
        );

        // A caller who doesn't read.
        let (streams, _near) = pipes();
        let Streams::Pipes([_, _, error]) = &streams else {
            unreachable!()
        };
        let mut full = File::from(error.try_clone().unwrap());
        fcntl_setfl(&full, OFlags::NONBLOCK).unwrap();
        while full.write(&[b'x'; 4096]).is_ok() {}
        fcntl_setfl(&full, OFlags::empty()).unwrap();
        assert!(spawn(&argv, streams).is_err());
    }

    proptest! {
        #[test]
        fn orders_arrive_whole_or_not_at_all(argv in prop::collection::vec("[^\0]{0,8}", 1..6), cut in 1_usize..40) {
            let told = orders(&argv);
            prop_assert_eq!(parse(&told), Some(argv));
            prop_assert_eq!(parse(&told[..told.len().saturating_sub(cut)]), None);
        }
    }
}
