//! The verbs by what they are for, as `csm help` lists them.

use clap::{Command, CommandFactory as _};

use crate::cli::args::Arguments;

/// Every verb that is not hidden stands in one group.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Workspaces",
        &[
            "status", "top", "start", "stop", "restart", "logs", "events", "shell", "exec", "test",
        ],
    ),
    ("People", &["scaffold", "password"]),
    ("Configuration", &["config", "check-config", "plan", "reload"]),
    ("This machine", &["doctor", "version", "completions"]),
    ("Services, which systemd starts", &["daemon", "gateway"]),
];

/// Exit codes and what they mean; `main` gives them.
const EXIT: [(&str, &str); 4] = [
    ("0", "all went well"),
    ("1", "something failed"),
    ("2", "the usage or the configuration is wrong"),
    ("3", "the daemon can't be reached"),
];

/// Those of a command in a workspace.
const EXIT_OF_COMMANDS: [(&str, &str); 6] = [
    ("2", "the usage is wrong"),
    ("125", "csm or Podman could not run the command, or lost it"),
    ("126", "the command was found and could not be run"),
    ("127", "the command was not found"),
    ("128 + N", "signal N ended the command, or csm"),
    ("others", "the command's own"),
];
const RUN_COMMANDS: [&str; 2] = ["exec", "shell"];

/// The exit codes of a verb, or of all the others.
pub fn exit_codes(verb: &str) -> &'static [(&'static str, &'static str)] {
    if RUN_COMMANDS.contains(&verb) {
        &EXIT_OF_COMMANDS
    } else {
        &EXIT
    }
}

/// The tree of arguments, with the verbs of its help in groups.
pub fn command() -> Command {
    let mut command = Arguments::command();
    for verb in RUN_COMMANDS {
        let rows = exit_codes(verb)
            .iter()
            .map(|(code, meaning)| format!("  {code:<9}{meaning}\n"));
        let codes = format!("Exit codes:\n{}", rows.collect::<String>());
        command = command.mut_subcommand(verb, |verb| verb.after_help(codes));
    }
    let verbs = listed(&command);
    let exit = EXIT.map(|(code, meaning)| format!("{code} {meaning}")).join(", ");
    command
        .help_template(format!(
            "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{verbs}Options:\n{{options}}{{after-help}}"
        ))
        .after_help(format!("`csm help VERB` says more of one.\nExit codes: {exit}."))
}

fn listed(command: &Command) -> String {
    let all = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter());
    let width = all.map(|verb| verb.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (group, verbs) in GROUPS {
        text.push_str(&format!("{group}:\n"));
        for verb in *verbs {
            let about = command.find_subcommand(verb).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("  {verb:<width$}  {about}\n"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_in_one_group() {
        let command = Arguments::command();
        let mut there: Vec<&str> = command
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
            .map(Command::get_name)
            .collect();
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        there.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, there);
    }
}
