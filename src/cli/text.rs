//! Small pieces of text for people: colours, tables, relative times, sizes.

use std::borrow::Cow;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use tabwriter::TabWriter;

use crate::api::{ConfigProblem, Finding, State};

/// How to write for this reader.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub colour: bool,
    pub now: Timestamp,
}

impl Look {
    pub fn paint(self, style: Style, text: &str) -> String {
        if self.colour {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    pub fn state(self, state: State) -> String {
        let style = match state {
            State::Ready => GOOD,
            State::Starting | State::Stopping | State::Suspended => WAIT,
            State::Failed | State::Blocked => BAD,
            State::Disabled | State::Stopped => Style::new(),
        };
        self.paint(style, state.word())
    }

    /// `3 min ago`; a time that can't be read is shown as it is.
    pub fn ago(self, at: &str) -> String {
        let Ok(then) = at.parse::<Timestamp>() else {
            return printable(at).into_owned();
        };
        match self.now.as_second() - then.as_second() {
            ..2 => "just now".to_owned(),
            seconds @ 2..60 => format!("{seconds} s ago"),
            seconds @ 60..3600 => format!("{} min ago", seconds / 60),
            seconds @ 3600..172_800 => format!("{} h ago", seconds / 3600),
            seconds => format!("{} days ago", seconds / 86_400),
        }
    }
}

pub const GOOD: Style = AnsiColor::Green.on_default();
pub const WAIT: Style = AnsiColor::Yellow.on_default();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const HEAD: Style = Style::new().bold();

/// Rows of cells as aligned columns.
pub fn table(rows: &[Vec<String>]) -> String {
    let mut writer = TabWriter::new(Vec::new()).padding(2).ansi(true);
    for row in rows {
        // A `Vec` takes every write.
        drop(writeln!(writer, "{}", row.join("\t")));
    }
    drop(writer.flush());
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// A time of the wire, to the second: that is enough for people, the rest is in the JSON.
pub fn clock(at: &str) -> String {
    match at.parse::<Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => printable(at).into_owned(),
    }
}

/// `1 problem`, `2 problems`.
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Control characters as escapes: what a workspace wrote must not drive the terminal that shows it.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| {
        if is_unsafe(c) {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Controls, and the marks that reorder text so that it reads as something else.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `CODE: MESSAGE` and its hint, each line behind `indent`.
pub fn finding(finding: &Finding, indent: &str) -> String {
    let mut text = format!(
        "{indent}{}: {}\n",
        printable(&finding.code),
        printable(&finding.message)
    );
    if !finding.remediation.is_empty() {
        text.push_str(&format!("{indent}  Hint: {}\n", printable(&finding.remediation)));
    }
    text
}

/// `KEY: VALUE: MESSAGE` and its hint.
pub fn problem(problem: &ConfigProblem, indent: &str) -> String {
    let value = problem
        .value
        .as_ref()
        .map(|value| format!(": {}", printable(value)))
        .unwrap_or_default();
    let mut text = format!(
        "{indent}{}{value}: {}\n",
        printable(&problem.key),
        printable(&problem.message)
    );
    if !problem.hint.is_empty() {
        text.push_str(&format!("{indent}  Hint: {}\n", printable(&problem.hint)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_relative_to_now() {
        let look = Look {
            colour: false,
            now: "2026-03-01T12:00:00Z".parse().unwrap(),
        };
        for (at, text) in [
            ("2026-03-01T12:00:00.9Z", "just now"),
            ("2026-03-01T12:00:07Z", "just now"),
            ("2026-03-01T11:59:30Z", "30 s ago"),
            ("2026-03-01T11:57:00Z", "3 min ago"),
            ("2026-03-01T13:00:00+02:00", "1 h ago"),
            ("2026-02-28T01:00:00Z", "35 h ago"),
            ("2026-02-20T12:00:00Z", "9 days ago"),
            ("soon\u{1b}[2J", "soon\\u{1b}[2J"),
        ] {
            assert_eq!(look.ago(at), text, "{at}");
        }
    }

    #[test]
    fn colours_do_not_move_columns() {
        let look = Look {
            colour: true,
            now: Timestamp::UNIX_EPOCH,
        };
        let rows = vec![
            vec![look.paint(HEAD, "A"), "B".into()],
            vec!["long cell".into(), look.paint(BAD, "x")],
        ];
        let plain = anstyle_free(&table(&rows));
        assert_eq!(plain, "A          B\nlong cell  x\n");
    }

    fn anstyle_free(text: &str) -> String {
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            plain.push_str(before);
            rest = after.split_once('m').map_or("", |(_, rest)| rest);
        }
        plain + rest
    }

    #[test]
    fn terminal_escapes_are_defused() {
        assert_eq!(printable("plain, grün"), "plain, grün");
        assert_eq!(printable("\u{1b}]0;title\u{7}\r\n"), "\\u{1b}]0;title\\u{7}\\r\\n");
        assert_eq!(printable("abc\u{202e}fed"), "abc\\u{202e}fed");
    }
}
