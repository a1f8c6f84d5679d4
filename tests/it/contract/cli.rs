//! What packages install beside the program, and what `csm config schema` and `csm scaffold` print.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use clap::Command as Tree;
use code_server_multi::cli::args::groups;
use code_server_multi::cli::scaffold::FIRST_FREE;
use code_server_multi::model::config::{self, schema};
use serde_json::Value;

use crate::cli::fake::{self, Admin, csm, run, workspace};

fn verbs(tree: &Tree) -> impl Iterator<Item = &Tree> {
    tree.get_subcommands()
        .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

/// The names of the pages that there have to be: `csm`, `csm-config`, `csm-config-schema`.
fn pages(tree: &Tree, name: &str, found: &mut BTreeSet<String>) {
    found.insert(format!("{name}.1"));
    for verb in verbs(tree) {
        pages(verb, &format!("{name}-{}", verb.get_name()), found);
    }
}

#[test]
fn every_verb_has_a_manual_page_with_its_options_and_the_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("man/1");
    let done = run(fake::program().arg("man").arg(&place));
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""));
    let mut wanted = BTreeSet::new();
    let tree = groups::command();
    pages(&tree, "csm", &mut wanted);
    let there: BTreeSet<String> = std::fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, wanted);
    for page in &there {
        let text = std::fs::read_to_string(place.join(page)).unwrap();
        assert!(
            text.contains(".SH \"EXIT STATUS\"") || text.contains(".SH EXIT STATUS"),
            "{page}\n{text}"
        );
        let verb = page.trim_start_matches("csm-").trim_end_matches(".1");
        for (code, meaning) in groups::exit_codes(verb) {
            let meaning = meaning.replace('\'', "\\*(Aq");
            let row = format!(".TP\n\\fB{code}\\fR\n{meaning}\n");
            assert!(text.contains(&row), "{page}: {row}\n{text}");
        }
    }
    for verb in verbs(&tree) {
        let text = std::fs::read_to_string(place.join(format!("csm-{}.1", verb.get_name()))).unwrap();
        for option in verb.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(
                text.contains(&option.replace('-', "\\-")),
                "csm-{}.1 lacks --{option}\n{text}",
                verb.get_name()
            );
        }
    }
}

/// Whatever is not the command's is 125, also a daemon that can't be reached.
#[test]
fn exec_and_shell_have_the_exit_codes_of_commands() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(run(fake::program().arg("man").arg(directory.path())).code, 0);
    for (verb, of_commands) in [("shell", true), ("exec", true), ("status", false)] {
        let page = std::fs::read_to_string(directory.path().join(format!("csm-{verb}.1"))).unwrap();
        let help = run(fake::program().args(["help", verb])).stdout;
        for text in [&page, &help] {
            assert_eq!(text.contains("125"), of_commands, "{text}");
        }
        assert_eq!(page.contains("be reached"), !of_commands, "{page}");
    }
}

#[test]
fn every_verb_is_in_the_documents() {
    let document = super::read("docs/operations.md");
    let tree = groups::command();
    let unsaid: Vec<&str> = verbs(&tree)
        .map(Tree::get_name)
        .filter(|verb| !document.contains(&format!("`csm {verb}")))
        .collect();
    assert_eq!(
        unsaid,
        Vec::<&str>::new(),
        "docs/operations.md does not name these verbs"
    );
}

#[test]
fn completions_know_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let done = run(fake::program().args(["completions", shell]));
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
        for verb in verbs(&groups::command()) {
            assert!(done.stdout.contains(verb.get_name()), "{shell}: {}", verb.get_name());
        }
    }
}

