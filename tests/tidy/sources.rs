//! Checks of the sources.

use crate::{File, guards};

/// Which rooms of the crate each room may name, itself included; the composition root (main) names what it starts.
const MAY_KNOW: [(&str, &[&str]); 6] = [
    ("model", &["model"]),
    ("host", &["host", "model"]),
    ("api", &["api"]),
    ("serve", &["serve", "host", "model", "api"]),
    ("cli", &["cli", "api", "model"]),
    ("main", &["cli", "serve"]),
];

/// What a pure function can't use: I/O, the clock, randomness, and the crates made for them.
const IMPURE: [&str; 32] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::io",
    "std::os::unix::fs",
    "std::os::unix::net",
    "std::os::fd",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "getrandom",
    "tokio::",
    "zbus::",
    "zbus_systemd::",
    "hyper::",
    "hyper_util::",
    "axum::",
    "rustix::",
    "nix::",
    "notify::",
    "tracing::",
    ".canonicalize()",
    ".exists()",
    ".read_dir()",
];

const PODMAN_OPTIONS: [&str; 12] = [
    "--userns",
    "--uidmap",
    "--cap-add",
    "--cap-drop",
    "--security-opt",
    "--privileged",
    "--cgroups",
    "--sdnotify",
    "--pids-limit",
    "--network",
    "--mount=type",
    "--log-driver",
];

/// Signs of unfinished work, tests that can't fail, and sales talk.
const LEFTOVERS: [&str; 23] = [
    concat!("(being ", "written)"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("#[ig", "nore"),
    concat!("should_", "panic"),
    concat!("pytest.", "skip"),
    concat!("mark.", "skip"),
    concat!("mark.", "skipif"),
    concat!("import", "orskip"),
    concat!("test.", "skip"),
    concat!("blaz", "ing"),
    concat!("seam", "less"),
    concat!("effort", "less"),
    concat!("cutting", "-edge"),
    concat!("world", "-class"),
    concat!("super", "charge"),
    // Places and tools of whoever works here mean nothing to anybody else.
    concat!("/wo", "rk/"),
    concat!("/tmp/", "csm"),
    concat!("../sha", "red"),
    concat!("far", "m-"),
];

const LINES_MAX: usize = 500;

pub fn directions(file: &File) -> Vec<String> {
    let Some(room) = room(&file.path) else {
        return Vec::new();
    };
    let Some((_, may_know)) = MAY_KNOW.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: {room} is in no table of tests/tidy/sources.rs", file.path)];
    };
    let mut complaints = Vec::new();
    for (number, line) in code(&file.text) {
        // A group or a climb would hide which room is meant.
        for hidden in ["crate::{", "super::super"] {
            if line.contains(hidden) {
                complaints.push(format!(
                    "{}:{number}: {hidden} hides a room, name it in full",
                    file.path
                ));
            }
        }
        for start in ["crate::", "code_server_multi::"] {
            for (at, _) in line.match_indices(start).filter(|(at, _)| is_boundary(line, *at)) {
                let named: String = line[at + start.len()..].chars().take_while(|c| is_word(*c)).collect();
                let known = MAY_KNOW.iter().any(|(room, _)| *room == named);
                if known && !may_know.contains(&named.as_str()) {
                    complaints.push(format!("{}:{number}: {room} may not know {named}", file.path));
                }
            }
        }
    }
    complaints
}

pub fn purity(file: &File) -> Vec<String> {
    let pure = room(&file.path) == Some("model") && !is_test(&file.path);
    let lines = without_tests(&file.text);
    let found = |(number, line): (usize, &str)| {
        let impure = IMPURE.iter().find(|impure| has_word(line, impure))?;
        Some(format!("{}:{number}: {impure} is not for the model", file.path))
    };
    if pure {
        code(lines).filter_map(found).collect()
    } else {
        Vec::new()
    }
}

pub fn size(file: &File) -> Vec<String> {
    // Markers of guards are nothing to be read.
    let lines = file
        .text
        .lines()
        .filter(|line| guards::marked(line).next().is_none())
        .count();
    let large = file.is("rs") && lines > LINES_MAX;
    if large {
        vec![format!("{}: {lines} lines, more than {LINES_MAX}", file.path)]
    } else {
        Vec::new()
    }
}

