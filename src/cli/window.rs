//! A text that is drawn anew in place, on the whole terminal: the other screen, so that what was there comes back. A few
//! control sequences that every terminal has (ECMA-48) and the terminal's own modes; one write a picture, so that it doesn't
//! flicker.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::error::CliError;
use crate::cli::signals::Signals;

const OPEN: &str = "\u{1b}[?1049h\u{1b}[?25l";
const CLOSE: &str = "\u{1b}[?25h\u{1b}[?1049l";
const TOP: &str = "\u{1b}[H";
const REST_OF_LINE: &str = "\u{1b}[K";
const REST_OF_SCREEN: &str = "\u{1b}[J";
const PLAIN: &str = "\u{1b}[0m";
const CTRL_C: u8 = 3;

/// What the person or the terminal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    End,
    Resized,
}

/// The terminal, until it is dropped; also by a panic.
pub struct Window {
    terminal: File,
    keys: mpsc::Receiver<u8>,
    before: Termios,
    resized: Signal,
    ended: Signals,
}

impl Window {
    pub fn open() -> Result<Self, CliError> {
        let ended = Signals::new()?;
        Self::enter(ended).map_err(|source| CliError::Machine {
            doing: "take over the terminal",
            source: source.into(),
        })
    }

    fn enter(ended: Signals) -> io::Result<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut input = terminal.try_clone()?;
        let (sender, keys) = mpsc::channel(16);
        // A thread of its own: reading a terminal blocks, and what still blocks when the program ends must not hold it.
        thread::spawn(move || {
            let mut key = [0];
            while let Ok(1) = input.read(&mut key) {
                if sender.blocking_send(key[0]).is_err() {
                    return;
                }
            }
        });
        let window = Self {
            resized: signal(SignalKind::window_change())?,
            ended,
            terminal,
            keys,
            before,
        };
        let mut quiet = window.before.clone();
        // Keys come at once and unseen. Ctrl-C is one of them: by a signal the terminal would stay as it is.
        quiet.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(&window.terminal, OptionalActions::Now, &quiet)?;
        put(OPEN)?;
        Ok(window)
    }

    /// Draws these lines, and one below, as far as they fit.
    pub fn draw(&mut self, lines: &[String], below: &str) -> Result<(), CliError> {
        let size = tcgetwinsize(&self.terminal)
            .ok()
            .filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row.into(), size.ws_col.into()));
        let mut text = TOP.to_owned();
        for (number, line) in fit(lines, below, rows, columns).iter().enumerate() {
            text.push_str(if number == 0 { "" } else { "\r\n" });
            text.push_str(line);
            text.push_str(REST_OF_LINE);
        }
        text.push_str(REST_OF_SCREEN);
        put(&text).map_err(CliError::Output)
    }

    pub async fn key(&mut self) -> Key {
        loop {
            tokio::select! {
                _ = self.resized.recv() => return Key::Resized,
                _ = self.ended.next() => return Key::End,
                // Nothing: the terminal is gone.
                key = self.keys.recv() => if matches!(key, None | Some(b'q' | b'Q' | CTRL_C)) {
                    return Key::End;
                }
            }
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Whoever is left without a terminal needs no mode.
        let _ = put(CLOSE);
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// What of it can be shown: a line that wraps or a screen that scrolls could not be drawn over.
fn fit(lines: &[String], below: &str, rows: usize, columns: usize) -> Vec<String> {
    let room = rows.saturating_sub(1);
    let mut shown: Vec<String> = lines
        .iter()
        .take(room)
        .map(|line| clip(line.trim_end(), columns))
        .collect();
    let below = match lines.len().saturating_sub(room) {
        0 => below.to_owned(),
        more => format!("{more} more. {below}"),
    };
    if rows > 0 {
        shown.push(clip(&below, columns));
    }
    shown
}

/// The beginning of a line; colours take no room.
fn clip(line: &str, columns: usize) -> String {
    let (mut clipped, mut used, mut coloured) = (String::new(), 0, false);
    let mut in_colour = false;
    for character in line.chars() {
        in_colour |= character == '\u{1b}';
        coloured |= in_colour;
        if !in_colour && used == columns {
            break;
        }
        clipped.push(character);
        used += usize::from(!in_colour);
        // `anstyle` writes nothing but colours, which end with this.
        in_colour &= character != 'm';
    }
    if coloured {
        clipped.push_str(PLAIN);
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out() {
        let lines: Vec<String> = ["NAME", "alice", "dan", "sam"]
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        for (rows, columns, shown) in [
            (5, 80, vec!["NAME", "alice", "dan", "sam", "below"]),
            (4, 80, vec!["NAME", "alice", "dan", "1 more. below"]),
            (2, 3, vec!["NAM", "3 m"]),
            (1, 80, vec!["4 more. below"]),
            (0, 80, vec![]),
            (5, 0, vec![""; 5]),
        ] {
            assert_eq!(fit(&lines, "below", rows, columns), shown, "{rows} x {columns}");
        }
    }

    #[test]
    fn colours_take_no_room() {
        let line = "a \u{1b}[1m\u{1b}[31mred\u{1b}[0m word";
        for (columns, shown) in [
            (80, "a \u{1b}[1m\u{1b}[31mred\u{1b}[0m word\u{1b}[0m"),
            (4, "a \u{1b}[1m\u{1b}[31mre\u{1b}[0m"),
            (1, "a"),
        ] {
            assert_eq!(clip(line, columns), shown, "{columns}");
        }
    }
}
