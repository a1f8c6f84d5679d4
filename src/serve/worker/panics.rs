//! A worker that panics: the fault stays its own workspace's, is counted and shown, and the worker begins anew after a
//! pause. Whatever runs goes on meanwhile.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use super::{Worker, backoff};
use crate::api::State;
use crate::host::Engine;
use crate::model::status::Trouble;

impl<E: Engine> Worker<E> {
    /// Works until the token is cancelled.
    pub async fn run(mut self) {
        let token = self.handle.token.clone();
        // What a pass leaves behind half done is only what it remembers of failures: begin_anew clears it.
        // guard: F34-begins-anew
        while AssertUnwindSafe(self.work(&token)).catch_unwind().await.is_err() {
            self.begin_anew();
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(backoff(self.panics)) => {}
            }
        }
    }

    fn begin_anew(&mut self) {
        self.panics += 1;
        self.failures = 0;
        self.deaths = 0;
        self.alive = None;
        self.start = None;
        self.pause = None;
        tracing::error!(
            workspace = %self.name,
            code = "worker-panicked",
            panics = self.panics,
            "{}: its worker panicked and begins anew",
            self.name
        );
        let findings = self.panic_finding().into_iter().collect();
        self.report.send_modify(|report| {
            report.findings = findings;
            // Nobody waits for what nobody is doing.
            // guard: F34-nobody-waits
            report.served = self.serving;
            if matches!(report.state, State::Starting | State::Stopping) {
                report.state = State::Failed;
                report.since = jiff::Timestamp::now();
            }
        });
    }

    /// Stays for as long as this daemon lives: somebody should hear of it.
    // guard: F34-told
    pub(super) fn panic_finding(&self) -> Option<Trouble> {
        let times = match self.panics {
            0 => return None,
            1 => "once".to_owned(),
            panics => format!("{panics} times"),
        };
        Some(Trouble::new(
            "worker-panicked",
            format!(
                "a fault of csm itself interrupted what looks after this workspace, {times} since the daemon was started"
            ),
            "it goes on by itself; please report what `journalctl -u code-server-multi` says about it",
        ))
    }
}
