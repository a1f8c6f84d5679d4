//! What the daemon's two sockets answer from: the controller, the passwords, nginx and the configuration's fate, put
//! together into the wire's shapes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::host::files::{self, ReadError};
use crate::host::{Engine, stats};
use crate::model::config::{self, Config, Problem};
use crate::model::names::{HostName, WorkspaceName};
use crate::model::plan::Fact;
use crate::model::status::Trouble;
use crate::model::unit;
use crate::serve::events::Event;
use crate::serve::nginx::NginxReport;
use crate::serve::passwords::Keeper;
use crate::serve::reconcile::Controller;
use crate::serve::worker::Report;

/// How the configuration file on disk compares with the one in force.
#[derive(Debug, Clone)]
struct Loaded {
    at: jiff::Timestamp,
    problems: Vec<Problem>,
}

pub struct App<E> {
    pub controller: Arc<Controller<E>>,
    pub keeper: Arc<Keeper>,
    pub nginx: watch::Receiver<NginxReport>,
    pub config: watch::Sender<Arc<Config>>,
    /// Whether there is a connection to systemd.
    pub connected: watch::Receiver<bool>,
    /// Ends answers that would otherwise go on for ever.
    pub token: CancellationToken,
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

/// A larger file is refused without being read.
const MOST_READ: u64 = config::SIZE_MAX as u64;

/// Reads and checks a configuration file.
pub fn read_config(path: &std::path::Path) -> Result<Config, Vec<Problem>> {
    let unreadable = |error: &ReadError| {
        vec![Problem {
            key: path.display().to_string(),
            value: None,
            message: format!("can't be read: {}", crate::host::systemd::Chain(error)),
            hint: "name the file with --config, or put it there".to_owned(),
        }]
    };
    let content = files::read_named(path, MOST_READ).map_err(|error| unreadable(&error))?;
    config::parse_bytes(&content)
}

impl<E: Engine> App<E> {
    pub fn new(
        path: PathBuf,
        controller: Arc<Controller<E>>,
        keeper: Arc<Keeper>,
        nginx: watch::Receiver<NginxReport>,
        config: watch::Sender<Arc<Config>>,
        connected: watch::Receiver<bool>,
        token: CancellationToken,
    ) -> Self {
        let loaded = Mutex::new(Loaded {
            at: jiff::Timestamp::now(),
            problems: Vec::new(),
        });
        Self {
            controller,
            keeper,
            nginx,
            config,
            connected,
            token,
            path,
            loaded,
        }
    }

    /// Reads the configuration again. A bad one changes nothing but the status.
    pub fn reload(&self) -> Result<bool, Vec<Problem>> {
        let read = read_config(&self.path);
        let mut loaded = self.loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match read {
            Ok(config) => {
                *loaded = Loaded {
                    at: jiff::Timestamp::now(),
                    problems: Vec::new(),
                };
                drop(loaded);
                let changed = self.controller.configure(config);
                self.config.send_replace(self.controller.config());
                self.controller.kick_image();
                if changed {
                    tracing::info!("configuration read");
                    self.controller.events().tell(Event::ConfigurationRead);
                }
                Ok(changed)
            }
            Err(problems) => {
                // The same file is looked at again with each change around it.
                if loaded.problems != problems {
                    self.controller.events().tell(Event::ConfigurationRefused {
                        problems: problems.len(),
                    });
                    for problem in &problems {
                        tracing::error!(key = problem.key, "{}: {}", problem.key, problem.message);
                    }
                    tracing::error!(
                        problems = problems.len(),
                        "configuration refused, the last good one stays in force"
                    );
                }
                loaded.problems.clone_from(&problems);
                Err(problems)
            }
        }
    }

    pub fn status(&self) -> api::Status {
        let reports = self.controller.reports();
        let workspaces = reports
            .iter()
            .filter(|(_, report)| !report.borrow().gone)
            .map(|(name, report)| with_memory(self.workspace(name, &report.borrow())))
            .collect();
        let loaded = self
            .loaded
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        api::Status {
            api: api::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: api::ConfigurationStatus {
                path: self.path.display().to_string(),
                loaded_at: loaded.at.to_string(),
                problems: loaded.problems.iter().map(wire_problem).collect(),
            },
            image: self.image(),
            nginx: self.nginx_status(),
            degraded: self.degraded(),
            workspaces,
        }
    }

