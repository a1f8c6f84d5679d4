//! Checks of the table of guards (tests/guards): each is marked in the sources, and somebody would miss it. That what is
//! marked can be taken out is for tests/guards/test_cuts.py to say.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::File;

/// The rows of the list of faults that exist in what the product does so far.
pub const FAULTS: [&str; 27] = [
    "F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "F10", "F11", "F12", "F13", "F14", "F15", "F17", "F18",
    "F19", "F20", "F21", "F22", "F29", "F30", "F31", "F32", "F33", "F34",
];

#[derive(Deserialize)]
pub struct Table {
    guard: Vec<Entry>,
}

/// What else there is says how it is taken out.
#[derive(Deserialize)]
struct Entry {
    id: String,
    guard: String,
    #[serde(default)]
    also: Vec<Also>,
    stories: Vec<String>,
}

#[derive(Deserialize)]
struct Also {
    id: String,
}

impl Entry {
    fn row(&self) -> &str {
        self.id.split('-').next().unwrap_or_default()
    }
}

/// The ids in a line that is a marker.
pub fn marked(line: &str) -> impl Iterator<Item = &str> {
    let line = line.trim_start();
    let comment = line.strip_prefix("//").or_else(|| line.strip_prefix('#'));
    let ids = comment.and_then(|comment| comment.strip_prefix(" guard: "));
    ids.unwrap_or_default().split_whitespace()
}

/// Each id of the table is marked once, and each marker is in the table once; each row and each story is there.
pub fn complaints(table: &Table, files: &[File], read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    // How often each is in the table, and marked.
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for one in &table.guard {
        let mut complain = |what: String| complaints.push(format!("tests/guards/guards.toml: {}: {what}", one.id));
        for id in std::iter::once(&one.id).chain(one.also.iter().map(|also| &also.id)) {
            counts.entry(id).or_default().0 += 1;
            if id.split('-').next() != Some(one.row()) {
                complain(format!("{id} is of another row"));
            }
        }
        if !one.row().starts_with(['A', 'F', 'I']) || one.row()[1..].parse::<u8>().is_err() {
            complain(format!("no row is called {}", one.row()));
        }
        if one.guard.is_empty() {
            complain("what it keeps is not said".to_owned());
        }
        if one.stories.is_empty() {
            complain("nobody would miss it".to_owned());
        }
        for story in &one.stories {
            let (path, name) = story.split_once("::").unwrap_or((story, ""));
            let name = name.split('[').next().unwrap_or_default();
            if !read(path).unwrap_or_default().contains(&format!("def {name}(")) {
                complain(format!("the story {story} is not there"));
            }
        }
    }
    // Samples of markers are in tests; images are not built anew without a guard.
    let sources = files
        .iter()
        .filter(|file| file.path.starts_with("src/") || file.path.starts_with("nix/"));
    for id in sources.flat_map(|file| file.text.lines().flat_map(marked)) {
        counts.entry(id).or_default().1 += 1;
    }
    for (id, counts) in counts {
        if counts != (1, 1) {
            let (listed, marked) = counts;
            complaints.push(format!(
                "{id}: {listed} times in tests/guards/guards.toml, marked {marked} times in src and nix, and must be once in each"
            ));
        }
    }
    complaints
}

/// Each row has a guard.
pub fn unguarded<'r>(table: &Table, rows: impl Iterator<Item = &'r str>) -> Vec<String> {
    rows.filter(|row| table.guard.iter().all(|one| one.row() != *row))
        .map(|row| format!("tests/guards/guards.toml: {row} has no guard"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORY: &str = "'tests/lab/x.py::test_f1_x[dan]'";

    /// How many complaints there are about a table with these entries, each ID and STORIES, and these sources.
    fn wrong(entries: &[(&str, &str)], source: &str, unit: &str) -> usize {
        let entry = |(ids, stories): &(&str, &str)| {
            let (id, also) = ids.split_once(' ').unwrap_or((ids, ""));
            let also: Vec<String> = also.split_whitespace().map(|id| format!("{{ id = '{id}' }}")).collect();
            let lines = [
                "[[guard]]".to_owned(),
                format!("id = '{id}'"),
                "guard = 'g'".to_owned(),
                format!("also = [{}]", also.join(", ")),
                "take_out = 'error'".to_owned(),
                format!("stories = [{stories}]"),
            ];
            lines.join("\n")
        };
        let table = entries.iter().map(entry).collect::<Vec<_>>().join("\n");
        let files = [
            File::sample("src/x.rs", source),
            File::sample("nix/units/x.service", unit),
            File::sample("tests/x.rs", "// guard: F9-sample"),
        ];
        let read = |path: &str| (path == "tests/lab/x.py").then(|| "def test_f1_x(host):".to_owned());
        complaints(&toml::from_str(&table).unwrap(), &files, &read).len()
    }

    #[test]
    fn a_guard_that_is_not_marked_or_that_nobody_would_miss_is_caught() {
        let (here, there) = ("fn f() {\n    // guard: F1-a\n", "# guard: F1-b\nA=b\n");
        let both = [("F1-a", STORY), ("F1-b", STORY)];
        assert_eq!(wrong(&both, here, there), 0);
        assert_eq!(wrong(&[("F1-a F1-b", STORY)], here, there), 0);
        assert_eq!(wrong(&both, "// guard: F1-b F1-a", ""), 0);
        assert_eq!(wrong(&both, here, ""), 1);
        assert_eq!(wrong(&both, "lock(); // guard: F1-a", there), 1);
        assert_eq!(wrong(&both[..1], here, there), 1);
        assert_eq!(wrong(&both[..1], here, "# guard: F1-a"), 1);
        assert_eq!(wrong(&[both[0], both[0]], here, ""), 1);
        assert_eq!(wrong(&[("F1-a F2-b", STORY)], here, "# guard: F2-b"), 1);
        assert_eq!(wrong(&[("F1-a", "'tests/lab/x.py::test_f2_x'")], here, ""), 1);
        assert_eq!(wrong(&[("F1-a", "'tests/lab/y.py::test_f1_x'")], here, ""), 1);
        assert_eq!(wrong(&[("F1-a", "")], here, ""), 1);
        assert_eq!(wrong(&[("B1-a", STORY)], "// guard: B1-a", ""), 1);
        assert_eq!(wrong(&[("a", STORY)], "// guard: a", ""), 1);
    }

    #[test]
    fn a_row_that_nothing_is_taken_out_for_is_caught() {
        let table = "[[guard]]\nid = 'F1-a'\nguard = 'g'\nstories = []";
        let table: Table = toml::from_str(table).unwrap();
        assert_eq!(unguarded(&table, ["F1"].into_iter()), [""; 0]);
        assert_eq!(unguarded(&table, ["F1", "F2", "A1"].into_iter()).len(), 2);
    }
}
