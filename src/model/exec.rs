//! EXEC: a command in a running workspace: what may be asked for, how many at once, and the transient unit that carries it
//! into the container. What the unit's process then does is `serve::waiter`'s.

use crate::model::desired::{Machine, Workspace};
use crate::model::names::WorkspaceName;
use crate::model::podman;
use crate::model::systemd::{UnitSpec, Value, exec};
use crate::model::unit;

/// The hidden subcommand of `csm` that carries a command. Its arguments name nothing: which command it is comes over its
/// standard input, since everybody on the host can read a unit's properties over D-Bus.
pub const CARRIER: &str = "exec-when-told";

/// Commands at once in one workspace, and in all of them. Each has a Podman in the workspace's own memory.
pub const MOST_EACH: usize = 16;
pub const MOST: usize = 64;

/// All arguments together.
pub const BYTES_MAX: usize = 512 * 1024;
/// A single one, with the NUL at its end: more the kernel refuses (execve(2), MAX_ARG_STRLEN).
pub const WORD_MAX: usize = 128 * 1024;
/// A path, likewise (PATH_MAX).
const DIRECTORY_MAX: usize = 4096;

/// A unit whose process has not become `csm` by then has failed.
pub const START_SECONDS: u64 = 15;
/// The command is hung up on, killed after two seconds, and its Podman after two more.
const STOP_SECONDS: u64 = 10;

/// What a workspace's user has as a login shell. Nothing of it is expanded outside.
const LOGIN: &str = r#"[ -x "$SHELL" ] || SHELL=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f7)
[ -x "$SHELL" ] || SHELL=/bin/sh
export SHELL
exec "$SHELL" -l"#;

/// Podman tells the terminal inside its size only once the command runs, which may have asked by then. An image without
/// stty has to wait for Podman.
const SIZE: &str = r#"stty rows "$1" cols "$2" 2>/dev/null; shift 2; exec "$@""#;

/// A terminal that a command is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// What TERM says.
    pub term: String,
    pub rows: u16,
    pub columns: u16,
}

/// A command as it can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    words: Vec<String>,
    terminal: Option<Terminal>,
    directory: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandProblem {
    #[error("an argument has a NUL byte in it")]
    Nul,
    #[error("the arguments have more than {} KiB, or one of them {}", BYTES_MAX / 1024, WORD_MAX / 1024)]
    Long,
    #[error("the program's name is empty")]
    Empty,
    #[error("the working directory is not an absolute path of less than {} KiB", DIRECTORY_MAX / 1024)]
    Directory,
    #[error("that is no name of a terminal type")]
    Term,
}

impl Command {
    /// No words stand for the login shell.
    pub fn new(
        mut words: Vec<String>,
        terminal: Option<Terminal>,
        directory: Option<String>,
    ) -> Result<Self, CommandProblem> {
        if words.is_empty() {
            words = ["sh", "-c", LOGIN].map(str::to_owned).to_vec();
        }
        if words.iter().chain(&directory).any(|word| word.contains('\0')) {
            return Err(CommandProblem::Nul);
        }
        let lengths = || words.iter().map(String::len);
        if lengths().sum::<usize>() > BYTES_MAX || lengths().any(|length| length >= WORD_MAX) {
            return Err(CommandProblem::Long);
        }
        if words.first().is_some_and(String::is_empty) {
            return Err(CommandProblem::Empty);
        }
        let is_path = |path: &String| path.starts_with('/') && path.len() < DIRECTORY_MAX;
        if !directory.as_ref().is_none_or(is_path) {
            return Err(CommandProblem::Directory);
        }
        if terminal.as_ref().is_some_and(|own| !is_term(&own.term)) {
            return Err(CommandProblem::Term);
        }
        Ok(Self {
            words,
            terminal,
            directory,
        })
    }

