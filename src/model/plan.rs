//! PLAN: what was seen against what should be, and the steps that make the difference go away.
//! Pure: the same facts give the same steps; after they are applied there are none; a fact that could not be seen never
//! makes anything stop or go away.

use std::collections::BTreeMap;

use crate::model::account::{Account, AccountProblem};
use crate::model::config::{Apply, Pull};
use crate::model::desired::{Desired, Machine, Workspace};
use crate::model::names::{ImageId, WorkspaceName};
use crate::model::oom::Oom;
use crate::model::status::Trouble;
use crate::model::systemd::UnitSpec;
use crate::model::unit::{self, Live, MOUNTS, Mount, Part, SpecHash};

/// Something that was looked at. Failure to look is not absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<T> {
    Known(T),
    /// Why it could not be seen.
    Unknown(String),
}

impl<T> Fact<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

/// What was seen of one workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub service: Fact<Service>,
    /// Description of each mount unit that is up.
    pub mounts: Fact<BTreeMap<Mount, String>>,
    /// Whether the tmpfs for the socket holds something left by an earlier run.
    pub leftovers: Fact<bool>,
    pub front: Fact<bool>,
    /// Whether the editor answers on its socket; looked at only while the service runs.
    pub answers: Fact<bool>,
    /// The following five are looked at only for workspaces of the configuration.
    pub account: Fact<Result<Account, AccountProblem>>,
    pub directories: Fact<Directories>,
    /// What is wrong with the files that the configuration names for it.
    pub files: Fact<Vec<Trouble>>,
    /// Whether a file of `secret_environment` holds something else by now than the running workspace was given.
    pub rotated: Fact<bool>,
}

/// A workspace's service as systemd shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    Absent,
    Starting,
    Stopping,
    Running(Box<Running>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Nothing when the Description is not one of ours.
    pub spec: Option<SpecHash>,
    pub live: Live,
    pub frozen: bool,
    pub main_pid: Option<u32>,
    /// Which run of the service this is: when its main process was started, microseconds since 1970.
    pub started: Option<u64>,
    /// Nothing where the host doesn't count it.
    pub oom: Option<Oom>,
}

/// The home's directories and the mount points in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directories {
    InPlace,
    ToMake,
    /// Something else is where a directory has to be, or another account owns it; never touched.
    Obstructed(Trouble),
}

/// What was seen of what all workspaces share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSighting {
    /// The id that the configured image has in the shared store.
    pub image: Fact<Option<ImageId>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub host: HostSighting,
    /// Every workspace of the configuration, and every other one that something of ours was found of.
    pub workspaces: BTreeMap<WorkspaceName, Sighting>,
}

/// One step for one workspace, complete: whoever carries it out decides nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    UnlinkFront,
    Stop,
    Unmount(Mount),
    MakeDirectories(Box<Workspace>, Account),
    Mount(Mount, UnitSpec),
    WriteSecrets(Box<Workspace>, Account),
    Start(Box<UnitSpec>),
    SetLive(Live),
    AwaitReady,
    LinkFront,
}

impl Step {
    /// In words, for `csm plan` and the log.
    pub fn describe(&self) -> String {
        match self {
            Self::UnlinkFront => "take the editor off the web".to_owned(),
            Self::Stop => "stop the container".to_owned(),
            Self::Unmount(mount) => format!("unmount {}", mount.word()),
            Self::MakeDirectories(..) => "make the home's directories".to_owned(),
            Self::Mount(mount, _) => format!("mount {}", mount.word()),
            Self::WriteSecrets(..) => "write the secrets".to_owned(),
            Self::Start(_) => "start the container".to_owned(),
            Self::SetLive(_) => "set the limits".to_owned(),
            Self::AwaitReady => "wait until the editor answers".to_owned(),
            Self::LinkFront => "put the editor on the web".to_owned(),
        }
    }

    /// Whether it takes something away. Never planned on a fact that is Unknown.
    pub fn takes_away(&self) -> bool {
        matches!(self, Self::UnlinkFront | Self::Stop | Self::Unmount(_))
    }
}

/// What to do for one workspace, and what keeps it from being as it should.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkspacePlan {
    pub steps: Vec<Step>,
    /// Why it can't be started. Empty while it runs.
    pub blocked: Vec<Trouble>,
    /// What is wrong although it runs, and will keep it from being started again.
    pub ailing: Vec<Trouble>,
    /// What waits for a restart.
    pub pending: Vec<Part>,
    /// Facts that could not be seen, in words.
    pub unknown: Vec<String>,
}

impl WorkspacePlan {
    pub fn starts(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Start(_)))
    }
}

/// A step for what all workspaces share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostStep {
    LoadImage,
    PullImage,
}

