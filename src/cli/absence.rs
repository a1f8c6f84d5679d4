//! A daemon that went while `csm` spoke with it, because it is restarted: how long it is expected back, and what a person is
//! told meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::error::{CliError, Kind};

/// How long a lost daemon is looked for.
const RETURN: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(250);
/// A restart takes less. After that a person is told what is waited for.
const NOTICED: Duration = Duration::from_secs(2);
/// A stream that lasted as long was the daemon's return, also if no line came. One that dies at once again and again
/// does not get a new time each time.
const STEADY: Duration = Duration::from_secs(5);

/// The time from the daemon's loss until something is heard of it.
#[derive(Debug, Default)]
pub struct Absence {
    since: Option<Instant>,
    /// When a stream was opened that has not said anything yet.
    opened: Option<Instant>,
    told: bool,
}

impl Absence {
    /// The daemon said something.
    pub fn is_over(&mut self) {
        *self = Self::default();
    }

    /// It took a request whose answer may be long in coming: nothing happens on a quiet host.
    pub fn is_streaming(&mut self) {
        self.opened = Some(Instant::now());
    }

    pub fn lasts(&self) -> bool {
        self.since.is_some()
    }

    /// Counts from the first loss on. The error comes back if it is another one, or if this has lasted too long.
    pub fn goes_on(&mut self, error: CliError) -> Result<CliError, CliError> {
        if self.opened.take().is_some_and(|opened| opened.elapsed() >= STEADY) {
            self.is_over();
        }
        let since = self.since.get_or_insert_with(Instant::now);
        if error.kind() == Kind::Unreachable && since.elapsed() < RETURN {
            Ok(error)
        } else {
            Err(error)
        }
    }

    /// Waits until it is worth to ask again.
    pub async fn wait(&mut self, error: CliError, say: impl FnOnce(&str)) -> Result<(), CliError> {
        let error = self.goes_on(error)?;
        let long = self.since.is_some_and(|since| since.elapsed() >= NOTICED);
        if long && !self.told {
            self.told = true;
            say(&error.waited_for(RETURN));
        }
        sleep(RETRY).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> CliError {
        CliError::Lost {
            doing: "GET /v1/events".to_owned(),
            source: "the stream ended".into(),
        }
    }

    /// How long until it is given up on, and what was said on the way.
    async fn given_up(absence: &mut Absence) -> (Duration, Vec<String>) {
        let (begun, mut said) = (Instant::now(), Vec::new());
        while absence.wait(lost(), |text| said.push(text.to_owned())).await.is_ok() {
            assert!(begun.elapsed() < RETURN * 2, "it is waited for without an end");
        }
        (begun.elapsed(), said)
    }

    /// `csm events -f` on a quiet host: no line for a long time, then the daemon is restarted.
    #[tokio::test(start_paused = true)]
    async fn time_counts_from_the_loss_and_not_from_the_last_line() {
        let mut absence = Absence::default();
        for quiet in [RETURN * 2, STEADY, RETURN] {
            absence.is_streaming();
            sleep(quiet).await;
            assert!(absence.goes_on(lost()).is_ok(), "after {quiet:?} without a line");
        }
        // `csm start`: a line, then a long start.
        absence.is_over();
        sleep(RETURN * 2).await;
        assert!(absence.goes_on(lost()).is_ok());
        assert_eq!(given_up(&mut absence).await.0, RETURN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_dies_at_once_each_time_is_given_up_on() {
        let mut absence = Absence::default();
        let begun = Instant::now();
        loop {
            absence.is_streaming();
            sleep(Duration::from_secs(1)).await;
            if absence.wait(lost(), |_| ()).await.is_err() {
                break;
            }
            assert!(begun.elapsed() < RETURN * 2, "it is waited for without an end");
        }
        assert!(begun.elapsed() >= RETURN, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_is_told_once_and_of_a_restart_nothing() {
        let mut absence = Absence::default();
        let (_, said) = given_up(&mut absence).await;
        let text = "csm: lost the daemon during GET /v1/events: the stream ended; it is waited for, 30 s at most\n";
        assert_eq!(said, [text]);
        absence.is_over();
        assert!(!absence.lasts());
        absence.wait(lost(), |text| panic!("{text}")).await.unwrap();
        assert!(absence.lasts());
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_is_not_waited_out() {
        let strange = CliError::Strange {
            doing: "GET /v1/events".to_owned(),
            source: "no JSON".into(),
        };
        assert!(Absence::default().goes_on(strange).is_err());
    }
}