    /// The program and arguments with which it enters the container.
    pub fn argv(&self, machine: &Machine) -> Vec<String> {
        let mut argv = vec![machine.podman.to_string_lossy().into_owned()];
        let (mut words, mut term) = (Vec::new(), None);
        if let Some(terminal) = &self.terminal {
            words.extend(["sh", "-c", SIZE, "sh"].map(str::to_owned));
            words.extend([terminal.rows, terminal.columns].map(|number| number.to_string()));
            term = Some(terminal.term.as_str());
        }
        words.extend(self.words.iter().cloned());
        argv.extend(podman::exec(&words, term, self.directory.as_deref()));
        argv
    }
}

/// A name as terminfo has them (terminfo(5)).
pub fn is_term(term: &str) -> bool {
    (1..=64).contains(&term.len()) && term.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
}

fn prefix(name: &WorkspaceName) -> String {
    // Two hyphens: no workspace's own unit is ever called that.
    format!("csm-{name}--exec-")
}

/// Matches the units of all commands (glob(7)).
pub const UNITS: &str = "csm-*--exec-*.service";

/// Whether one more command may be run in a workspace while these units are there.
pub fn has_room<'a>(name: &WorkspaceName, units: impl Iterator<Item = &'a str>) -> bool {
    let (mut all, mut own) = (0, 0);
    for unit in units {
        all += 1;
        own += usize::from(unit.starts_with(&prefix(name)));
    }
    own < MOST_EACH && all < MOST
}

