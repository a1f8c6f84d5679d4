//! Password checks: few at once, not many waiting, off the loop that answers everybody else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::model::auth::{NOBODY, PasswordError, PasswordString, check_string, verify};
use crate::model::names::Secret;

pub struct Checker {
    running: Arc<Semaphore>,
    /// Those that run and those that wait.
    admitted: Semaphore,
    nobody: PasswordString,
}

/// More wait already than should.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl Checker {
    pub fn new(at_once: usize, queue: usize) -> Result<Self, PasswordError> {
        Ok(Self {
            running: Arc::new(Semaphore::new(at_once)),
            // guard: A11-few-wait
            admitted: Semaphore::new(at_once + queue),
            nobody: check_string(NOBODY)?,
        })
    }

    /// Whether it is the password. With nothing to check against it is not, and that takes as long.
    pub async fn check(
        &self,
        password: Secret,
        string: Option<PasswordString>,
        within: Duration,
    ) -> Result<bool, Busy> {
        let _admitted = self.admitted.try_acquire().map_err(|_| Busy)?;
        let somebody = string.is_some();
        // guard: A11-as-long
        let string = string.unwrap_or_else(|| self.nobody.clone());
        let check = async {
            let running = self.running.clone().acquire_owned().await.map_err(|_| Busy)?;
            // The job holds the permit: it goes on when its client leaves, and must count until it is done.
            let job = tokio::task::spawn_blocking(move || {
                let _running = running;
                verify(password.expose(), &string)
            });
            job.await.map_err(|_| Busy)
        };
        let right = tokio::time::timeout(within, check).await.map_err(|_| Busy)??;
        Ok(right & somebody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    fn right() -> PasswordString {
        check_string(&crate::model::auth::hash_password(b"right", b"0123456789abcdef").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn right_wrong_and_nobody() {
        let checker = Checker::new(1, 1).unwrap();
        let minute = Duration::from_secs(60);
        assert_eq!(checker.check(secret("right"), Some(right()), minute).await, Ok(true));
        assert_eq!(checker.check(secret("wrong"), Some(right()), minute).await, Ok(false));
        assert_eq!(checker.check(secret("right"), None, minute).await, Ok(false));
    }

    #[tokio::test]
    async fn those_beyond_the_queue_are_sent_away_at_once() {
        let checker = Checker::new(1, 2).unwrap();
        let string = right();
        let checks = (0..20).map(|_| checker.check(secret("right"), Some(string.clone()), Duration::from_secs(60)));
        let results = futures_util::future::join_all(checks).await;
        assert_eq!(results.iter().filter(|result| **result == Ok(true)).count(), 3);
        assert_eq!(results.iter().filter(|result| **result == Err(Busy)).count(), 17);
        assert_eq!(
            checker
                .check(secret("right"), Some(string), Duration::from_secs(60))
                .await,
            Ok(true)
        );
    }

    #[tokio::test]
    async fn a_wait_ends() {
        let checker = Checker::new(1, 2).unwrap();
        let held = checker.running.clone().acquire_owned().await.unwrap();
        assert_eq!(
            checker.check(secret("right"), None, Duration::from_millis(5)).await,
            Err(Busy)
        );
        drop(held);
        assert_eq!(
            checker.check(secret("right"), None, Duration::from_secs(60)).await,
            Ok(false)
        );
    }
}
