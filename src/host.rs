//! HOST: what the reconciler needs from a machine, as a trait, and the real thing made of the adapters below.
//! The trait exists so that tests can put a machine in its place that fails at any call.

pub mod accounts;
pub mod addresses;
pub mod disk;
pub mod editor;
pub mod exec;
pub mod facts;
pub mod failures;
pub mod files;
pub mod homes;
pub mod images;
pub mod inside;
pub mod intents;
pub mod journal;
pub mod kills;
pub mod listing;
pub mod live;
pub mod logs;
pub mod nginx;
pub mod secrets;
pub mod stats;
pub mod systemd;
pub mod watch;

use std::collections::BTreeSet;
use std::future::Future;

use crate::model::desired::{Desired, Workspace};
use crate::model::names::WorkspaceName;
use crate::model::plan::{HostSighting, HostStep, Sighting, Step};
use crate::model::status::Trouble;

/// A step or a look that did not work.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct EngineError {
    /// What was attempted, on what.
    pub doing: String,
    /// Stable code and way out, for the status.
    pub trouble: Trouble,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The verbs of a machine that carries workspaces. Every call has a deadline of its own, but the wait for an editor:
/// who waits gives it up.
pub trait Engine: Send + Sync + 'static {
    /// Looks at what all workspaces share.
    fn observe_host(&self, desired: &Desired) -> impl Future<Output = HostSighting> + Send;

    /// Looks at one workspace, whether the configuration has it or not.
    fn observe(&self, name: &WorkspaceName, wanted: Option<&Workspace>) -> impl Future<Output = Sighting> + Send;

    /// Names of all workspaces of which anything of ours runs, is mounted or is linked.
    fn present(&self) -> impl Future<Output = Result<BTreeSet<WorkspaceName>, EngineError>> + Send;

    fn apply_host(&self, desired: &Desired, step: &HostStep) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Carries out one step and waits for its result.
    fn apply(&self, name: &WorkspaceName, step: &Step) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// A step was given up in the middle: ends what may still be under way for it and can't be seen by a look.
    fn given_up(&self, _name: &WorkspaceName) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
