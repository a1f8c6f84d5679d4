//! Checks that every stable code in the sources has its row in docs/operations.md, and every row its code.

use std::collections::BTreeSet;

use crate::File;
use crate::sources::without_tests;

/// Behind these comes a code, maybe on the next line. (Trouble's own file says `Self::new`.)
const BEFORE: [&str; 8] = [
    "Trouble::new(",
    "Finding::ok(",
    "Finding::warn(",
    "Finding::fail(",
    "Finding::unseen(",
    "Self::unseen(",
    "code: ",
    "(&str, &str) = (",
];

/// Calls of which a code is the first text among the arguments; only in the doctor's files.
const AMONG: [&str; 3] = ["seen(", " program(", "id_helper("];

/// What may stand in the place of a code: it was taken from somewhere else, where it is seen.
const CARRIED: [&str; 7] = [
    "code",
    "trouble.code",
    "self.code",
    "name",
    "&'static str",
    "String",
    "Option<String>",
];

/// The codes in a source file, and the places where there should be one and none can be read.
pub fn in_source(file: &File) -> (BTreeSet<String>, Vec<String>) {
    let mut codes = BTreeSet::new();
    let mut complaints = Vec::new();
    if !file.path.starts_with("src/") || !file.is("rs") || file.path.ends_with("tests.rs") {
        return (codes, complaints);
    }
    let text = without_tests(&file.text);
    let own = (file.path == "src/model/status.rs").then_some("Self::new(");
    for before in BEFORE.into_iter().chain(own) {
        for (at, _) in text.match_indices(before) {
            let rest = text[at + before.len()..].trim_start();
            // `exit_code: 3`, `status_code: ..`
            if before == "code: " && text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let carried = rest.split([',', '\n', '.', '(']).next().unwrap_or_default().trim();
            let dotted = rest.split([',', '\n']).next().unwrap_or_default().trim();
            match literal(rest) {
                Some(code) => drop(codes.insert(code.to_owned())),
                None if CARRIED.contains(&carried) || CARRIED.iter().any(|one| dotted.starts_with(one)) => {}
                None => {
                    let line = text[..at].lines().count();
                    complaints.push(format!("{}:{line}: no code can be read after {before}", file.path));
                }
            }
        }
    }
    if file.path.starts_with("src/model/doctor") {
        for call in AMONG {
            for (at, _) in text.match_indices(call).filter(|(at, _)| !text[..*at].ends_with("fn ")) {
                let arguments = text[at..].split(';').next().unwrap_or_default();
                codes.extend(
                    arguments
                        .split_once('"')
                        .and_then(|(_, rest)| word(rest))
                        .map(str::to_owned),
                );
            }
        }
    }
    for body in text.split("fn remediation(").skip(1) {
        let body = body.split("\n    }\n").next().unwrap_or_default();
        // Prose is the only other text there, and has spaces.
        codes.extend(
            body.split('"')
                .filter_map(|part| whole_word(part))
                .filter(|part| part.contains('-'))
                .map(str::to_owned),
        );
    }
    if file.path == "src/serve/admin/refusal.rs" {
        // The table of answers: status, code, title, way out.
        for row in text.split("=> (").skip(1) {
            let mut fields = row.splitn(3, ',').map(str::trim);
            if fields.next().is_some_and(|status| status.parse::<u16>().is_ok()) {
                codes.extend(fields.next().and_then(literal).map(str::to_owned));
            }
        }
    }
    (codes, complaints)
}

/// The codes that have a row in the tables below the heading.
pub fn in_document(text: &str) -> Vec<String> {
    let below = text.split_once("\n## Every code\n").map_or("", |(_, rest)| rest);
    below
        .split("\n## ")
        .next()
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(code, _)| code.to_owned())
        .collect()
}

pub fn compare(sources: &BTreeSet<String>, rows: &[String]) -> Vec<String> {
    let missing = sources.iter().filter(|code| !rows.contains(code));
    let mut complaints: Vec<String> = missing
        .map(|code| format!("docs/operations.md: no row for {code}"))
        .collect();
    let unknown = rows.iter().filter(|row| !sources.contains(*row));
    complaints.extend(unknown.map(|row| format!("docs/operations.md: nothing in src says {row}")));
    let twice = rows
        .iter()
        .enumerate()
        .filter(|(place, row)| rows[..*place].contains(row));
    complaints.extend(twice.map(|(_, row)| format!("docs/operations.md: two rows for {row}")));
    complaints
}

