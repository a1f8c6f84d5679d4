//! Checks of what the documents say.

use code_server_multi::model::config;

use crate::File;

const TOPS: [&str; 5] = ["src/", "nix/", "tests/", "docs/", "images/"];

/// Paths in backquotes and targets of links must be there.
pub fn paths(file: &File, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    if !file.is("md") || file.path.starts_with("tests/") {
        return Vec::new();
    }
    let prose = prose(&file.text);
    let quoted = prose
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| TOPS.iter().any(|top| code.starts_with(top)));
    // A command line begins with the path; a pattern stands for what is in its directory.
    let quoted = quoted
        .filter_map(|code| code.split_whitespace().next())
        // `FILE::TEST` is looked at below.
        .map(|path| path.split("::").next().unwrap_or(path))
        .map(|path| match path.find(['*', '{']) {
            Some(pattern) => path[..pattern]
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory)
                .to_owned(),
            None => path.to_owned(),
        });
    let directory = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let linked = prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#', ' ']).next());
    let linked =
        linked.filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"));
    let linked = linked.map(|target| match (directory, target.strip_prefix("../")) {
        (_, Some(up)) => up.to_owned(),
        ("", None) => target.to_owned(),
        (directory, None) => format!("{directory}/{target}"),
    });
    quoted
        .chain(linked)
        .filter(|path| !exists(path))
        .map(|path| format!("{}: names {path}, which is not there", file.path))
        .collect()
}

/// Each test that a document names as `FILE::TEST` is in that file.
pub fn tests(file: &File, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    if !file.is("md") {
        return Vec::new();
    }
    let named = named_tests(&file.text);
    let missing = named.filter(|(path, name)| {
        let text = read(path).unwrap_or_default();
        !text.contains(&format!("fn {name}(")) && !text.contains(&format!("def {name}("))
    });
    missing
        .map(|(path, name)| format!("{}: names the test {path}::{name}, which is not there", file.path))
        .collect()
}

fn named_tests(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|code| code.split_once("::"))
        .filter(|(path, _)| TOPS.iter().any(|top| path.starts_with(top)))
}

/// The rows of the list of attacks that exist in what the product does so far.
pub const ATTACKS: [&str; 33] = [
    "A1", "A2", "A3", "A4", "A5", "A6", "A8", "A9", "A10", "A11", "A14", "A15", "A16", "A17", "A18", "A19", "A20",
    "A21", "A23", "A24", "A25", "A26", "A27", "A34", "A35", "A36", "A37", "A40", "A41", "A42", "A43", "A44", "A45",
];

/// docs/security.md has a heading for each row with a test below it, and each story among the attacks stands below one.
pub fn attacks(text: &str, stories: &[&File]) -> Vec<String> {
    let sections: Vec<&str> = text.split("\n### ").skip(1).collect();
    let without = ATTACKS.iter().filter(|row| {
        let of_row = |section: &&&str| section.split([' ', '.']).next() == Some(**row);
        sections
            .iter()
            .find(of_row)
            .is_none_or(|section| named_tests(section).next().is_none())
    });
    let mut complaints: Vec<String> = without
        .map(|row| format!("docs/security.md: no test for {row}"))
        .collect();
    for story in stories {
        let names = story
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("def test_")?.split_once('('));
        let unnamed = names
            .map(|(name, _)| format!("{}::test_{name}", story.path))
            .filter(|test| !text.contains(&format!("`{test}`")));
        complaints.extend(unnamed.map(|test| format!("docs/security.md: {test} is not there")));
    }
    complaints
}

/// What the NixOS module writes: right configurations, in which every key occurs, and a row for each key in its document.
pub fn written_keys(written: &[&File], document: &str, sections: &[(&str, &[&str])]) -> Vec<String> {
    let mut complaints: Vec<String> = written
        .iter()
        .filter_map(|file| Some((file, config::parse(&file.text).err()?)))
        .flat_map(|(file, problems)| problems.into_iter().map(|problem| format!("{}: {problem}", file.path)))
        .collect();
    let tables: Vec<toml::Table> = written.iter().filter_map(|file| file.text.parse().ok()).collect();
    for (section, keys) in sections {
        for key in *keys {
            let path = match *section {
                "" => (*key).to_owned(),
                section => format!("{section}.{key}"),
            };
            let is_section = sections
                .iter()
                .any(|(other, _)| other.split('.').next() == Some(path.as_str()));
            if !is_section && !document.contains(&format!("| `{path}` |")) {
                complaints.push(format!("docs/options.md: no row for {path}"));
            }
            if !tables.iter().any(|table| occurs(table, &path)) {
                complaints.push(format!("tests/nix/golden: no configuration has {path}"));
            }
        }
    }
    complaints
}

