//! Where log messages go: to the journal with their fields under systemd, else to standard error as text.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::error::CliError;

/// Called once, before anything is logged.
pub fn begin(filter: &str) -> Result<(), CliError> {
    // Not EnvFilter: its filters by field bring a regular expression engine, which is memory in both services.
    let filter: Targets = filter.parse().map_err(|error| CliError::Input {
        message: format!("the log filter can't be read: {error}"),
        hint: "write a level such as info, or TARGET=LEVEL with commas between",
    })?;
    // systemd sets this when it reads our standard error (systemd.exec(5)); the journal then takes fields as well.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let plain = journal
        .is_none()
        .then(|| fmt::layer().with_writer(std::io::stderr).with_ansi(false));
    tracing_subscriber::registry()
        .with(filter)
        .with(journal)
        .with(plain)
        .init();
    Ok(())
}