pub fn header(file: &File) -> Vec<String> {
    let silent = file.is("rs") && !file.text.starts_with("//! ");
    if silent {
        vec![format!("{}: no //! in the first line says what it is for", file.path)]
    } else {
        Vec::new()
    }
}

pub fn podman_options(file: &File) -> Vec<String> {
    let other = room(&file.path).is_some() && file.path != "src/model/podman.rs" && !is_test(&file.path);
    let found = |(number, line): (usize, &str)| {
        let option = PODMAN_OPTIONS.iter().find(|option| line.contains(*option))?;
        Some(format!(
            "{}:{number}: {option} belongs into src/model/podman.rs",
            file.path
        ))
    };
    if other {
        code(without_tests(&file.text)).filter_map(found).collect()
    } else {
        Vec::new()
    }
}

pub fn leftovers(file: &File) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    lines
        .flat_map(|(index, line)| {
            LEFTOVERS
                .iter()
                .filter(|word| has_word(line, word))
                .map(move |word| (index, word))
        })
        .map(|(index, word)| format!("{}:{}: {word}", file.path, index + 1))
        .collect()
}

/// A test that returns early has passed, for all that anybody sees: it has to refuse what it can't work with.
pub fn early_returns(file: &File) -> Vec<String> {
    const TESTS: [&str; 2] = ["#[test]", "#[tokio::test"];
    let mut complaints = Vec::new();
    // How the test that a line is in ends; nothing outside of tests.
    let mut end: Option<String> = None;
    for (number, line) in code(&file.text).filter(|_| file.is("rs")) {
        let inner = line.trim_start();
        if TESTS.iter().any(|test| inner.starts_with(test)) {
            end = Some(format!("{}}}", &line[..line.len() - inner.len()]));
        } else if end.as_deref() == Some(line) {
            end = None;
        } else if end.is_some() && ["return;", "return Ok(());"].iter().any(|early| inner.contains(early)) {
            complaints.push(format!("{}:{number}: a test returns before it has looked", file.path));
        }
    }
    complaints
}

/// The room that a source file is in.
fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let room = inside.split('/').next()?;
    (room != "lib").then_some(room)
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// The text before an inline module of tests, which is the last thing in a file. Tests in a file of their own are only
/// named, anywhere.
pub fn without_tests(text: &str) -> &str {
    const MARK: &str = "#[cfg(test)]\n";
    let inline = |at: &usize| {
        let next = text[at + MARK.len()..].lines().next().unwrap_or_default();
        next.ends_with("mod tests {")
    };
    let found = text.match_indices(MARK).map(|(at, _)| at).find(inline);
    found.map_or(text, |at| &text[..at])
}

/// Lines with their numbers, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number, line.split(" // ").next().unwrap_or(line)))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a word begins here, and not in the middle of another.
fn is_boundary(line: &str, at: usize) -> bool {
    !line[..at].ends_with(is_word)
}

