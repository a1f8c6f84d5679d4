//! The caller's own terminal while a command has one: raw, put back in every way out, and its size; and what goes to and
//! fro between the caller's standard streams and a command's.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use tokio::sync::oneshot;

/// A terminal that hands over every key as it is. Dropping it, also by a panic, puts the old mode back.
pub struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Standard input; nothing when it is no terminal.
    pub fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Whoever is left without a terminal needs no mode.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Gives a pseudo-terminal the size of whichever standard stream is a terminal.
pub fn copy_size(master: &OwnedFd) {
    let own = [
        tcgetwinsize(io::stdin()),
        tcgetwinsize(io::stdout()),
        tcgetwinsize(io::stderr()),
    ];
    let known = own
        .into_iter()
        .flatten()
        .find(|size| size.ws_col > 0 && size.ws_row > 0);
    let size = known.unwrap_or(Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    });
    // The command then sees what it would see on a terminal that does not know.
    let _ = tcsetwinsize(master, size);
}

/// How standard input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputEnd {
    Done,
    /// It was a terminal, which is gone.
    HungUp,
}

/// Standard input to a pseudo-terminal. At the end of a file the command is told as a person tells it.
pub fn type_in(master: File) -> oneshot::Receiver<InputEnd> {
    const END_OF_TRANSMISSION: u8 = 4;
    let from_terminal = io::stdin().is_terminal();
    in_thread(move || {
        // Its errors are those of a command that has ended.
        let last = own(io::stdin()).and_then(|input| carry(input, &master));
        if from_terminal {
            return InputEnd::HungUp;
        }
        // Behind the beginning of a line it only hands over that beginning (termios(3), VEOF); the next one is the end.
        let times = if matches!(last, Ok(None | Some(b'\n'))) { 1 } else { 2 };
        let _ = (&master).write_all(&[END_OF_TRANSMISSION; 2][..times]);
        InputEnd::Done
    })
}

/// Standard input to a pipe, which is closed at its end.
pub fn feed(pipe: OwnedFd) {
    drop(in_thread(move || {
        let _ = own(io::stdin()).and_then(|mut input| io::copy(&mut input, &mut File::from(pipe)));
    }));
}

/// What a command writes, to one of our own streams. The error is that of our stream.
pub fn print(from: OwnedFd, to: impl AsFd) -> oneshot::Receiver<io::Result<()>> {
    let to = own(to);
    in_thread(move || carry(File::from(from), &to?).map(drop))
}

/// Everything there is to read; the answer is the last byte of it. The error is that of the other side: a terminal that
/// nobody has open any more says EIO, which is its end.
fn carry(mut from: File, mut to: &File) -> io::Result<Option<u8>> {
    let mut buffer = vec![0; 64 * 1024];
    let mut last = None;
    loop {
        match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return Ok(last),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                last = Some(buffer[count - 1]);
            }
        }
    }
}

/// A standard stream without a buffer of ours, and without closing it.
fn own(stream: impl AsFd) -> io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

/// A thread of its own: reading a file or a terminal blocks, and what still blocks when the program ends must not hold it.
pub fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        // Nobody waiting is no error.
        drop(sender.send(work()));
    });
    receiver
}