/// Each crate of Cargo.toml has its row in docs/architecture.md, each row its crate, and each crate its use.
pub fn crates(manifest: &str, document: &str, used: &dyn Fn(&str) -> bool) -> Vec<String> {
    let section = |name: &str| {
        let body = manifest
            .split_once(&format!("\n[{name}]\n"))
            .map_or("", |(_, rest)| rest);
        let body = body.split("\n[").next().unwrap_or_default();
        body.lines()
            .filter_map(|line| line.split_once(" = ").map(|(name, _)| name.to_owned()))
            .collect::<BTreeSet<_>>()
    };
    let named: BTreeSet<String> = section("dependencies")
        .union(&section("dev-dependencies"))
        .cloned()
        .collect();
    let below = document
        .split_once("\n## Why each crate\n")
        .map_or("", |(_, rest)| rest);
    let rows: BTreeSet<String> = below
        .split("\n## ")
        .next()
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |"))
        .flat_map(|(cell, _)| {
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let mut complaints = Vec::new();
    complaints.extend(
        named
            .difference(&rows)
            .map(|one| format!("docs/architecture.md: no word on the crate {one}")),
    );
    complaints.extend(
        rows.difference(&named)
            .map(|one| format!("docs/architecture.md: there is no crate {one}")),
    );
    let idle = named.iter().filter(|one| !used(&one.replace('-', "_")));
    complaints.extend(idle.map(|one| format!("Cargo.toml: nothing uses the crate {one}")));
    complaints
}

/// A quoted word at the very beginning.
fn literal(text: &str) -> Option<&str> {
    word(text.strip_prefix('"')?)
}

/// A word up to its closing quote.
fn word(text: &str) -> Option<&str> {
    whole_word(text.split_once('"')?.0)
}

fn whole_word(text: &str) -> Option<&str> {
    let is_code = |c: char| c.is_ascii_lowercase() || c == '-';
    (!text.is_empty() && text.chars().all(is_code) && !text.starts_with('-') && !text.ends_with('-')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        in_source(&File::sample(path, text)).0.into_iter().collect()
    }

    #[test]
    fn codes_are_seen_in_each_of_their_shapes() {
        for (path, text) in [
            ("src/host/x.rs", "Trouble::new(\n    \"the-code\",\n    \"some words\")"),
            ("src/model/doctor/x.rs", "Finding::warn(\"the-code\", what, fix)"),
            (
                "src/model/doctor/x.rs",
                "match seen(\n &facts.key,\n \"the-code\",\n what) {}",
            ),
            (
                "src/model/doctor/x.rs",
                "    program(&facts.x, facts.bundled, \"the-code\", \"does things\"),",
            ),
            ("src/model/doctor/x.rs", "    code: \"the-code\",\n    name: \"X\","),
            (
                "src/host/x.rs",
                "const X: (&str, &str) = (\n    \"the-code\", \"way out\");",
            ),
            (
                "src/host/x.rs",
                "pub fn remediation(&self) {\n match self {\n A => (\"the-code\", \"way out\") }\n    }\n",
            ),
            (
                "src/serve/admin/refusal.rs",
                "Self::A => (\n 404,\n \"the-code\",\n \"not found\", x),",
            ),
        ] {
            assert_eq!(found(path, text), ["the-code"], "{text}");
        }
        assert!(
            found(
                "src/host/x.rs",
                "#[cfg(test)]\nmod tests {\n Trouble::new(\"the-code\", a, b)\n}"
            )
            .is_empty()
        );
        // Tests that are only named there hide nothing behind them.
        let behind = "#[cfg(test)]\npub(crate) mod tests;\nfn f() { Trouble::new(\"the-code\", a, b) }";
        assert_eq!(found("src/model/x.rs", behind), ["the-code"]);
    }

    #[test]
    fn a_code_that_can_not_be_read_is_a_complaint() {
        let complaints = |text: &str| in_source(&File::sample("src/host/x.rs", text)).1.len();
        assert_eq!(complaints("Trouble::new(choose(error), a, b)"), 1);
        assert_eq!(complaints("Trouble::new(\"Not A Code\", a, b)"), 1);
        assert_eq!(complaints("Trouble::new(code, a, b)"), 0);
    }

    #[test]
    fn forgotten_and_unknown_rows_are_caught() {
        let rows =
            in_document("| `above` | x |\n\n## Every code\n\n| `a-b` | x |\n| `c` | x |\n\n## More\n| `d` | x |\n");
        assert_eq!(rows, ["a-b", "c"]);
        let sources = |codes: &[&str]| codes.iter().map(|code| (*code).to_owned()).collect();
        assert_eq!(compare(&sources(&["a-b", "c"]), &rows), Vec::<String>::new());
        assert_eq!(compare(&sources(&["a-b", "d"]), &rows).len(), 2);
        assert_eq!(compare(&sources(&["c"]), &["c".to_owned(), "c".to_owned()]).len(), 1);
    }

    #[test]
    fn forgotten_and_idle_crates_are_caught() {
        let manifest =
            "x\n[dependencies]\na-b = { version = \"1\" }\n\n[dev-dependencies]\nc = \"1\"\n\n[lints]\nd = 1\n";
        let document = "\n## Why each crate\n\n| crate | for |\n|---|---|\n| `a-b`, `c` | x `y` |\n";
        let used = |name: &str| name != "idle";
        assert_eq!(crates(manifest, document, &used), Vec::<String>::new());
        assert_eq!(crates(manifest, "", &used).len(), 2);
        assert_eq!(crates(manifest, &document.replace("`c`", "`c`, `e`"), &used).len(), 1);
        assert_eq!(
            crates(manifest, document, &|name| name != "a_b"),
            ["Cargo.toml: nothing uses the crate a-b"]
        );
    }
}