/// bash itself completes what is typed.
#[test]
fn bash_completes_verbs_and_options() {
    let script = run(fake::program().args(["completions", "bash"])).stdout;
    let complete = |words: &str, last: &str| {
        let ask = format!(
            "{script}\nCOMP_WORDS=({words} '{last}'); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _csm csm '{last}' '' 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        );
        let mut bash = Command::new("bash")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        bash.stdin.take().unwrap().write_all(ask.as_bytes()).unwrap();
        let output = bash.wait_with_output().unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(complete("csm", "resta"), ["restart"]);
    assert_eq!(complete("csm config", "sch"), ["schema"]);
    assert_eq!(complete("csm logs", "--fol"), ["--follow"]);
}

#[test]
fn help_lists_the_verbs_by_what_they_are_for() {
    let done = run(fake::program().arg("help"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    let groups = [
        "\nWorkspaces:\n",
        "\nPeople:\n",
        "\nConfiguration:\n",
        "\nThis machine:\n",
        "\nServices",
    ];
    let places: Vec<usize> = groups
        .iter()
        .map(|group| done.stdout.find(group).expect(group))
        .collect();
    assert!(places.is_sorted(), "{}", done.stdout);
    assert!(
        done.stdout
            .contains("\n  start         Start workspaces and wait until they answer\n"),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("exec-when-told"), "{}", done.stdout);
}

#[test]
fn the_schema_is_printed_and_both_ways_to_check_a_file_are_one() {
    let done = run(fake::program().args(["config", "schema"]));
    assert_eq!((done.code, done.stdout.as_str()), (0, schema::COMMITTED));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "domain = 7\n").unwrap();
    let short = run(fake::program().arg("check-config").arg(file.path()));
    let long = run(fake::program().args(["config", "check"]).arg(file.path()));
    assert_eq!((short.code, &short.stderr), (2, &long.stderr));
    assert_eq!(long.code, 2);
}

/// A configuration file with one workspace, dan.
fn configuration() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "domain = 'code.example.org'\n[nginx]\npublic_port = 8443\ncertificate = '/etc/ssl/c.pem'\n\
                certificate_key = '/etc/ssl/k.pem'\n[workspaces.dan]\n";
    std::fs::write(&file, text).unwrap();
    file
}

fn machine(names: &[&str]) -> Value {
    serde_json::json!({
        "api": 1, "version": "0.1.0", "degraded": [],
        "configuration": { "path": "/etc/code-server-multi/config.toml", "loaded_at": "2020-01-01T00:00:00Z", "problems": [] },
        "image": { "name": "localhost/workspace:1", "id": null, "state": "present" }, "nginx": { "generation": null },
        "workspaces": names.iter().map(|name| workspace(name, "ready", false)).collect::<Vec<_>>(),
    })
}

#[test]
fn a_scaffold_fits_the_configuration_and_keeps_the_password_off_standard_output() {
    let file = configuration();
    let admin = Admin::json("/v1/workspaces", machine(&["dan"]));
    // The text names the file, which is another each time.
    let named = |text: &str| text.replace(&file.path().display().to_string(), config::DEFAULT_PATH);
    let scaffold = |more: &[&str]| {
        run(csm(&admin)
            .args(["scaffold", "erin", "--config"])
            .arg(file.path())
            .args(more))
    };
    let done = scaffold(&[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stdout
            .starts_with("erin will be at https://erin.code.example.org:8443/\n"),
        "{}",
        done.stdout
    );
    super::assert_fresh("tests/data/cli/scaffold.txt", &named(&done.stdout));
    let password = done.stderr.split([' ', '\n']).find(|word| word.split('-').count() == 4);
    let password = password.unwrap_or_else(|| panic!("{}", done.stderr));
    assert!(!done.stdout.contains(password), "{}", done.stdout);

    let toml = scaffold(&["--only", "toml"]);
    assert_eq!((toml.code, toml.stderr.as_str()), (0, ""));
    let whole = std::fs::read_to_string(file.path()).unwrap() + &toml.stdout;
    let config = config::parse(&whole).unwrap();
    assert_eq!(config.workspaces.len(), 2);

    let json: Value = serde_json::from_str(&scaffold(&["--json"]).stdout).unwrap();
    assert_eq!(json["toml"], toml.stdout);
    assert_eq!(json["url"], "https://erin.code.example.org:8443/");
    assert_eq!(json["nix"], scaffold(&["--only", "nix"]).stdout);
    assert_eq!(json["account"], scaffold(&["--only", "account"]).stdout);
}

#[test]
fn a_workspace_that_is_there_gets_no_scaffold() {
    let file = configuration();
    let running = Admin::json("/v1/workspaces", machine(&["erin"]));
    for (name, place) in [
        ("dan", file.path().display().to_string()),
        ("erin", "the running configuration".to_owned()),
    ] {
        let done = run(csm(&running)
            .args(["scaffold", name, "--only", "toml", "--config"])
            .arg(file.path()));
        assert_eq!((done.code, done.stdout.as_str()), (2, ""));
        assert!(
            done.stderr
                .starts_with(&format!("csm: the workspace {name} is in {place} already\n")),
            "{}",
            done.stderr
        );
    }
    let done = run(fake::program().args(["scaffold", "Erin"]));
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
}

#[test]
fn without_a_configuration_or_a_daemon_the_address_is_left_open() {
    let directory = tempfile::tempdir().unwrap();
    let done = run(fake::program()
        .arg("--socket")
        .arg(directory.path().join("none.sock"))
        .args(["scaffold", "erin", "--config"])
        .arg(directory.path().join("none.toml")));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stdout.starts_with("erin will be at https://NAME.DOMAIN/"),
        "{}",
        done.stdout
    );
    assert!(done.stderr.contains("can't read"), "{}", done.stderr);
}

/// The account's lines are shell, do nothing twice, and choose the range as docs/operations.md does.
#[test]
fn the_accounts_lines_can_be_run_again_and_are_the_documents() {
    let document = super::read("docs/operations.md");
    assert!(
        document.contains(FIRST_FREE),
        "docs/operations.md chooses ranges in another way"
    );
    let lines = run(fake::program().args([
        "scaffold", "erin", "--only", "account", "--config", "/nowhere", "--socket", "/nowhere",
    ]))
    .stdout;
    assert!(lines.contains(FIRST_FREE) && lines.contains("csm-erin"), "{lines}");
    let directory = tempfile::tempdir().unwrap();
    let etc = directory.path().display().to_string();
    let lines = lines.replace("/etc/sub", &format!("{etc}/sub"));
    let useradd = "useradd --system --user-group --no-create-home";
    assert!(lines.contains(useradd) && document.contains(useradd), "{lines}");
    std::fs::write(directory.path().join("subuid"), "someone:2000000:65536\n").unwrap();
    let script = format!(
        "set -eu\nuseradd() {{ echo \"$@\" >>{etc}/made; }}\ngetent() {{ test -e {etc}/made; }}\n{lines}{lines}"
    );
    let done = Command::new("bash").arg("-c").arg(script).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(read("subuid"), "someone:2000000:65536\ncsm-erin:2065536:65536\n");
    assert_eq!(read("subgid"), "csm-erin:2065536:65536\n");
    assert_eq!(read("made").lines().count(), 1);
}
