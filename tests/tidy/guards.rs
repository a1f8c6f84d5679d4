//! Checks of the table of guards (tests/guards): what it takes out is there to be taken out, and somebody would miss it.

use serde::Deserialize;

/// The rows of the list of faults that exist in what the product does so far.
pub const FAULTS: [&str; 27] = [
    "F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "F10", "F11", "F12", "F13", "F14", "F15", "F17", "F18",
    "F19", "F20", "F21", "F22", "F29", "F30", "F31", "F32", "F33", "F34",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    guard: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    row: String,
    guard: String,
    file: String,
    text: String,
    instead: String,
    #[serde(default)]
    also: Vec<Cut>,
    stories: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    file: String,
    text: String,
    instead: String,
}

/// Each text is exactly once in its file, something else takes its place, and each story is in its file.
pub fn complaints(table: &Table, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for one in &table.guard {
        let mut complain = |what: String| complaints.push(format!("tests/guards/guards.toml: {}: {what}", one.guard));
        let first = (&one.file, &one.text, &one.instead);
        let more = one.also.iter().map(|cut| (&cut.file, &cut.text, &cut.instead));
        for (file, text, instead) in std::iter::once(first).chain(more) {
            let count = read(file).unwrap_or_default().matches(text.as_str()).count();
            if count != 1 {
                complain(format!("{file} has {count} times {text:?}, and must have it once"));
            }
            if text == instead {
                complain(format!("nothing is taken out of {file}"));
            }
        }
        if !one.row.starts_with(['A', 'F', 'I']) || one.row[1..].parse::<u8>().is_err() {
            complain(format!("no row is called {}", one.row));
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
    complaints
}

/// Each row has a guard.
pub fn unguarded<'r>(table: &Table, rows: impl Iterator<Item = &'r str>) -> Vec<String> {
    rows.filter(|row| table.guard.iter().all(|one| one.row != *row))
        .map(|row| format!("tests/guards/guards.toml: {row} has no guard"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_that_is_not_there_or_that_nobody_would_miss_is_caught() {
        let read = |path: &str| {
            Some(match path {
                "src/x.rs" => "lock(); lock(); check();".to_owned(),
                "tests/lab/x.py" => "def test_f1_x(host):".to_owned(),
                _ => return None,
            })
        };
        let wrong = |text: &str, stories: &str| {
            let table = format!(
                "[[guard]]\nrow = 'F1'\nguard = 'g'\nfile = 'src/x.rs'\ntext = '{text}'\ninstead = ''\nstories = [{stories}]"
            );
            complaints(&toml::from_str(&table).unwrap(), &read).len()
        };
        let story = "'tests/lab/x.py::test_f1_x[dan]'";
        assert_eq!(wrong("check();", story), 0);
        assert_eq!(wrong("lock();", story), 1);
        assert_eq!(wrong("gone();", story), 1);
        assert_eq!(wrong("check();", "'tests/lab/x.py::test_f2_x'"), 1);
        assert_eq!(wrong("check();", "'tests/lab/y.py::test_f1_x'"), 1);
        assert_eq!(wrong("", ""), 3);
    }

    #[test]
    fn a_row_that_nothing_is_taken_out_for_is_caught() {
        let table = "[[guard]]\nrow = 'F1'\nguard = 'g'\nfile = 'f'\ntext = 't'\ninstead = ''\nstories = []";
        let table: Table = toml::from_str(table).unwrap();
        assert_eq!(unguarded(&table, ["F1"].into_iter()), [""; 0]);
        assert_eq!(unguarded(&table, ["F1", "F2", "A1"].into_iter()).len(), 2);
    }
}