    fn image(&self) -> api::ImageStatus {
        let report = self.controller.image().borrow().clone();
        let state = match (&report.fact, report.doing, &report.trouble) {
            (_, Some(_), _) => "loading",
            (Fact::Known(Some(_)), None, _) => "present",
            (_, None, Some(trouble)) if trouble.code == "image-missing" => "missing",
            (_, None, Some(_)) => "failed",
            (Fact::Known(None), None, None) => "missing",
            (Fact::Unknown(_), None, None) => "unknown",
        };
        let unseen = match &report.fact {
            Fact::Unknown(why) => Some(Trouble::new(
                "image-unknown",
                why.clone(),
                "it is looked at again in a moment",
            )),
            Fact::Known(_) => None,
        };
        api::ImageStatus {
            name: self.controller.config().image.name.to_string(),
            id: report.fact.known().cloned().flatten().map(|id| id.to_string()),
            state: state.to_owned(),
            finding: report.trouble.or(unseen).as_ref().map(finding),
        }
    }

    fn nginx_status(&self) -> api::NginxStatus {
        let report = self.nginx.borrow();
        api::NginxStatus {
            generation: report.generation.clone(),
            finding: report.trouble.as_ref().map(finding),
        }
    }

    pub fn degraded(&self) -> Vec<api::Finding> {
        let lost = Trouble::new(
            "systemd-unreachable",
            "there is no connection to systemd: what runs goes on, nothing can be started or stopped",
            "`systemctl status dbus`; the daemon tries again by itself",
        );
        (!*self.connected.borrow())
            .then(|| finding(&lost))
            .into_iter()
            .collect()
    }

    /// The status of one workspace; nothing for a name that is neither configured nor present.
    pub fn workspace_status(&self, name: &WorkspaceName) -> Option<api::WorkspaceStatus> {
        self.reported(name).map(with_memory)
    }

    /// Whether a name is configured or present.
    pub fn knows(&self, name: &WorkspaceName) -> bool {
        self.controller.report(name).is_some_and(|report| !report.borrow().gone)
    }

    /// The same without what is not in a report.
    fn reported(&self, name: &WorkspaceName) -> Option<api::WorkspaceStatus> {
        let report = self.controller.report(name)?;
        let report = report.borrow();
        (!report.gone).then(|| self.workspace(name, &report))
    }

    fn workspace(&self, name: &WorkspaceName, report: &Report) -> api::WorkspaceStatus {
        let desired = self.controller.desired();
        let config = self.controller.config();
        let wanted = desired.workspaces.get(name);
        let mut findings: Vec<api::Finding> = report.findings.iter().map(finding).collect();
        for unseen in &report.unknown {
            let trouble = Trouble::new("unseen", unseen.clone(), "it is looked at again in a moment");
            findings.push(finding(&trouble));
        }
        if let Some(trouble) = self
            .keeper
            .current()
            .borrow()
            .get(name)
            .and_then(|password| password.trouble.as_ref())
        {
            // What it says of the file is said already where the file keeps the workspace from being started.
            findings.retain(|own| own.code != trouble.code);
            findings.push(finding(trouble));
        }
        if let Some(trouble) = self.nginx.borrow().culprits.get(name) {
            findings.push(finding(trouble));
        }
        let memory_max = wanted.map_or(0, |workspace| workspace.limits.memory_max);
        findings.extend(
            self.controller
                .events()
                .oom_trouble(name, memory_max)
                .as_ref()
                .map(finding),
        );
        let limits = wanted
            .map(|workspace| workspace.limits.clone())
            .or_else(|| report.running.as_ref().map(|running| running.live.limits.clone()));
        let intent = wanted.map(|workspace| workspace.intent.clone());
        api::WorkspaceStatus {
            name: name.to_string(),
            url: config.url(name),
            state: report.state,
            busy: self.controller.busy(name),
            since: report.since.to_string(),
            account: wanted
                .map(|workspace| workspace.account.to_string())
                .unwrap_or_default(),
            unit: unit::service_name(name),
            findings,
            pending: report.pending.iter().map(|part| part.word().to_owned()).collect(),
            intent: api::IntentStatus {
                running: intent.as_ref().is_some_and(|intent| intent.running),
                by: intent.as_ref().map_or("default", |intent| intent.by.word()).to_owned(),
                why: intent
                    .as_ref()
                    .map_or("not in the configuration", |intent| intent.why.as_str())
                    .to_owned(),
                at: intent.and_then(|intent| intent.at),
            },
            limits: limits.map(|limits| wire_limits(&limits)).unwrap_or_default(),
            image: report
                .running
                .as_ref()
                .and_then(|running| running.spec.as_ref())
                .map(|spec| spec.image.clone()),
            main_pid: report.running.as_ref().and_then(|running| running.main_pid),
            memory_bytes: None,
        }
    }

