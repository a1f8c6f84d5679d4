//! The command line as it was typed. Parsing checks, and does nothing else.

pub mod groups;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::scaffold::Part;
use crate::model::config;
use crate::model::layout;
use crate::model::names::WorkspaceName;

/// Browser workspaces for people and their AI agents on one machine
#[derive(Debug, Parser)]
#[command(name = "csm", version, max_term_width = 100)]
pub struct Arguments {
    /// Use this socket of the daemon
    #[arg(long, global = true, value_name = "PATH", default_value = layout::ADMIN_SOCKET)]
    pub socket: PathBuf,

    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// Log what this filter lets through, as in `debug` or `warn,code_server_multi=trace`
    #[arg(long, global = true, value_name = "FILTER", env = "CSM_LOG")]
    pub log: Option<String>,

    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// What is logged: for a verb only what went wrong, its result being said anyway.
    pub fn log_filter(&self) -> &str {
        let default = match self.command {
            Command::Service(_) => "info",
            Command::Verb(_) => "warn",
        };
        self.log.as_deref().unwrap_or(default)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Service(Service),
    #[command(flatten)]
    Verb(Verb),
}

#[derive(Debug, Subcommand)]
pub enum Service {
    /// Run the daemon that keeps workspaces as configured (systemd starts it)
    Daemon(ConfigPath),
    /// Run the sign-in gateway (systemd starts it)
    Gateway,
    /// Wait to be told a command, and carry it into a workspace (the daemon's helper)
    #[command(name = "exec-when-told", hide = true)]
    ExecWhenTold,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show how the workspaces are
    Status {
        /// Show everything about this one
        #[arg(value_parser = WorkspaceName::parse)]
        name: Option<WorkspaceName>,
    },
    /// Start workspaces and wait until they answer
    Start(Lifecycle),
    /// Stop workspaces and wait until they are gone; homes stay
    Stop(Lifecycle),
    /// Restart workspaces, which also applies what is pending
    Restart(Lifecycle),
    /// Show what a workspace's service wrote to the journal
    Logs {
        #[arg(value_parser = WorkspaceName::parse)]
        name: WorkspaceName,
        /// Keep printing what is written from now on
        #[arg(short, long)]
        follow: bool,
        /// Show at most this many old lines
        #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
        lines: u32,
    },
    /// Show what happened: starts, stops and their reasons, failures, refusals
    Events {
        /// Show events of this workspace only, also of one that is gone
        #[arg(value_parser = WorkspaceName::parse)]
        name: Option<WorkspaceName>,
        /// Keep printing what happens from now on
        #[arg(short, long)]
        follow: bool,
        /// Show at most this many old events
        #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
        lines: u32,
    },
    /// Run a command in a workspace
    ///
    /// It gets a terminal if standard input and output are one.
    Exec {
        #[arg(value_parser = WorkspaceName::parse)]
        name: WorkspaceName,
        /// Give it a terminal, also in a pipe
        #[arg(short, long, conflicts_with = "no_tty")]
        tty: bool,
        /// Give it no terminal: standard output and error stay apart
        #[arg(short = 'T', long)]
        no_tty: bool,
        /// Start it in this directory [default: /home/coder/project]
        #[arg(short, long, value_name = "DIRECTORY")]
        workdir: Option<String>,
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Open a login shell in a workspace
    Shell {
        #[arg(value_parser = WorkspaceName::parse)]
        name: WorkspaceName,
    },
    /// Show what workspaces use: processors, memory, tasks, and what they have to wait for
    ///
    /// On a terminal it is drawn anew every two seconds until q or Ctrl-C. `n/a` is what this host does not count.
    Top {
        #[arg(value_name = "NAME", value_parser = WorkspaceName::parse)]
        names: Vec<WorkspaceName>,
        /// Show it once, as in a pipe
        #[arg(long)]
        once: bool,
        /// Count what the homes take on the disk, which reads all of their directories
        #[arg(long)]
        disk: bool,
    },
    /// Show what the daemon would do now, without doing it
    Plan,
    /// Read the configuration file again
    Reload,
    /// Set the password of a workspace
    ///
    /// Asks twice on a terminal, else reads one line from standard input. A password on the command line would be
    /// seen by every user of this machine, so there is no way to give it there.
    Password {
        #[arg(value_parser = WorkspaceName::parse)]
        name: WorkspaceName,
        /// Make a random one and print it once
        #[arg(long, conflicts_with = "remove")]
        generate: bool,
        /// Forget it; then nobody can sign in
        #[arg(long)]
        remove: bool,
    },
    /// Check from outside and inside whether a workspace works
    Test {
        #[arg(value_parser = WorkspaceName::parse)]
        name: WorkspaceName,
    },
    /// Check whether this machine has what workspaces need
    Doctor(ConfigPath),
    /// Show the versions of this program and of the daemon
    Version,
    /// Check a configuration file, or describe what it may hold
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Check a configuration file; short for `csm config check`
    CheckConfig { file: PathBuf },
    /// Show what to write and to run for a new workspace, and a password for it
    ///
    /// Prints the section of config.toml, the lines of configuration.nix, the commands that make the account, and what to
    /// do with the password. Writes nothing anywhere. The password goes to standard error, so that it does not get into a
    /// file or a repository with the rest; with --only there is none.
    Scaffold {
        #[arg(value_parser = WorkspaceName::parse)]
        name: WorkspaceName,
        /// Print this part alone, ready to be piped to where it belongs
        #[arg(long, value_name = "PART")]
        only: Option<Part>,
        #[command(flatten)]
        path: ConfigPath,
    },
    /// Print completions for a shell, as in `source <(csm completions bash)`
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages into a directory (packages do)
    #[command(hide = true)]
    Man { directory: PathBuf },
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check a configuration file: every problem at once, each with its key
    Check { file: PathBuf },
    /// Print the JSON Schema of the configuration file
    Schema,
}

#[derive(Debug, Args)]
pub struct Lifecycle {
    #[arg(required = true, value_name = "NAME", value_parser = WorkspaceName::parse)]
    pub names: Vec<WorkspaceName>,
    /// Give up waiting after this many seconds; the daemon goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

#[derive(Debug, Args)]
pub struct ConfigPath {
    /// Read this configuration file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_verb_begins_with_an_imperative_line_without_a_period() {
        for verb in Arguments::command().get_subcommands() {
            let about = verb
                .get_about()
                .unwrap_or_else(|| panic!("{} says nothing", verb.get_name()))
                .to_string();
            assert!(about.starts_with(|c: char| c.is_ascii_uppercase()), "{about}");
            assert!(!about.ends_with('.'), "{about}");
        }
    }

    #[test]
    fn names_are_checked_before_anything_is_done() {
        for name in ["../etc", "Dan", "a--b", "admin", "", "dan/start"] {
            let error = Arguments::try_parse_from(["csm", "start", name]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{name}");
        }
    }

    #[test]
    fn a_command_takes_everything_behind_its_name() {
        let words = |line: &str| {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            let Command::Verb(Verb::Exec { command, tty, .. }) = arguments.command else {
                panic!("{line}")
            };
            (command.join(" "), tty)
        };
        for (line, command, tty) in [
            ("csm exec dan ls", "ls", false),
            ("csm exec dan ls -t --json", "ls -t --json", false),
            ("csm exec dan -- ls -- -t", "ls -- -t", false),
            ("csm exec -t dan -- -x", "-x", true),
            ("csm exec dan -t ls", "ls", true),
        ] {
            assert_eq!(words(line), (command.to_owned(), tty), "{line}");
        }
        for line in [
            "csm exec dan",
            "csm exec dan --",
            "csm exec dan -x ls",
            "csm exec -tT dan ls",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn no_password_can_be_given_in_the_arguments() {
        assert!(Arguments::try_parse_from(["csm", "password", "dan", "secret"]).is_err());
    }
}
