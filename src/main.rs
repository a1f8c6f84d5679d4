//! `csm`: arguments, logging, runtime, and one match. The only place that turns errors into exit codes.

use std::process::ExitCode;

use clap::FromArgMatches as _;
use code_server_multi::cli::args::{Arguments, Command, Service, groups};
use code_server_multi::cli::error::{CliError, Kind};
use code_server_multi::cli::{self, Outcome, Screen};
use code_server_multi::serve;
use code_server_multi::serve::daemon::{self, DaemonError, DaemonOptions};
use code_server_multi::serve::gateway;

fn main() -> ExitCode {
    let matches = groups::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let screen = Screen::new(arguments.json);
    let result = begin_log(&arguments).and_then(|()| run(arguments, &screen));
    let error = match result {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::Failed) => return ExitCode::from(1),
        Ok(Outcome::Code(code)) => return ExitCode::from(code),
        Err(error) => error,
    };
    if error.kind() != Kind::Quiet {
        screen.note(&error.report());
    }
    ExitCode::from(match error.kind() {
        Kind::Quiet => 0,
        Kind::Failed => 1,
        Kind::Configuration => 2,
        Kind::Unreachable => 3,
        Kind::NotRun => 125,
        Kind::Ended(number) => 128 + number,
    })
}

fn begin_log(arguments: &Arguments) -> Result<(), CliError> {
    serve::logging::begin(arguments.log_filter()).map_err(|error| CliError::Input {
        message: format!("the log filter can't be read: {error}"),
        hint: "write a level such as info, or TARGET=LEVEL with commas between",
    })
}

fn run(arguments: Arguments, screen: &Screen) -> Result<Outcome, CliError> {
    // One thread: the services spend their time waiting, and each thread would cost memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Machine {
            doing: "make a runtime",
            source: source.into(),
        })?;
    runtime.block_on(async {
        match arguments.command {
            Command::Service(service) => serve(service).await,
            Command::Verb(verb) => cli::run(verb, arguments.socket, screen).await,
        }
    })
}

async fn serve(service: Service) -> Result<Outcome, CliError> {
    match service {
        Service::Daemon(options) => match daemon::run(DaemonOptions { config: options.config }).await {
            Ok(()) => Ok(Outcome::Done),
            Err(DaemonError::Configuration { path, problems }) => {
                let problems = problems.iter().map(serve::app::wire_problem).collect();
                Err(CliError::Configuration { path, problems })
            }
            Err(error) => Err(CliError::Service {
                hint: error.hint(),
                source: error.into(),
            }),
        },
        Service::Gateway => match gateway::run_as_service().await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) => Err(CliError::Service {
                hint: error.hint(),
                source: error.into(),
            }),
        },
        Service::ExecWhenTold => match serve::waiter::run().await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) => Err(CliError::Machine {
                doing: "run the command",
                source: error.into(),
            }),
        },
    }
}
