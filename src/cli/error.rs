//! Everything that can end a verb, with the next step for the reader. `main` turns it into an exit code.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::{ConfigProblem, ProblemDetails};
use crate::model::names::WorkspaceName;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("can't reach the daemon at {}", socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("lost the daemon during {doing}")]
    Lost {
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the daemon did not answer {doing} within {seconds} s")]
    Silent { doing: String, seconds: u64 },
    #[error("{}: {}", .0.title, .0.detail)]
    Refused(Box<ProblemDetails>),
    #[error("can't read the daemon's answer to {doing}")]
    Strange {
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{} has {}", path.display(), crate::cli::text::count(problems.len(), "problem"))]
    Configuration {
        path: PathBuf,
        problems: Vec<ConfigProblem>,
    },
    #[error("can't read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{message}")]
    Input { message: String, hint: &'static str },
    #[error("can't {doing}")]
    Machine {
        doing: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A service that could not start, with its own way out.
    #[error("the service ended")]
    Service {
        hint: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("can't write the result")]
    Output(#[source] io::Error),
    /// A command in a workspace that has no exit code, for one of the other reasons.
    #[error(transparent)]
    NotRun(Box<CliError>),
    #[error("the command in {0} was cut off: how it ended is not known")]
    CutOff(WorkspaceName),
    /// Somebody ended the program by this signal while it asked something.
    #[error("nothing was changed")]
    Ended(u8),
}

/// What an error means to whoever called the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Failed,
    /// Of usage or of the configuration.
    Configuration,
    Unreachable,
    /// A command in a workspace has no exit code of its own.
    NotRun,
    /// By a signal.
    Ended(u8),
    /// Whoever read the output has left.
    Quiet,
}

impl CliError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Silent { .. } => Kind::Unreachable,
            Self::Configuration { .. } | Self::File { .. } | Self::Input { .. } => Kind::Configuration,
            Self::NotRun(_) | Self::CutOff(_) => Kind::NotRun,
            Self::Ended(number) => Kind::Ended(*number),
            Self::Refused(problem) if !problem.problems.is_empty() => Kind::Configuration,
            Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => Kind::Quiet,
            Self::Refused(_) | Self::Strange { .. } | Self::Machine { .. } | Self::Service { .. } | Self::Output(_) => {
                Kind::Failed
            }
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } => Some(match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "only root and the members of the group csm-admin may use it: run this as root, or join the group \
                     (usermod --append --groups csm-admin USER) and sign in again"
                        .to_owned()
                }
                _ => "see whether it runs: systemctl status code-server-multi".to_owned(),
            }),
            Self::Lost { .. } => Some(
                "it stopped or was restarted; workspaces go on without it: systemctl status code-server-multi"
                    .to_owned(),
            ),
            Self::Silent { .. } => Some("see what it is doing: journalctl --unit code-server-multi".to_owned()),
            Self::Refused(problem) => Some(problem.remediation.clone()).filter(|hint| !hint.is_empty()),
            Self::Strange { .. } => Some("compare the two versions: csm version".to_owned()),
            Self::Input { hint, .. } | Self::Service { hint, .. } => Some((*hint).to_owned()),
            Self::NotRun(error) => error.hint(),
            Self::CutOff(name) => Some(format!("see whether the workspace was stopped: csm status {name}")),
            Self::Configuration { .. }
            | Self::File { .. }
            | Self::Machine { .. }
            | Self::Output(_)
            | Self::Ended(_) => None,
        }
    }

    /// The problems of a configuration, when that is what it is about.
    pub fn problems(&self) -> &[ConfigProblem] {
        match self {
            Self::Refused(problem) => &problem.problems,
            Self::Configuration { problems, .. } => problems,
            _ => &[],
        }
    }

    /// The error and what caused it, on one line.
    fn chain(&self) -> String {
        let mut text = format!("csm: {self}");
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        crate::cli::text::printable(&text).into_owned()
    }

    /// For the time in which this may pass.
    pub fn waited_for(&self, most: Duration) -> String {
        let seconds = most.as_secs();
        format!("{}; it is waited for, {seconds} s at most\n", self.chain())
    }

    /// The error, then each problem, then the way out.
    pub fn report(&self) -> String {
        let mut text = self.chain();
        text.push('\n');
        for problem in self.problems() {
            text.push_str(&crate::cli::text::problem(problem, ""));
        }
        if let Some(hint) = self.hint() {
            text.push_str(&format!("Hint: {}\n", crate::cli::text::printable(&hint)));
        }
        text
    }
}
