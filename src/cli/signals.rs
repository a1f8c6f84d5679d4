//! The signals by which a program is ended from outside. Whoever listens for them has the time to put a terminal back.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::error::CliError;

pub const HANG_UP: u8 = 1;
/// What a command dies of whose reader has left.
pub const BROKEN_PIPE: u8 = 13;

pub struct Signals([(u8, Signal); 4]);

impl Signals {
    pub fn new() -> Result<Self, CliError> {
        let number = |kind: SignalKind| u8::try_from(kind.as_raw_value()).unwrap_or(HANG_UP);
        let heard = |kind| Ok::<_, CliError>((number(kind), on(kind)?));
        Ok(Self([
            heard(SignalKind::hangup())?,
            heard(SignalKind::interrupt())?,
            heard(SignalKind::quit())?,
            heard(SignalKind::terminate())?,
        ]))
    }

    pub async fn next(&mut self) -> u8 {
        let waits = self.0.iter_mut().map(|(number, signal)| {
            Box::pin(async move {
                signal.recv().await;
                *number
            })
        });
        futures_util::future::select_all(waits).await.0
    }
}

pub fn on(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|error| CliError::Machine {
        doing: "listen for signals",
        source: error.into(),
    })
}
