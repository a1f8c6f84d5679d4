//! Keeps nginx serving what the configuration says: renders, publishes, and tries again when nginx refused. Starting and
//! stopping workspaces never comes here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::host::nginx::{DROP_IN_MISSING, NginxError, Proof, Publisher, Settings};
use crate::host::systemd::{Chain, Event, Systemd};
use crate::model::config::{Config, Nginx};
use crate::model::names::WorkspaceName;
use crate::model::nginx::render;
use crate::model::status::Trouble;
use crate::serve::failpoint;

const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What nginx serves, and what keeps it from serving what it should.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NginxReport {
    pub generation: Option<String>,
    pub trouble: Option<Trouble>,
    /// The workspaces whose file nginx refused.
    pub culprits: BTreeMap<WorkspaceName, Trouble>,
    /// What there is to do, in words.
    pub steps: Vec<String>,
}

/// Publishes until the token is cancelled.
pub async fn run(
    systemd: Arc<Systemd>,
    mut config: watch::Receiver<Arc<Config>>,
    report: watch::Sender<NginxReport>,
    token: CancellationToken,
) {
    let mut events = systemd.events();
    let mut publisher: Option<(Nginx, Publisher<Arc<Systemd>>)> = None;
    let mut failures = 0_u32;
    loop {
        let wanted = config.borrow_and_update().clone();
        let own = match publisher.take() {
            Some(own) if own.0 == wanted.nginx => own,
            _ => (
                wanted.nginx.clone(),
                Publisher::new(Settings::new(&wanted.nginx), systemd.clone()),
            ),
        };
        let found = pass(&own.1, &wanted).await;
        publisher = Some(own);
        let failed = !found.steps.is_empty();
        failures = if failed { failures + 1 } else { 0 };
        if let Some(trouble) = found
            .trouble
            .as_ref()
            .filter(|trouble| report.borrow().trouble.as_ref() != Some(trouble))
        {
            tracing::warn!(code = trouble.code, "nginx: {}", trouble.message);
        }
        report.send_replace(found);
        let pause = if failed {
            FIRST_PAUSE
                .saturating_mul(1 << failures.saturating_sub(1).min(5))
                .min(LONGEST_PAUSE)
        } else {
            Duration::MAX
        };
        tokio::select! {
            () = token.cancelled() => return,
            changed = config.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
            // While it fails, our own reloads are what systemd tells of; the pause is what counts then.
            () = concerned(&mut events, &wanted.nginx.unit), if !failed => {}
        }
    }
}

/// Waits until something happened to nginx's unit, or may have.
async fn concerned(events: &mut broadcast::Receiver<Event>, unit: &str) {
    loop {
        match events.recv().await {
            // guard: F7-noticed
            Ok(Event::Unit(name)) if name == unit => return,
            Ok(Event::Unit(_) | Event::Lost) => {}
            Ok(Event::Resync) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

async fn pass(publisher: &Publisher<Arc<Systemd>>, config: &Config) -> NginxReport {
    let probe = match publisher.can_probe().await {
        Ok(probe) => probe,
        Err(error) => return failed(None, &error),
    };
    let generation = match render(config, probe) {
        Ok(generation) => generation,
        Err(error) => {
            let (code, remediation) = error.remediation();
            let trouble = Trouble::new(code, error.to_string(), remediation);
            return NginxReport {
                trouble: Some(trouble),
                steps: vec![STEP.to_owned()],
                ..NginxReport::default()
            };
        }
    };
    failpoint::boundary();
    let published = publisher.publish(&generation).await;
    failpoint::boundary();
    match published {
        Ok(published) => {
            let (code, remediation) = DROP_IN_MISSING;
            let blind = "nginx's unit lacks the drop-in, so a reload can't be proved";
            let stopped = (published.proof == Proof::NotRunning).then(|| {
                let unit = &config.nginx.unit;
                let what = format!("{unit} is not running");
                Trouble::new("nginx-stopped", what, format!("systemctl start {unit}"))
            });
            NginxReport {
                generation: Some(published.digest),
                trouble: stopped.or_else(|| (!probe).then(|| Trouble::new(code, blind, remediation))),
                ..NginxReport::default()
            }
        }
        Err(error) => {
            let observed = publisher.observe().await;
            failed(
                observed.served.ok().flatten().or(observed.current.ok().flatten()),
                &error,
            )
        }
    }
}

const STEP: &str = "publish the workspaces' servers to nginx";

fn failed(generation: Option<String>, error: &NginxError) -> NginxReport {
    let (code, remediation) = error.remediation();
    let trouble = Trouble::new(code, Chain(error).to_string(), remediation);
    let culprits = match error {
        NginxError::Refused { culprits, .. } => culprits
            .iter()
            .filter_map(|culprit| culprit.workspace.clone())
            .collect(),
        _ => Vec::new(),
    };
    NginxReport {
        generation,
        culprits: culprits.into_iter().map(|name| (name, trouble.clone())).collect(),
        trouble: Some(trouble),
        steps: vec![STEP.to_owned()],
    }
}