impl HostStep {
    pub fn describe(&self) -> &'static str {
        match self {
            Self::LoadImage => "load the image from its archive",
            Self::PullImage => "fetch the image",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub host: Vec<HostStep>,
    pub workspaces: BTreeMap<WorkspaceName, WorkspacePlan>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.host.is_empty() && self.workspaces.values().all(|plan| plan.steps.is_empty())
    }
}

/// The whole plan: what there is to do for the host, then for each workspace.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let workspaces = observed
        .workspaces
        .iter()
        .map(|(name, seen)| {
            let wanted = desired.workspaces.get(name);
            (
                name.clone(),
                workspace(wanted, seen, &observed.host.image, &desired.machine),
            )
        })
        .collect();
    Plan {
        host: host(desired, &observed.host).0,
        workspaces,
    }
}

/// Steps for the image, or why there is none and nothing can be done about it.
pub fn host(desired: &Desired, seen: &HostSighting) -> (Vec<HostStep>, Option<Trouble>) {
    match (&seen.image, &desired.image.archive, desired.image.pull) {
        (Fact::Unknown(_) | Fact::Known(Some(_)), _, _) => (Vec::new(), None),
        (Fact::Known(None), Some(_), _) => (vec![HostStep::LoadImage], None),
        (Fact::Known(None), None, Pull::Missing) => (vec![HostStep::PullImage], None),
        (Fact::Known(None), None, Pull::Never) => (Vec::new(), Some(Trouble::image_missing(&desired.image.name))),
    }
}

/// Steps for one workspace; `wanted` is nothing for one that the configuration no longer has.
pub fn workspace(
    wanted: Option<&Workspace>,
    seen: &Sighting,
    image: &Fact<Option<ImageId>>,
    machine: &Machine,
) -> WorkspacePlan {
    let mut plan = WorkspacePlan {
        unknown: unknowns(wanted.is_some(), seen, image),
        ..WorkspacePlan::default()
    };
    let Fact::Known(service) = &seen.service else {
        return plan;
    };
    let running = wanted.filter(|workspace| workspace.should_run());
    match (running, service) {
        (Some(workspace), Service::Absent) => start(&mut plan, workspace, seen, image, machine),
        (Some(workspace), Service::Running(running)) => keep(&mut plan, workspace, running, seen, image, machine),
        // A job is under way; its end is a reason to look again.
        (Some(_), Service::Starting | Service::Stopping) => {}
        (None, service) => {
            if seen.front == Fact::Known(true) {
                plan.steps.push(Step::UnlinkFront);
            }
            // guard: F22-stopped
            if matches!(service, Service::Running(_) | Service::Starting) {
                plan.steps.push(Step::Stop);
            }
            match wanted.filter(|workspace| workspace.enabled) {
                // Stopped, but one call away from running: its mounts are kept ready.
                Some(workspace) if matches!(service, Service::Absent) => {
                    prepare(&mut plan, workspace, seen, machine);
                }
                Some(_) => {}
                None => put_away(&mut plan, seen, service),
            }
        }
    }
    plan
}

/// What there would be to do if a running workspace were stopped now: nothing is stopped for a restart that would then be
/// refused.
pub fn after_stop(
    workspace: &Workspace,
    seen: &Sighting,
    image: &Fact<Option<ImageId>>,
    machine: &Machine,
) -> WorkspacePlan {
    let stopped = Sighting {
        service: Fact::Known(Service::Absent),
        leftovers: Fact::Known(false),
        ..seen.clone()
    };
    self::workspace(Some(workspace), &stopped, image, machine)
}

fn unknowns(wanted: bool, seen: &Sighting, image: &Fact<Option<ImageId>>) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut note = |what: &str, why: Option<&String>| {
        if let Some(why) = why {
            unknown.push(format!("{what}: {why}"));
        }
    };
    note("service", why(&seen.service));
    note("mounts", why(&seen.mounts));
    note("front link", why(&seen.front));
    if wanted {
        note("account", why(&seen.account));
        if !matches!(seen.account, Fact::Known(Err(_))) {
            note("directories", why(&seen.directories));
        }
        note("files", why(&seen.files));
        note("secrets", why(&seen.rotated));
        note("image", why(image));
        note("socket directory", why(&seen.leftovers));
        note("editor", why(&seen.answers));
    }
    unknown
}

fn why<T>(fact: &Fact<T>) -> Option<&String> {
    match fact {
        Fact::Known(_) => None,
        Fact::Unknown(why) => Some(why),
    }
}