/// Whether a line has this very word; where it ends in a letter, none may follow.
fn has_word(line: &str, word: &str) -> bool {
    let starts_inside = word.starts_with(is_word) || word.starts_with('/');
    line.match_indices(word).any(|(at, _)| {
        let before = !starts_inside || is_boundary(line, at);
        let after = !word.ends_with(is_word) || !line[at + word.len()..].starts_with(is_word);
        before && after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn catches(check: fn(&File) -> Vec<String>, path: &str, bad: &str) {
        assert_eq!(check(&File::sample(path, bad)).len(), 1, "{path}: {bad}");
    }

    #[track_caller]
    fn passes(check: fn(&File) -> Vec<String>, path: &str, good: &str) {
        assert_eq!(check(&File::sample(path, good)), Vec::<String>::new(), "{path}: {good}");
    }

    #[test]
    fn a_wrong_direction_is_caught() {
        catches(directions, "src/model/plan.rs", "use crate::host::systemd;");
        catches(directions, "src/model/plan.rs", "use crate::api::Status;");
        catches(directions, "src/model.rs", "fn f() { crate::serve::daemon::run() }");
        catches(directions, "src/host/live.rs", "use crate::api;");
        catches(directions, "src/api.rs", "use crate::model::names::WorkspaceName;");
        catches(directions, "src/serve/admin.rs", "use crate::cli::text;");
        catches(directions, "src/cli/status.rs", "use crate::host::files;");
        catches(directions, "src/main.rs", "use code_server_multi::host;");
        catches(directions, "src/model/plan.rs", "use crate::{host};");
        catches(directions, "src/model/plan/x.rs", "use super::super::super::host;");
        catches(directions, "src/surprise.rs", "");
        passes(
            directions,
            "src/serve/admin.rs",
            "use crate::{}host; // crate::cli".replace("{}", "host::").as_str(),
        );
        passes(
            directions,
            "src/serve/admin.rs",
            "// use crate::cli::text;\nuse crate::model::plan; use crate::host::live;",
        );
        passes(directions, "tests/it/main.rs", "use crate::cli;");
    }

    #[test]
    fn impurity_is_caught() {
        for impure in [
            "let text = std::fs::read(path);",
            "std::env::var(\"HOME\")",
            "use std::net::TcpStream;",
            "let now = Instant::now();",
            "jiff::Timestamp::now()",
            "use tokio::sync::watch;",
            "nix::unistd::getuid()",
            "if path.exists() {}",
        ] {
            catches(purity, "src/model/plan.rs", impure);
            passes(purity, "src/host/live.rs", impure);
        }
        passes(
            purity,
            "src/model/plan.rs",
            "use std::net::IpAddr; use std::os::unix::ffi::OsStrExt; env!(\"X\"); // tokio\n",
        );
        passes(
            purity,
            "src/model/plan.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
        );
        catches(purity, "src/model/plan.rs", "#[cfg(test)]\nmod tests;\nuse std::fs;\n");
    }

    #[test]
    fn a_file_without_end_or_purpose_is_caught() {
        catches(size, "src/model/plan.rs", &"\n".repeat(501));
        passes(size, "src/model/plan.rs", &"\n    // guard: F1-a\n".repeat(500));
        catches(header, "src/model/plan.rs", "use std::fmt;\n//! late\n");
        passes(header, "tests/run", "#!/usr/bin/env bash\n");
    }

    #[test]
    fn podmans_options_elsewhere_are_caught() {
        catches(podman_options, "src/host/live.rs", "argv.push(\"--userns=host\");");
        passes(podman_options, "src/model/podman.rs", "argv.push(\"--userns=host\");");
        passes(podman_options, "src/host/live.rs", "// why not --userns\n");
    }

    #[test]
    fn a_test_that_passes_empty_is_caught() {
        let test = |attribute: &str, line: &str| {
            format!(
                "mod tests {{\n    #[{attribute}]\n    fn f() {{\n        if x {{\n{line}\n        }}\n    }}\n}}\n"
            )
        };
        let early = concat!("            ret", "urn;");
        catches(early_returns, "tests/it/a.rs", &test("test", early));
        catches(
            early_returns,
            "src/a.rs",
            &test("test", concat!("            ret", "urn Ok(());")),
        );
        let inside = format!("            x().await else {{ {early} }}");
        catches(
            early_returns,
            "src/a.rs",
            &test("tokio::test(start_paused = true)", &inside),
        );
        passes(early_returns, "tests/it/a.rs", &test("allow(x)", early));
        let after = test("test", &format!("            // {early}")) + &format!("fn g() {{\n{early}\n}}\n");
        passes(early_returns, "tests/it/a.rs", &after);
        catches(leftovers, "tests/lab/a.py", concat!("    pytest.", "skip('no KVM')"));
        catches(leftovers, "tests/lab/a.py", concat!("@pytest.mark.", "skipif(x)"));
    }

    #[test]
    fn leftovers_are_caught() {
        catches(leftovers, "src/a.rs", concat!("//! (being ", "written)"));
        catches(leftovers, "docs/a.md", concat!("a seam", "less experience"));
        catches(leftovers, "tests/run", concat!("cd /wo", "rk/main"));
        catches(leftovers, "tests/run", concat!("source ../sha", "red/lab"));
        catches(leftovers, "tests/it/a.rs", concat!("#[ig", "nore]"));
        passes(
            leftovers,
            "docs/a.md",
            "the network/works of a farm, /srv/homework/x, a mastodon",
        );
    }
}