    /// What the gateway may know of a workspace.
    pub fn gateway_view(&self, name: &WorkspaceName) -> Option<api::GatewayWorkspace> {
        let status = self.reported(name)?;
        let config = self.controller.config();
        // One that is being put away has no visitors any more.
        config.workspaces.get(name)?;
        let password = self
            .keeper
            .current()
            .borrow()
            .get(name)
            .and_then(|password| password.string.clone());
        Some(api::GatewayWorkspace {
            name: status.name,
            host: HostName::of_workspace(name, &config.domain).to_string(),
            state: status.state,
            message: status
                .findings
                .into_iter()
                // What ended inside is none of a visitor's business.
                .find(|finding| finding.code != "oom-killed")
                .map(|finding| finding.message)
                .unwrap_or_default(),
            password,
        })
    }

    pub fn plan_wire(plan: &crate::model::plan::Plan) -> api::Plan {
        let words = |steps: &[crate::model::plan::Step]| steps.iter().map(crate::model::plan::Step::describe).collect();
        api::Plan {
            api: api::VERSION,
            host: plan.host.iter().map(|step| step.describe().to_owned()).collect(),
            workspaces: plan
                .workspaces
                .iter()
                .filter(|(_, own)| !own.steps.is_empty())
                .map(|(name, own)| (name.to_string(), words(&own.steps)))
                .collect(),
            pending: plan
                .workspaces
                .iter()
                .filter(|(_, own)| !own.pending.is_empty())
                .map(|(name, own)| {
                    (
                        name.to_string(),
                        own.pending.iter().map(|part| part.word().to_owned()).collect(),
                    )
                })
                .collect(),
        }
    }
}

/// Read when somebody asks: in a report it would be old, and make every look one that showed something new.
fn with_memory(status: api::WorkspaceStatus) -> api::WorkspaceStatus {
    // Most of a thousand don't run, and the kernel is not asked a thousand times for what is not there.
    let idle = matches!(status.state, api::State::Disabled | api::State::Stopped);
    api::WorkspaceStatus {
        memory_bytes: (!idle).then(|| stats::memory(&status.unit)).flatten(),
        ..status
    }
}

pub fn finding(trouble: &Trouble) -> api::Finding {
    api::Finding {
        code: trouble.code.to_owned(),
        message: trouble.message.clone(),
        remediation: trouble.remediation.clone(),
    }
}

pub fn wire_problem(problem: &Problem) -> api::ConfigProblem {
    api::ConfigProblem {
        key: problem.key.clone(),
        value: problem.value.clone(),
        message: problem.message.clone(),
        hint: problem.hint.clone(),
    }
}

fn wire_limits(limits: &config::Limits) -> api::LimitsStatus {
    api::LimitsStatus {
        memory_max: limits.memory_max,
        memory_high: limits.memory_high,
        memory_low: limits.memory_low,
        cpu_quota_usec: limits.cpu_quota_usec,
        cpu_weight: limits.cpu_weight,
        tasks_max: limits.tasks_max,
    }
}