/// The unit of a command. `program` is the path of csm itself.
pub fn unit(workspace: &Workspace, machine: &Machine, program: &str, number: u64) -> UnitSpec {
    let places = machine.layout.of(&workspace.name);
    UnitSpec {
        name: format!("{}{number}.service", prefix(&workspace.name)),
        properties: [
            (
                "Description",
                Value::Text(format!("code-server-multi command in {}", workspace.name)),
            ),
            // Started means that csm runs. Moved to the workspace any sooner, systemd would put the process back.
            ("Type", Value::Text("exec".to_owned())),
            ("Slice", Value::Text(unit::SLICE.to_owned())),
            ("User", Value::Text(workspace.account.to_string())),
            ("WorkingDirectory", Value::Text("/".to_owned())),
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
            ("KillMode", Value::Text("mixed".to_owned())),
            ("TimeoutStartUSec", Value::U64(START_SECONDS * 1_000_000)),
            ("TimeoutStopUSec", Value::U64(STOP_SECONDS * 1_000_000)),
            ("Environment", Value::Texts(unit::podman_environment(&places, machine))),
            ("ExecStart", Value::Execs(vec![exec(program, vec![CARRIER.to_owned()])])),
        ]
        .into_iter()
        // The command isn't the service's child, and would go without.
        .chain(unit::inherited())
        .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::unit::tests::{desired, machine, shown};

    fn terminal(term: &str) -> Terminal {
        Terminal {
            term: term.to_owned(),
            rows: 50,
            columns: 132,
        }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        use CommandProblem::{Directory, Empty, Long, Nul, Term};
        let own = |text: &str| Some(text.to_owned());
        let on = |term: &str| Some(terminal(term));
        for (command, term, directory, problem) in [
            (words(&["ls", "a\0b"]), None, None, Nul),
            (words(&["ls"]), None, own("/a\0b"), Nul),
            (vec!["x".repeat(BYTES_MAX / 8); 9], None, None, Long),
            (vec!["ls".to_owned(), "x".repeat(WORD_MAX)], None, None, Long),
            (words(&["", "x"]), None, None, Empty),
            (words(&["ls"]), None, own("project"), Directory),
            (words(&["ls"]), None, own(""), Directory),
            (words(&["ls"]), None, Some(format!("/{}", "x".repeat(4095))), Directory),
            (words(&["ls"]), on(""), None, Term),
            (words(&["ls"]), on("xterm;reboot"), None, Term),
            (words(&["ls"]), on(&"x".repeat(65)), None, Term),
        ] {
            assert_eq!(Command::new(command, term, directory), Err(problem));
        }
        for (command, directory) in [
            (vec!["x".repeat(WORD_MAX - 1); 4], None),
            (words(&["ls"]), Some(format!("/{}", "x".repeat(4094)))),
        ] {
            assert!(Command::new(command, None, directory).is_ok());
        }
    }

    #[test]
    fn a_command_enters_the_container_by_way_of_the_entrypoint() {
        let piped = Command::new(words(&["printf", "%s $HOME"]), None, None).unwrap();
        insta::assert_snapshot!(piped.argv(&machine()).join("\n"), @r"
        /usr/bin/podman
        --cgroup-manager=cgroupfs
        --log-level=error
        exec
        --interactive
        --detach-keys=
        workspace
        /bin/sh
        /run/csm/entrypoint
        printf
        %s $HOME
        ");
        let shell = Command::new(Vec::new(), Some(terminal("xterm-256color")), Some("/srv".to_owned())).unwrap();
        insta::assert_snapshot!(shell.argv(&machine()).join("\n"), @r#"
        /usr/bin/podman
        --cgroup-manager=cgroupfs
        --log-level=error
        exec
        --interactive
        --detach-keys=
        --tty
        --env=TERM=xterm-256color
        --workdir=/srv
        workspace
        /bin/sh
        /run/csm/entrypoint
        sh
        -c
        stty rows "$1" cols "$2" 2>/dev/null; shift 2; exec "$@"
        sh
        50
        132
        sh
        -c
        [ -x "$SHELL" ] || SHELL=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f7)
        [ -x "$SHELL" ] || SHELL=/bin/sh
        export SHELL
        exec "$SHELL" -l
        "#);
    }

    #[test]
    fn the_unit_says_nothing_of_the_command() {
        let desired = desired("[workspaces.dan]\n");
        let workspace = desired.workspaces.values().next().unwrap();
        let unit = unit(workspace, &machine(), "/usr/local/bin/csm", 7);
        insta::assert_snapshot!(shown(&unit), @r#"
        csm-dan--exec-7.service
        Description Text("code-server-multi command in dan")
        Type Text("exec")
        Slice Text("csm.slice")
        User Text("csm-dan")
        WorkingDirectory Text("/")
        CollectMode Text("inactive-or-failed")
        KillMode Text("mixed")
        TimeoutStartUSec U64(15000000)
        TimeoutStopUSec U64(10000000)
        Environment Texts(["HOME=/var/lib/code-server-multi/accounts/dan", "PATH=/usr/bin:/usr/sbin", "XDG_RUNTIME_DIR=/run/csm-dan", "CONTAINERS_CONF=/var/lib/code-server-multi/podman/dan/containers.conf", "CONTAINERS_STORAGE_CONF=/var/lib/code-server-multi/podman/dan/storage.conf", "CONTAINERS_REGISTRIES_CONF=/var/lib/code-server-multi/podman/dan/registries.conf", "CONTAINERS_HELPER_BINARY_DIR=/var/lib/code-server-multi/podman/dan/bin"])
        ExecStart /usr/local/bin/csm
            /usr/local/bin/csm
            exec-when-told
        LimitCORE U64(1)
        LimitCORESoft U64(1)
        LimitNOFILE U64(16384)
        LimitNOFILESoft U64(1024)
        RestrictAddressFamilies Allowed(["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"])
        SystemCallArchitectures Texts(["native"])
        SystemCallFilter Refused(["io_setup:ENOSYS"])
        SyslogLevelPrefix Bool(false)
        "#);
    }

    #[test]
    fn commands_have_bounds_in_each_workspace_and_in_all() {
        let name = |text| WorkspaceName::parse(text).unwrap();
        let units = |name: &str, count: usize| vec![format!("csm-{name}--exec-1.service"); count];
        for (units, room) in [
            (units("dan", 0), true),
            (units("dan", MOST_EACH - 1), true),
            (units("dan", MOST_EACH), false),
            // Names that begin alike.
            (units("dan-x", MOST_EACH), true),
            (units("da", MOST_EACH), true),
            (units("alice", MOST - 1), true),
            (units("alice", MOST), false),
        ] {
            assert_eq!(
                has_room(&name("dan"), units.iter().map(String::as_str)),
                room,
                "{units:?}"
            );
        }
    }
}
