//! The reconciler as a whole, on a world that is made up: the real controller and workers, tokio's clock stopped.

mod entrypoint;
mod events;
mod fake;
mod faults;
mod files;
mod generations;
mod histories;
pub mod host;
mod pace;
mod slow;