/// Whether a table holds the key; `NAME` stands for any.
fn occurs(table: &toml::Table, path: &str) -> bool {
    match path.split_once('.') {
        None => table.contains_key(path),
        Some(("NAME", rest)) => table
            .values()
            .filter_map(toml::Value::as_table)
            .any(|one| occurs(one, rest)),
        Some((first, rest)) => table
            .get(first)
            .and_then(toml::Value::as_table)
            .is_some_and(|one| occurs(one, rest)),
    }
}

/// An example that names a domain is a whole file, and must be right.
pub fn examples(file: &File) -> Vec<String> {
    let whole = toml_blocks(&file.text).filter(|block| block.lines().any(|line| line.starts_with("domain =")));
    whole
        .filter_map(|block| config::parse(block).err())
        .flatten()
        .map(|problem| format!("{}: example: {problem}", file.path))
        .collect()
}

fn toml_blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next())
}

/// A document without its blocks of code.
fn prose(text: &str) -> String {
    format!("\n{text}").split("\n```").step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_caught() {
        let exists = |path: &str| ["src/model", "tests/run", "docs/operations.md", "docs/a.png"].contains(&path);
        let names = |text: &str| paths(&File::sample("docs/x.md", text), &exists).len();
        assert_eq!(names("see `src/gone.rs`, `tests/run` and `docs/gone.md`"), 2);
        assert_eq!(
            names("see [there](gone.md), ![it](a.png), [up](../tests/run), [web](https://example.org/)"),
            1
        );
        assert_eq!(
            names("run `tests/run rust`, read `src/model/*.rs`, `csm status`\n\n```sh\n`src/gone.rs`\n```\n"),
            0
        );
        assert_eq!(names("```sh\nx\n```\n\nthen `src/gone.rs`"), 1);
    }

    #[test]
    fn a_test_that_is_not_there_is_caught() {
        let read = |path: &str| {
            ["tests/x.py", "src/x.rs"]
                .contains(&path)
                .then(|| "def test_a(host):\n    fn b() {".to_owned())
        };
        let wrong = |text: &str| tests(&File::sample("docs/x.md", text), &read).len();
        assert_eq!(wrong("`tests/x.py::test_a`, `src/x.rs::b` and `std::fs`"), 0);
        assert_eq!(wrong("`tests/x.py::test_b`, `src/gone.rs::b`, `tests/x.py::test`"), 3);
    }

    #[test]
    fn an_attack_without_a_test_is_caught() {
        let story = File::sample("tests/lab/attacks/test_x.py", "def test_a(host):\n    x\ndef help():\n");
        let row = |row: &&str| format!("\n### {row}. Words\n- `tests/lab/attacks/test_x.py::test_a`\n");
        let whole: String = ATTACKS.iter().map(row).collect();
        assert_eq!(attacks(&whole, &[&story]), [""; 0]);
        assert_eq!(
            attacks(&whole.replace("A11", "A7"), &[&story]),
            ["docs/security.md: no test for A11"]
        );
        assert_eq!(attacks(&whole.replace("test_a", "test_b"), &[&story]).len(), 1);
        assert_eq!(attacks("", &[&story]).len(), ATTACKS.len() + 1);
    }

    #[test]
    fn a_key_that_no_module_writes_is_caught() {
        let sections: [(&str, &[&str]); 2] = [("", &["domain", "workspaces"]), ("workspaces.NAME", &["port"])];
        let whole = File::sample(
            "tests/nix/golden/x/config.toml",
            "domain = 'a.example'\nnginx = { certificate = '/c/c', certificate_key = '/c/k' }\nworkspaces.dan.port = 8081\n",
        );
        let document = "| `domain` | x |\n| `workspaces.NAME.port` | x |\n";
        assert_eq!(written_keys(&[&whole], document, &sections), Vec::<String>::new());
        assert_eq!(written_keys(&[&whole], "", &sections).len(), 2);
        let wrong = File::sample("x", &whole.text.replace("8081", "80"));
        assert_eq!(written_keys(&[&wrong], document, &sections).len(), 1);
        let without = File::sample("x", &whole.text.replace("port = 8081", "memory_limit = '1G'"));
        assert_eq!(
            written_keys(&[&without], document, &sections),
            ["tests/nix/golden: no configuration has workspaces.NAME.port"]
        );
    }

    #[test]
    fn a_wrong_example_is_caught() {
        let wrong = |text: &str| examples(&File::sample("docs/x.md", text)).len();
        assert_eq!(wrong("```toml\ndomain = \"code.example.org\"\n```\n"), 2);
        assert_eq!(wrong("```toml\n[workspaces.dan]\nport = 1\n```\n"), 0);
    }
}
