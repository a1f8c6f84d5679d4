//! Lets nginx read a generation and finds out whether it took it.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::store::Link;
use super::{JobResult, NginxError, POLL, Proof, Publisher, Reloader, Settings, UnitState, probe};
use crate::model::nginx::generation::Generation;

/// nginx lets old workers serve for 100 ms beside the new ones (ngx_master_process_cycle), so one answer proves nothing.
const ALONE: Duration = Duration::from_millis(150);

impl<R: Reloader + Sync> Publisher<R> {
    /// The state once it is no longer changing, or `Starting` after the deadline.
    pub(super) async fn settled_state(&self) -> Result<UnitState, NginxError> {
        let deadline = Instant::now() + self.settings.job_deadline;
        loop {
            let state = self.reloader.state(&self.settings.unit).await?;
            if state != UnitState::Starting || Instant::now() >= deadline {
                return Ok(state);
            }
            sleep(POLL).await;
        }
    }

    pub(super) async fn is_in_force(&self, wanted: &Generation) -> Result<bool, NginxError> {
        let digest = Some(wanted.digest());
        let (current, good) = self
            .store(|store| Ok((store.link(Link::Current)?, store.link(Link::Good)?)))
            .await?;
        let known = if wanted.has_probe() { self.served().await } else { good };
        Ok(current.as_deref() == digest && known.as_deref() == digest)
    }

    /// The way back: what nginx says that it serves, else what it was last seen to serve, else no files of ours.
    pub(super) async fn last_good(&self) -> Result<Generation, NginxError> {
        let served = self.served().await;
        let found = self.store(move |store| {
            for digest in [served, store.link(Link::Good)?].into_iter().flatten() {
                if let Some(generation) = store.read(&digest)? {
                    return Ok(Some(generation));
                }
            }
            Ok(None)
        });
        Ok(found.await?.unwrap_or_else(Generation::empty))
    }

    /// Lets nginx read `generation`. On `Ok(Err(reason))` it refused, on `Err` nothing is known; `current` is `before` then.
    pub(super) async fn attempt(
        &self,
        generation: &Generation,
        before: &Generation,
    ) -> Result<Result<Proof, String>, NginxError> {
        self.write(generation).await?;
        self.point(Link::Current, Some(generation)).await?;
        let outcome = self.reload(generation).await;
        if !matches!(outcome, Ok(Ok(_))) {
            self.point(Link::Current, Some(before)).await?;
        }
        outcome
    }

    async fn reload(&self, generation: &Generation) -> Result<Result<Proof, String>, NginxError> {
        let Settings {
            unit,
            job_deadline,
            probe_deadline,
            ..
        } = &self.settings;
        match timeout(*job_deadline, self.reloader.reload(unit)).await {
            Err(_) => return Ok(Err(format!("the reload took more than {} s", job_deadline.as_secs()))),
            Ok(Ok(JobResult::Failed(word))) => {
                let said = self.reloader.complaint(unit).await;
                return Ok(Err(said.unwrap_or_else(|| format!("the reload job ended with {word}"))));
            }
            Ok(Ok(JobResult::Done)) => {}
            Ok(Err(error)) => return Err(error.into()),
        }
        // guard: F7-probe
        if !generation.has_probe() {
            return Ok(Ok(Proof::Reloaded));
        }
        // The job ends before the new workers serve, and also when the master refused the new configuration.
        let deadline = Instant::now() + *probe_deadline;
        let mut since = None;
        loop {
            let served = probe::served(&self.settings.probe_socket).await;
            if served.as_ref().is_ok_and(|digest| digest == generation.digest()) {
                if since.get_or_insert_with(Instant::now).elapsed() >= ALONE {
                    return Ok(Ok(Proof::Served));
                }
            } else {
                since = None;
            }
            if since.is_none() && Instant::now() >= deadline {
                let instead =
                    served.map_or_else(|error| error.to_string(), |digest| format!("it still serves {digest}"));
                return Ok(Err(format!(
                    "not served within {} s: {instead}",
                    probe_deadline.as_secs()
                )));
            }
            sleep(POLL).await;
        }
    }
}
