//! The TOML text as sections and values. Whoever reads a value names its key; what is wrong is collected with the key's
//! path, so that one pass over a file finds everything. A value that may hold a secret is never repeated.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::config::{Problem, keys};

/// More problems than anyone reads: the rest is only counted.
const PROBLEMS_MAX: usize = 500;

/// Characters of a value, or of one part of a key, that a problem shows.
const SHOWN_MAX: usize = 60;

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// What is wrong with a value and what to write instead; the caller knows the key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub message: String,
    pub hint: String,
}

impl Wrong {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// The value is unusable, and its problem is already on the list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reported;

/// A value: absent, there and right, or reported.
pub(super) type Read<T> = Result<Option<T>, Reported>;

/// Whether a problem may repeat the value it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    Shown,
    /// Passwords and keys get pasted where a path belongs.
    Hidden,
}

/// The text of a file and what was found wrong in it so far.
pub(super) struct Document<'i> {
    text: &'i str,
    problems: Vec<Problem>,
    left_out: usize,
}

impl<'i> Document<'i> {
    pub fn new(text: &'i str) -> Self {
        Self {
            text,
            problems: Vec::new(),
            left_out: 0,
        }
    }

    /// Parses the TOML; a syntax error leaves nothing to look at, so it is the only problem then.
    pub fn parse(&mut self) -> Result<DeTable<'i>, Reported> {
        DeTable::parse(self.text).map(Spanned::into_inner).map_err(|error| {
            // Only the message: the error's Display quotes the line, and that line may hold a secret.
            let place = position(self.text, error.span().map_or(0, |span| span.start));
            let hint = "check quotes, brackets and repeated keys around this place; https://toml.io/ has the format";
            self.report(place, None, Wrong::new(error.message(), hint))
        })
    }

    pub fn report(&mut self, key: String, value: Option<String>, wrong: Wrong) -> Reported {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem {
                key,
                value,
                message: wrong.message,
                hint: wrong.hint,
            });
        } else {
            self.left_out += 1;
        }
        Reported
    }

    /// Reads one value, and reports it when `grammar` refuses it.
    pub fn read<T>(
        &mut self,
        key: &str,
        value: Option<&Value<'_>>,
        echo: Echo,
        grammar: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Read<T> {
        let Some(value) = value else { return Ok(None) };
        grammar(value.get_ref()).map(Some).map_err(|wrong| {
            let shown = if echo == Echo::Shown {
                self.as_written(value)
            } else {
                None
            };
            self.report(key.to_owned(), shown, wrong)
        })
    }

    /// A scalar as the file has it; tables and arrays are too long to help.
    pub fn as_written(&self, value: &Value<'_>) -> Option<String> {
        match value.get_ref() {
            DeValue::Table(_) | DeValue::Array(_) => None,
            _ => self.text.get(value.span()).map(shown),
        }
    }

    pub fn finish(mut self) -> Vec<Problem> {
        if self.left_out > 0 {
            self.problems.push(Problem {
                key: "...".to_owned(),
                value: None,
                message: format!("{} more problems", self.left_out),
                hint: "mend these first".to_owned(),
            });
        }
        self.problems
    }
}

/// A table of the file with the keys it may have; a missing one reads as empty.
#[derive(Clone)]
pub(super) struct Section<'t, 'i> {
    path: String,
    table: Option<&'t DeTable<'i>>,
    keys: &'static [&'static str],
}

