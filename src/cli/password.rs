//! `csm password`: the password is hashed here, in the caller's process; the daemon gets the argon2 string alone.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write as _};

use hyper::body::Bytes;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::api::PasswordString;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::signals::Signals;
use crate::cli::terminal::in_thread;
use crate::cli::{Outcome, Screen};
use crate::model::auth::{PASSWORD_MAX, hash_password};
use crate::model::names::WorkspaceName;

/// Characters that nobody mistakes for another when reading them aloud or from paper: no 0 or o, no 1, i or l.
const UNAMBIGUOUS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
const GROUPS: usize = 4;
const GROUP: usize = 5;

const SHORTEST: usize = 8;

pub async fn run(
    client: &Client,
    screen: &Screen,
    name: &WorkspaceName,
    generate: bool,
    remove: bool,
) -> Result<Outcome, CliError> {
    let path = format!("/v1/workspaces/{name}/password");
    if remove {
        client.delete(&path).await?;
        return said(
            screen,
            &format!("The password of {name} is forgotten: nobody can sign in, and sessions have ended."),
        );
    }
    let password = if generate { random(fill)? } else { ask(name).await? };
    let mut salt = [0; 16];
    fill(&mut salt)?;
    let argon2 = hash_password(&password, &salt).map_err(|source| CliError::Machine {
        doing: "hash the password",
        source: source.into(),
    })?;
    let body = serde_json::to_vec(&PasswordString { argon2 }).map_err(|source| CliError::Machine {
        doing: "write the request",
        source: source.into(),
    })?;
    client.put(&path, Bytes::from(body)).await?;
    if generate {
        let text = Zeroizing::new(String::from_utf8_lossy(&password).into_owned());
        let line = if screen.json {
            serde_json::json!({ "password": *text }).to_string()
        } else {
            text.to_string()
        };
        screen.print(&Zeroizing::new(format!("{line}\n")))?;
        screen.note(&format!(
            "This is the password of {name}; it is not shown again. Its old sessions have ended.\n"
        ));
        return Ok(Outcome::Done);
    }
    said(
        screen,
        &format!("The password of {name} is set; its old sessions have ended."),
    )
}

fn said(screen: &Screen, text: &str) -> Result<Outcome, CliError> {
    screen.print(&if screen.json {
        "{}\n".to_owned()
    } else {
        format!("{text}\n")
    })?;
    Ok(Outcome::Done)
}

async fn ask(name: &WorkspaceName) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return checked(first_line(stdin.lock())?);
    }
    let terminal = |source: io::Error| CliError::Machine {
        doing: "ask on the terminal",
        source: source.into(),
    };
    // First: whoever ends it by Ctrl-C gets the terminal back as it was.
    let mut signals = Signals::new()?;
    let silence = Silence::begin().map_err(terminal)?;
    let mut prompt = async |text: &str| {
        (&silence.terminal).write_all(text.as_bytes()).map_err(terminal)?;
        let input = silence.terminal.try_clone().map_err(terminal)?;
        tokio::select! {
            line = in_thread(|| first_line(BufReader::new(input))) => {
                line.unwrap_or_else(|lost| Err(terminal(io::Error::other(lost))))
            }
            number = signals.next() => {
                // What is typed is not shown, nor is the end of the line.
                let _ = (&silence.terminal).write_all(b"\n");
                Err(CliError::Ended(number))
            }
        }
    };
    let first = checked(prompt(&format!("New password for {name}: ")).await?)?;
    if *prompt("Once more: ").await? != *first {
        return Err(CliError::Input {
            message: "the two are not the same; nothing was changed".to_owned(),
            hint: "type it again",
        });
    }
    Ok(first)
}

/// A terminal that does not show what is typed, until dropped. (The rpassword crate asks before it silences the
/// terminal, so that what was typed at once would be shown.)
struct Silence {
    terminal: File,
    before: Termios,
}

