//! The reconciler as a whole, on a world that is made up: the real controller and workers, tokio's clock stopped.

mod fake;
mod faults;
mod generations;
mod histories;
mod host;
mod pace;
mod sight;
