//! TIDY: rules about the repository itself that no compiler knows: which room may know which, what stays pure, what the
//! documents promise. Each check is a function over texts, with a bad sample beside it that it must catch.

#[path = "tidy/codes.rs"]
mod codes;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/guards.rs"]
mod guards;
#[path = "tidy/sources.rs"]
mod sources;

use std::path::Path;

/// A text file, by its path from the top of the repository.
struct File {
    path: String,
    text: String,
}

impl File {
    #[cfg(test)]
    fn sample(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|found| found == extension)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that the project has written, so neither the lock file nor what was built.
fn files() -> Vec<File> {
    let mut paths = vec!["README.md".to_owned(), "Cargo.toml".to_owned()];
    for top in [".ci", "docs", "images", "nix", "src", "tests"] {
        walk(top, &mut paths);
    }
    let text = |path: String| {
        Some(File {
            text: std::fs::read_to_string(root().join(&path)).ok()?,
            path,
        })
    };
    let files: Vec<File> = paths.into_iter().filter_map(text).collect();
    assert!(
        files.iter().filter(|file| file.path.starts_with("src/")).count() > 20,
        "the sources were not found"
    );
    files
}

fn walk(directory: &str, paths: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(root().join(directory)) else {
        return;
    };
    for entry in entries.flatten() {
        let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else {
            continue;
        };
        let path = format!("{directory}/{name}");
        if kind.is_dir() && !["target", "__pycache__", "node_modules"].contains(&name.as_str()) {
            walk(&path, paths);
        } else if kind.is_file() {
            paths.push(path);
        }
    }
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Runs a check over all files of the repository.
fn over(check: fn(&File) -> Vec<String>) {
    assert_none(&files().iter().flat_map(check).collect::<Vec<_>>());
}

#[test]
fn rooms_know_only_the_rooms_below_them() {
    over(sources::directions);
}

#[test]
fn the_model_is_pure() {
    over(sources::purity);
}

#[test]
fn sources_are_of_a_size_to_be_read() {
    over(sources::size);
}

#[test]
fn sources_say_first_what_they_are_for() {
    over(sources::header);
}

#[test]
fn no_test_returns_early() {
    over(sources::early_returns);
}

#[test]
fn only_one_file_knows_podmans_options() {
    over(sources::podman_options);
}

#[test]
fn nothing_is_left_over() {
    over(sources::leftovers);
}

#[test]
fn documents_name_paths_that_exist() {
    let exists = |path: &str| root().join(path).exists();
    assert_none(
        &files()
            .iter()
            .flat_map(|file| documents::paths(file, &exists))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn documents_name_tests_that_exist() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).ok();
    assert_none(
        &files()
            .iter()
            .flat_map(|file| documents::tests(file, &read))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn every_attack_has_its_tests() {
    let all = files();
    let text = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let stories: Vec<&File> = all
        .iter()
        .filter(|file| file.path.starts_with("tests/lab/attacks/"))
        .collect();
    assert!(stories.len() > 2);
    assert_none(&documents::attacks(&text, &stories));
}

#[test]
fn every_guard_is_marked_and_would_be_missed() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).ok();
    let table = toml::from_str(&read("tests/guards/guards.toml").unwrap()).unwrap();
    assert_none(&guards::complaints(&table, &files(), &read));
    let rows = guards::FAULTS.into_iter().chain(documents::ATTACKS);
    assert_none(&guards::unguarded(&table, rows));
}

#[test]
fn examples_of_whole_configurations_are_right() {
    let all = files();
    let documents = all.iter().filter(|file| file.is("md"));
    assert_none(&documents.flat_map(documents::examples).collect::<Vec<_>>());
}

#[test]
fn the_nixos_module_writes_every_key_and_right_configurations() {
    let all = files();
    let written: Vec<&File> = all
        .iter()
        .filter(|file| file.path.starts_with("tests/nix/golden/") && file.path.ends_with("/config.toml"))
        .collect();
    assert!(written.len() >= 6, "the golden configurations are not there");
    let options = std::fs::read_to_string(root().join("docs/options.md")).unwrap();
    assert_none(&documents::written_keys(
        &written,
        &options,
        &code_server_multi::model::config::keys::SECTIONS,
    ));
}

#[test]
fn every_code_is_documented() {
    let text = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut found = std::collections::BTreeSet::new();
    let mut complaints = Vec::new();
    for file in files() {
        let (of_file, unread) = codes::in_source(&file);
        found.extend(of_file);
        complaints.extend(unread);
    }
    complaints.extend(codes::compare(&found, &codes::in_document(&text)));
    assert_none(&complaints);
}

#[test]
fn every_crate_is_used_and_says_why_it_is_there() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let all = files();
    let used = |name: &str| {
        let is_used = |file: &File| {
            file.is("rs") && (file.text.contains(&format!("{name}::")) || file.text.contains(&format!("{name}!")))
        };
        all.iter().any(is_used)
    };
    assert_none(&codes::crates(
        &read("Cargo.toml"),
        &read("docs/architecture.md"),
        &used,
    ));
}