impl Silence {
    fn begin() -> io::Result<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON);
        // What was typed before the question is no answer to it.
        tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // When the terminal has gone, there is nothing left to restore.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// One line, without its newline.
fn first_line(input: impl BufRead) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_MAX + 2));
    input
        .take(PASSWORD_MAX as u64 + 2)
        .read_until(b'\n', &mut line)
        .map_err(|source| CliError::Machine {
            doing: "read standard input",
            source: source.into(),
        })?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}

fn checked(password: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let refuse = |message: String| {
        Err(CliError::Input {
            message,
            hint: "let one be made: csm password NAME --generate",
        })
    };
    match password.len() {
        0 => refuse("the password is empty".to_owned()),
        1..SHORTEST => refuse(format!("the password is shorter than {SHORTEST} characters")),
        SHORTEST..=PASSWORD_MAX => Ok(password),
        _ => refuse(format!("the password is longer than {PASSWORD_MAX} bytes")),
    }
}

pub(super) fn fill(bytes: &mut [u8]) -> Result<(), CliError> {
    getrandom::fill(bytes).map_err(|source| CliError::Machine {
        doing: "get random bytes",
        source: source.into(),
    })
}

/// 20 characters of 31: 99 bits.
pub(super) fn random(mut fill: impl FnMut(&mut [u8]) -> Result<(), CliError>) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut password = Zeroizing::new(Vec::with_capacity(GROUPS * (GROUP + 1)));
    let mut taken = 0;
    let mut bytes = Zeroizing::new([0; 32]);
    loop {
        fill(bytes.as_mut())?;
        for byte in *bytes {
            // The 32nd value of five bits has no character; taking it for another would favour that one.
            let Some(character) = UNAMBIGUOUS.get(usize::from(byte & 31)) else {
                continue;
            };
            password.push(*character);
            taken += 1;
            if taken == GROUPS * GROUP {
                return Ok(password);
            }
            if taken % GROUP == 0 {
                password.push(b'-');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_password_is_four_groups_of_five() {
        let mut next = 0_u8;
        let password = random(|bytes| {
            bytes.fill_with(|| {
                next = next.wrapping_add(7);
                next
            });
            Ok(())
        })
        .unwrap();
        let text = String::from_utf8(password.to_vec()).unwrap();
        let groups: Vec<&str> = text.split('-').collect();
        assert_eq!(
            groups.iter().map(|group| group.len()).collect::<Vec<_>>(),
            [5; 4],
            "{text}"
        );
        assert!(
            text.bytes().all(|byte| byte == b'-' || UNAMBIGUOUS.contains(&byte)),
            "{text}"
        );
    }

    #[test]
    fn values_without_a_character_are_drawn_again() {
        let mut first = true;
        let password = random(|bytes| {
            bytes.fill(if first { 31 } else { 30 });
            first = false;
            Ok(())
        })
        .unwrap();
        assert_eq!(password.as_slice(), b"99999-99999-99999-99999");
    }

    #[test]
    fn one_line_is_read_and_its_newline_dropped() {
        for (input, password) in [
            ("correct horse\n", "correct horse"),
            ("correct horse", "correct horse"),
            ("correct horse\nsecond\n", "correct horse"),
            ("trailing space \n", "trailing space "),
            ("with return\r\n", "with return\r"),
        ] {
            assert_eq!(first_line(input.as_bytes()).unwrap().as_slice(), password.as_bytes());
        }
    }

    #[test]
    fn too_short_and_too_long_are_refused_without_being_repeated() {
        for input in ["", "\n", "short12\n", &"x".repeat(1025)] {
            let error = first_line(input.as_bytes()).and_then(checked).unwrap_err();
            assert!(!error.report().contains("short12"), "{}", error.report());
            assert_eq!(error.kind(), crate::cli::error::Kind::Configuration);
        }
        assert!(first_line("x".repeat(1024).as_bytes()).and_then(checked).is_ok());
    }
}
