//! Where log messages go: to the journal with their fields under systemd, else to standard error as text. A journald that
//! takes nothing costs messages and never time; how many is told afterwards.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::host::journal::{self, Journal};
use crate::host::systemd::Chain;

/// Called once, before anything is logged.
pub fn begin(filter: &str) -> Result<(), ParseError> {
    // Not EnvFilter: its filters by field bring a regular expression engine, which is memory in both services.
    let filter: Targets = filter.parse()?;
    // The journal takes fields as well.
    let journal = journal::reads_us().then(Journal::new).and_then(Result::ok);
    let plain = journal
        .is_none()
        .then(|| fmt::layer().with_writer(std::io::stderr).with_ansi(false));
    tracing_subscriber::registry()
        .with(filter)
        .with(journal.map(ToJournal::new))
        .with(plain)
        .init();
    Ok(())
}

/// Not tracing-journald: that waits until journald has taken a message, and everybody would wait with it.
struct ToJournal {
    journal: Journal,
    lost: AtomicU64,
}

impl ToJournal {
    fn new(journal: Journal) -> Self {
        Self {
            journal,
            lost: AtomicU64::new(0),
        }
    }

    fn send(&self, entry: &Entry) {
        if self.journal.send(&entry.fields()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        // guard: F31-told
        if lost > 0 {
            let mut note = Entry::new(Level::WARN, module_path!());
            note.0.push((
                "MESSAGE".to_owned(),
                format!("{lost} messages were lost: the journal took none"),
            ));
            if self.journal.send(&note.fields()).is_err() {
                self.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for ToJournal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata: &Metadata<'_> = event.metadata();
        let mut entry = Entry::new(*metadata.level(), metadata.target());
        event.record(&mut entry);
        entry.say_error();
        self.send(&entry);
    }
}

/// One entry's fields (systemd.journal-fields(7)).
struct Entry(Vec<(String, String)>);

impl Entry {
    fn new(level: Level, target: &str) -> Self {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "5",
            Level::DEBUG => "6",
            Level::TRACE => "7",
        };
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self(vec![
            field("PRIORITY", priority),
            field("SYSLOG_IDENTIFIER", "csm"),
            field("TARGET", target),
        ])
    }

    /// Readers of the journal see messages, and no fields unless they ask for them.
    fn say_error(&mut self) {
        let is = |name: &'static str| move |field: &&(String, String)| field.0 == name;
        let error = self.0.iter().find(is("F_ERROR")).map(|(_, error)| error.clone());
        let message = self.0.iter_mut().find(|(name, _)| name == "MESSAGE");
        if let (Some(error), Some((_, message))) = (error, message)
            && !message.contains(&error)
        {
            // Writing to a String can't fail.
            let _ = write!(message, ": {error}");
        }
    }

    fn fields(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        let name = match field.name() {
            "message" => "MESSAGE".to_owned(),
            // Ours are identifiers; journald takes no other letters.
            name => format!("F_{}", name.to_ascii_uppercase()),
        };
        self.0.push((name, value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &Chain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::Doing as _;

    /// `journalctl -u code-server-multi` showed that something failed, and not why.
    #[test]
    fn a_message_says_the_error_that_it_is_about() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let layer = ToJournal::new(Journal::at(&path).unwrap());
        let said = || {
            let mut buffer = [0; 16 * 1024];
            let length = journald.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let message = text.lines().find_map(|line| line.strip_prefix("MESSAGE="));
            message.unwrap().to_owned()
        };
        let refused = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let error = Err::<(), _>(refused()).doing("write", &path).unwrap_err();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(error = %refused(), "the home is not there");
            assert_eq!(said(), "the home is not there: permission denied");
            tracing::warn!(error = %refused(), "dan: permission denied, so it waits");
            assert_eq!(said(), "dan: permission denied, so it waits");
            tracing::warn!(error = &error as &(dyn std::error::Error + 'static), "no");
            assert_eq!(said(), format!("no: {}", Chain(&error)));
            tracing::info!("nothing happened");
            assert_eq!(said(), "nothing happened");
        });
    }

    /// The daemon stood still with a journald that took nothing more.
    #[test]
    fn a_journald_that_takes_nothing_stops_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        journald.set_nonblocking(true).unwrap();
        let layer = ToJournal::new(Journal::at(&path).unwrap());
        let mut entry = Entry::new(Level::INFO, "here");
        entry.0.push(("MESSAGE".to_owned(), "x".repeat(8000)));
        // unix(7): a queue of a few hundred at the most.
        let sent = 2000;
        for _ in 0..sent {
            layer.send(&entry);
        }
        let lost = layer.lost.load(Ordering::Relaxed);
        assert!(lost > 0 && lost < sent, "{lost}");
        let mut buffer = [0; 16 * 1024];
        while journald.recv(&mut buffer).is_ok() {}
        layer.send(&entry);
        journald.recv(&mut buffer).unwrap();
        let length = journald.recv(&mut buffer).unwrap();
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(said.contains(&format!("MESSAGE={lost} messages were lost")), "{said:?}");
        assert_eq!(layer.lost.load(Ordering::Relaxed), 0);
    }
}