/// Everything but the start itself: directories and mounts. Says whether all of it could be planned.
fn prepare(plan: &mut WorkspacePlan, workspace: &Workspace, seen: &Sighting, machine: &Machine) -> bool {
    // First: without an account that is right nobody can say whose the directories should be.
    let account = match &seen.account {
        Fact::Known(Ok(account)) => account,
        Fact::Known(Err(problem)) => {
            plan.blocked.push(Trouble::from(problem));
            return false;
        }
        Fact::Unknown(_) => return false,
    };
    let (Fact::Known(directories), Fact::Known(mounts), Fact::Known(leftovers)) =
        (&seen.directories, &seen.mounts, &seen.leftovers)
    else {
        return false;
    };
    match directories {
        Directories::InPlace => {}
        Directories::ToMake => {
            plan.steps
                .push(Step::MakeDirectories(Box::new(workspace.clone()), account.clone()));
        }
        Directories::Obstructed(trouble) => {
            plan.blocked.push(trouble.clone());
            return false;
        }
    }
    for mount in MOUNTS {
        let spec = unit::mount(mount, workspace, account, machine);
        let up = mounts.get(&mount);
        // One made from other facts, or a socket directory that isn't empty, is made anew.
        let right = up.is_some_and(|description| description == unit::description(&spec));
        if right && !(mount == Mount::Run && *leftovers) {
            continue;
        }
        if up.is_some() {
            plan.steps.push(Step::Unmount(mount));
        }
        plan.steps.push(Step::Mount(mount, spec));
    }
    true
}

fn start(
    plan: &mut WorkspacePlan,
    workspace: &Workspace,
    seen: &Sighting,
    image: &Fact<Option<ImageId>>,
    machine: &Machine,
) {
    // guard: F18-front-link-planned
    if seen.front == Fact::Known(true) {
        plan.steps.push(Step::UnlinkFront);
    }
    if !prepare(plan, workspace, seen, machine) {
        return;
    }
    let (Fact::Known(files), Fact::Known(image), Fact::Known(Ok(account))) = (&seen.files, image, &seen.account) else {
        return;
    };
    plan.blocked.extend(files.iter().cloned());
    let Some(image) = image else {
        plan.blocked.push(Trouble::image_absent());
        return;
    };
    if !plan.blocked.is_empty() {
        return;
    }
    let (spec, _) = unit::service(workspace, account, machine, image);
    plan.steps
        .push(Step::WriteSecrets(Box::new(workspace.clone()), account.clone()));
    plan.steps.push(Step::Start(Box::new(spec)));
    plan.steps.push(Step::AwaitReady);
    plan.steps.push(Step::LinkFront);
}

/// It runs and should. Limits are set live; what needs a restart is pending, unless the admin wants it now.
fn keep(
    plan: &mut WorkspacePlan,
    workspace: &Workspace,
    running: &Running,
    seen: &Sighting,
    image: &Fact<Option<ImageId>>,
    machine: &Machine,
) {
    // While the configured image isn't there, what runs is compared with itself: the other parts can still differ.
    let known = image.known().cloned().flatten();
    let own = || ImageId::parse(&running.spec.as_ref()?.image).ok();
    if let (Fact::Known(Ok(account)), Some(image)) = (&seen.account, known.or_else(own)) {
        let (_, spec) = unit::service(workspace, account, machine, &image);
        plan.pending = match &running.spec {
            Some(own) => own.differences(&spec),
            None => vec![Part::Runtime],
        };
    }
    if seen.rotated == Fact::Known(true) {
        plan.pending.push(Part::Secrets);
    }
    plan.ailing = seen.files.known().cloned().unwrap_or_default();
    if !plan.pending.is_empty() && workspace.apply == Apply::Now && after_stop(workspace, seen, image, machine).starts()
    {
        if seen.front == Fact::Known(true) {
            plan.steps.push(Step::UnlinkFront);
        }
        plan.steps.push(Step::Stop);
        return;
    }
    let live = Live::of(workspace, machine);
    // guard: I3-live
    if running.live != live {
        plan.steps.push(Step::SetLive(live));
    }
    if running.frozen {
        return;
    }
    if seen.answers == Fact::Known(false) {
        plan.steps.push(Step::AwaitReady);
    }
    if seen.front == Fact::Known(false) && seen.answers.known().is_some() {
        plan.steps.push(Step::LinkFront);
    }
}

/// The workspace is gone from the configuration, or disabled: its mounts go once its service has. Its home stays.
fn put_away(plan: &mut WorkspacePlan, seen: &Sighting, service: &Service) {
    // guard: F22-stopped-mounts
    if matches!(service, Service::Stopping) {
        return;
    }
    if let Fact::Known(mounts) = &seen.mounts {
        plan.steps
            .extend(mounts.keys().rev().map(|mount| Step::Unmount(*mount)));
    }
}

#[cfg(test)]
mod tests;
