//! The open descriptors of a command, at both ends: what a caller keeps, and what it hands over in which order. Only this
//! file knows that order.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::net::UnixStream;

/// What is handed over.
#[derive(Debug)]
pub struct Ends {
    pub line: OwnedFd,
    pub streams: Streams,
}

#[derive(Debug)]
pub enum Streams {
    /// The slave end of a pseudo-terminal.
    Terminal(OwnedFd),
    /// Ends of pipes: standard input, output and error.
    Pipes([OwnedFd; 3]),
}

impl Ends {
    /// As they came; nothing for any other number of them.
    pub fn of(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut all = descriptors.into_iter();
        let line = all.next()?;
        let rest: Vec<OwnedFd> = all.collect();
        let streams = match <[OwnedFd; 3]>::try_from(rest) {
            Ok(pipes) => Streams::Pipes(pipes),
            Err(rest) => {
                let [terminal] = <[OwnedFd; 1]>::try_from(rest).ok()?;
                Streams::Terminal(terminal)
            }
        };
        Some(Self { line, streams })
    }

    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        match self.streams {
            Streams::Terminal(terminal) => vec![self.line, terminal],
            Streams::Pipes(pipes) => std::iter::once(self.line).chain(pipes).collect(),
        }
    }

    /// Three pipes; the second part is the caller's line and its ends of them.
    pub fn piped() -> io::Result<(Self, UnixStream, [OwnedFd; 3])> {
        let (line, far) = line()?;
        let (input, input_near) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output_near, output) = pipe_with(PipeFlags::CLOEXEC)?;
        let (error_near, error) = pipe_with(PipeFlags::CLOEXEC)?;
        let ends = Self {
            line: far,
            streams: Streams::Pipes([input, output, error]),
        };
        Ok((ends, line, [input_near, output_near, error_near]))
    }

    /// A pseudo-terminal, raw from the start, since the command has one of its own inside that is not; the caller keeps
    /// the master end.
    pub fn with_terminal() -> io::Result<(Self, UnixStream, OwnedFd)> {
        let (line, far) = line()?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let mut mode = tcgetattr(&slave)?;
        mode.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &mode)?;
        let ends = Self {
            line: far,
            streams: Streams::Terminal(slave),
        };
        Ok((ends, line, master))
    }
}

fn line() -> io::Result<(UnixStream, OwnedFd)> {
    let (near, far) = StdStream::pair()?;
    near.set_nonblocking(true)?;
    Ok((UnixStream::from_std(near)?, far.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_come_in_twos_and_fours() {
        let open = |count: usize| (0..count).map(|_| std::fs::File::open("/dev/null").unwrap().into());
        for count in 0..6 {
            let ends = Ends::of(open(count).collect());
            assert_eq!(ends.is_some(), count == 2 || count == 4, "{count}");
            assert!(ends.is_none_or(|ends| ends.into_descriptors().len() == count));
        }
    }
}
