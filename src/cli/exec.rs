//! `csm exec` and `csm shell`: hands the daemon ends of pipes or of a terminal, and then carries bytes, signals and the
//! exit code between the caller and the command, without the daemon. Nothing that the caller has open is handed over
//! itself: not its terminal, nor a file of its.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::signal::unix::SignalKind;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::api;
use crate::api::ends::Ends;
use crate::cli::Outcome;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::signals::{BROKEN_PIPE, HANG_UP, Signals, on};
use crate::cli::terminal::{self, InputEnd, Raw};
use crate::model::exec;
use crate::model::names::WorkspaceName;

/// What a command that is cut off may still have printed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// No command asks for the login shell. Without a word about a terminal, there is one where the caller has one.
pub async fn run(
    client: &Client,
    name: &WorkspaceName,
    command: Vec<String>,
    workdir: Option<String>,
    terminal: Option<bool>,
) -> Result<Outcome, CliError> {
    let terminal = terminal.unwrap_or_else(|| io::stdin().is_terminal() && io::stdout().is_terminal());
    let body = api::Exec {
        command,
        term: std::env::var("TERM")
            .ok()
            .filter(|term| terminal && exec::is_term(term)),
        workdir,
    };
    let done = if terminal {
        in_terminal(client, name, &body).await
    } else {
        in_pipes(client, name, &body).await
    };
    done.map(Outcome::Code).map_err(|error| CliError::NotRun(error.into()))
}

async fn begin(client: &Client, name: &WorkspaceName, body: &api::Exec, ends: Ends) -> Result<(), CliError> {
    let body = serde_json::to_vec(body).map_err(|error| machine("make the request", error))?;
    let path = format!("/v1/workspaces/{name}/exec");
    let answer = client.exec(&path, Bytes::from(body), ends.into_descriptors()).await?;
    answer.parse::<api::ExecStarted>().map(drop)
}

async fn in_terminal(client: &Client, name: &WorkspaceName, body: &api::Exec) -> Result<u8, CliError> {
    let made = |error: io::Error| machine("make a terminal", error);
    let (ends, mut line, master) = Ends::with_terminal().map_err(made)?;
    terminal::copy_size(&master);
    let mut resized = on(SignalKind::window_change())?;
    begin(client, name, body, ends).await?;

    // First: a signal in between would leave the terminal raw.
    let mut signals = Signals::new()?;
    let _raw = Raw::enter().map_err(|error| machine("use the terminal", error))?;
    let mut input = terminal::type_in(master.try_clone().map_err(made)?.into());
    let mut reading = true;
    let mut output = terminal::print(master.try_clone().map_err(made)?, io::stdout());
    let mut printing = true;
    let mut code = [0];
    let said = loop {
        tokio::select! {
            said = line.read(&mut code) => break said,
            _ = resized.recv() => terminal::copy_size(&master),
            // With the terminal's other end closed, the command is hung up on.
            number = signals.next() => return Ok(128 + number),
            end = &mut input, if reading => {
                reading = false;
                if end == Ok(InputEnd::HungUp) {
                    return Ok(128 + HANG_UP);
                }
            }
            // Nobody would read the terminal any more, and the command would wait for ever for room in it: hung up on.
            written = &mut output, if printing => {
                printing = false;
                match written {
                    Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(128 + BROKEN_PIPE),
                    Ok(Err(error)) => return Err(CliError::Output(error)),
                    _ => {}
                }
            }
        }
    };
    drop(line);
    ended(name, said, code[0], printing.then_some(&mut output)).await
}

async fn in_pipes(client: &Client, name: &WorkspaceName, body: &api::Exec) -> Result<u8, CliError> {
    let (ends, mut line, [input, output, error]) = Ends::piped().map_err(|error| machine("make pipes", error))?;
    let mut signals = Signals::new()?;
    tokio::select! {
        begun = begin(client, name, body, ends) => begun?,
        number = signals.next() => return Ok(128 + number),
    }
    terminal::feed(input);
    let mut output = terminal::print(output, io::stdout());
    let mut error = terminal::print(error, io::stderr());
    let mut code = [0];
    let said = loop {
        tokio::select! {
            said = line.read(&mut code) => break said,
            number = signals.next() => {
                if number == HANG_UP {
                    return Ok(128 + number);
                }
                pass_on(&mut line, number).await;
            }
        }
    };
    ended(name, said, code[0], [&mut output, &mut error]).await
}

async fn pass_on(line: &mut UnixStream, number: u8) {
    // A command that has just ended needs no signal.
    let _ = line.write_all(&[number]).await;
}

/// The command's exit code, once everything that it wrote has been written.
async fn ended(
    name: &WorkspaceName,
    said: io::Result<usize>,
    exit: u8,
    streams: impl IntoIterator<Item = &mut oneshot::Receiver<io::Result<()>>>,
) -> Result<u8, CliError> {
    let known = matches!(said, Ok(1));
    for stream in streams {
        // What carried a cut off command may still be there, and hold the stream open.
        let written = if known {
            stream.await
        } else {
            timeout(LAST_WORDS, stream).await.unwrap_or(Ok(Ok(())))
        };
        match written {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => return Err(CliError::Output(error)),
            _ => {}
        }
    }
    if known {
        Ok(exit)
    } else {
        Err(CliError::CutOff(name.clone()))
    }
}

fn machine(doing: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CliError {
    CliError::Machine {
        doing,
        source: source.into(),
    }
}
