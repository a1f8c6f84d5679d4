//! The command line: asks the daemon over its socket and shows the answers. Results go to standard output, everything
//! else to standard error. It decides nothing about workspaces and touches none; `main` calls it.

#![expect(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "texts for people are short; how they read here matters more than an allocation"
)]

pub mod absence;
pub mod args;
pub mod check;
pub mod client;
pub mod doctor;
pub mod error;
pub mod events;
pub mod exec;
pub mod lifecycle;
pub mod manual;
pub mod password;
pub mod report;
pub mod scaffold;
pub mod signals;
pub mod status;
pub mod terminal;
pub mod text;
pub mod top;
pub mod window;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use jiff::Timestamp;

use crate::api;
use crate::cli::args::{ConfigVerb, Verb};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::lifecycle::Action;
use crate::cli::text::Look;
use crate::model::config;

/// How a verb ended that has already said everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed,
    /// The exit code of a command in a workspace.
    Code(u8),
}

/// Where a verb writes, and how.
#[derive(Debug)]
pub struct Screen {
    pub json: bool,
    pub look: Look,
    /// Columns of the terminal that standard error is; nothing when it is none.
    pub width: Option<usize>,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        // https://no-color.org: any value but the empty one.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let stderr = io::stderr();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let width = (stderr.is_terminal() && !dumb)
            .then(|| rustix::termios::tcgetwinsize(&stderr).map_or(80, |size| usize::from(size.ws_col)));
        Self {
            json,
            look: Look {
                colour: io::stdout().is_terminal() && !refused && !dumb,
                now: Timestamp::now(),
            },
            // A terminal that doesn't know its width says 0.
            width: width.map(|columns| if columns == 0 { 80 } else { columns }),
        }
    }

    pub fn print(&self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(CliError::Output)
    }

    /// For messages: when nobody can read them, that is no reason to stop.
    pub fn note(&self, text: &str) {
        drop(io::stderr().lock().write_all(text.as_bytes()));
    }

    /// The answer's JSON as it came, or what `render` makes of it.
    fn show<T: serde::de::DeserializeOwned>(
        &self,
        answer: &client::Answer,
        render: impl FnOnce(&T, Look) -> String,
    ) -> Result<(), CliError> {
        if self.json {
            return self.print(&format!("{}\n", answer.text()));
        }
        self.print(&render(&answer.parse()?, self.look))
    }
}

pub async fn run(verb: Verb, socket: PathBuf, screen: &Screen) -> Result<Outcome, CliError> {
    let client = Client::new(socket);
    match verb {
        Verb::Status { name: None } => screen.show(&client.get("/v1/workspaces").await?, status::all)?,
        Verb::Status { name: Some(name) } => {
            screen.show(&client.get(&format!("/v1/workspaces/{name}")).await?, status::one)?;
        }
        Verb::Start(which) => return lifecycle::run(&client, screen, Action::Start, which.names, which.timeout).await,
        Verb::Stop(which) => return lifecycle::run(&client, screen, Action::Stop, which.names, which.timeout).await,
        Verb::Restart(which) => {
            return lifecycle::run(&client, screen, Action::Restart, which.names, which.timeout).await;
        }
        Verb::Logs { name, follow, lines } => return report::logs(&client, screen, &name, follow, lines).await,
        Verb::Events { name, follow, lines } => {
            return events::run(&client, screen, name.as_ref(), follow, lines).await;
        }
        Verb::Exec {
            name,
            tty,
            no_tty,
            workdir,
            command,
        } => {
            let terminal = if tty || no_tty { Some(tty) } else { None };
            return exec::run(&client, &name, command, workdir, terminal).await;
        }
        Verb::Shell { name } => return exec::run(&client, &name, Vec::new(), None, None).await,
        Verb::Top { names, once, disk } => return top::run(&client, screen, &names, once, disk).await,
        Verb::Plan => screen.show(&client.get("/v1/plan").await?, report::plan)?,
        Verb::Reload => screen.show(&client.post("/v1/reload").await?, report::reloaded)?,
        Verb::Password { name, generate, remove } => {
            return password::run(&client, screen, &name, generate, remove).await;
        }
        Verb::Test { name } => {
            let answer = client.post_slowly(&format!("/v1/workspaces/{name}/test")).await?;
            screen.show(&answer, report::test)?;
            let report: api::TestReport = answer.parse()?;
            return Ok(if report.checks.iter().all(|check| check.ok) {
                Outcome::Done
            } else {
                Outcome::Failed
            });
        }
        Verb::Doctor(path) => return doctor::run(screen, &path.config).await,
        Verb::Version => return report::version(&client, screen).await,
        Verb::CheckConfig { file } | Verb::Config(ConfigVerb::Check { file }) => return check::run(screen, &file),
        Verb::Config(ConfigVerb::Schema) => screen.print(config::schema::COMMITTED)?,
        Verb::Scaffold { name, only, path } => return scaffold::run(&client, screen, &name, &path.config, only).await,
        Verb::Completions { shell } => return manual::completions(screen, shell),
        Verb::Man { directory } => return manual::write(&directory),
    }
    Ok(Outcome::Done)
}