impl<'t, 'i> Section<'t, 'i> {
    pub fn root(document: &mut Document<'_>, table: &'t DeTable<'i>, keys: &'static [&'static str]) -> Self {
        let section = Self {
            path: String::new(),
            table: Some(table),
            keys,
        };
        section.report_unknown(document);
        section
    }

    /// The table under `key`.
    pub fn section(&self, document: &mut Document<'_>, key: &str, keys: &'static [&'static str]) -> Section<'t, 'i> {
        Self::of(document, self.key(key), self.value(key), keys)
    }

    pub fn of(
        document: &mut Document<'_>,
        path: String,
        value: Option<&'t Value<'i>>,
        keys: &'static [&'static str],
    ) -> Section<'t, 'i> {
        let section = Section {
            table: table(document, &path, value),
            path,
            keys,
        };
        section.report_unknown(document);
        section
    }

    /// The entries of a table whose keys are the admin's to choose, each with its full key path.
    pub fn entries(&self, document: &mut Document<'_>, key: &str) -> Vec<(String, &'t str, &'t Value<'i>)> {
        let path = self.key(key);
        table(document, &path, self.value(key))
            .into_iter()
            .flatten()
            .map(|(name, value)| (join(&path, name.get_ref()), name.get_ref().as_ref(), value))
            .collect()
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value under `key`; asking for a key that the section does not list is our own mistake.
    pub fn value(&self, key: &str) -> Option<&'t Value<'i>> {
        debug_assert!(self.keys.contains(&key), "{key} is not a key of [{}]", self.path);
        self.table.and_then(|table| table.get(key))
    }

    pub fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub fn read<T>(
        &self,
        document: &mut Document<'_>,
        key: &str,
        grammar: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Read<T> {
        document.read(&self.key(key), self.value(key), echo(key), grammar)
    }

    /// Like [`Section::read`] for a key that has no default; `example` shows how to set it.
    pub fn require<T>(
        &self,
        document: &mut Document<'_>,
        key: &str,
        example: &str,
        grammar: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Result<T, Reported> {
        if let Some(value) = self.read(document, key, grammar)? {
            return Ok(value);
        }
        let hint = match self.path.as_str() {
            "" => format!("write, above the first section: {key} = \"{example}\""),
            section => format!("write, below [{section}]: {key} = \"{example}\""),
        };
        Err(document.report(self.key(key), None, Wrong::new("missing", hint)))
    }

    /// Reports a value that is right by itself but wrong beside others.
    pub fn refuse(&self, document: &mut Document<'_>, key: &str, wrong: Wrong) -> Reported {
        let value = self.value(key).filter(|_| echo(key) == Echo::Shown);
        let shown = value.and_then(|value| document.as_written(value));
        document.report(self.key(key), shown, wrong)
    }

    fn report_unknown(&self, document: &mut Document<'_>) {
        for (key, _) in self.table.into_iter().flatten() {
            // guard: F20-unknown-key
            if !self.keys.contains(&key.get_ref().as_ref()) {
                let hint = keys::unknown_hint(key.get_ref(), self.keys);
                document.report(self.key(key.get_ref()), None, Wrong::new("no such key", hint));
            }
        }
    }
}

fn table<'t, 'i>(document: &mut Document<'_>, path: &str, value: Option<&'t Value<'i>>) -> Option<&'t DeTable<'i>> {
    match value?.get_ref() {
        DeValue::Table(table) => Some(table),
        other => {
            let wrong = Wrong::new(
                format!("must be a table, not {}", kind(other)),
                format!("write a section: [{path}]"),
            );
            document.report(path.to_owned(), None, wrong);
            None
        }
    }
}

/// Whether problems may repeat the value of a key, or of what is in the table under it.
pub(super) fn echo(key: &str) -> Echo {
    if keys::HIDDEN.contains(&key) {
        Echo::Hidden
    } else {
        Echo::Shown
    }
}

/// The type of a value in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A key path with one more part, quoted where TOML wants it quoted.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let part = if bare {
        shown(key)
    } else {
        format!("\"{}\"", shown(key))
    };
    if path.is_empty() {
        part
    } else {
        format!("{path}.{part}")
    }
}

/// A text made safe for a terminal and a log line, and short.
pub(super) fn shown(text: &str) -> String {
    let mut safe = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_MAX {
            safe.push_str("...");
            break;
        }
        match c {
            '"' | '\'' | '\\' => safe.push(c),
            // Escapes what does not print, direction marks and joiners among it.
            _ => safe.extend(c.escape_debug()),
        }
    }
    safe
}

/// `line 3, column 7` of a byte offset, counted from 1 in characters.
pub(super) fn position(text: &str, offset: usize) -> String {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |newline| newline + 1);
    let line = before.split(|b| *b == b'\n').count();
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    format!("line {line}, column {column}")
}
