//! Where the lab lets the daemon be killed, around every step it takes, and where it lets a worker or the daemon's own loop
//! panic. Compiled in with the feature `failpoints` alone.

#[cfg(feature = "failpoints")]
mod real {
    use crate::model::names::WorkspaceName;

    const DIRECTORY: &str = "/run/code-server-multi";

    /// Counts one boundary of an action. When the number in `kill-at-boundary` has been counted down, the file goes and
    /// the process is killed, as by `kill -9`.
    pub fn boundary() {
        if count("kill-at-boundary") == Some(0) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    /// # Panics
    ///
    /// Before a step for this workspace, as often as the number in `panics-of-NAME` says.
    pub fn step_of(name: &WorkspaceName) {
        assert!(
            count(&format!("panics-of-{name}")).is_none(),
            "the lab asked for a panic"
        );
    }

    /// # Panics
    ///
    /// In the loop that everything hangs on, as often as the number in `panics` says.
    pub fn daemon() {
        assert!(count("panics").is_none(), "the lab asked for a panic");
    }

    /// Takes one from the number in a file, which goes with the last; what is left of it.
    fn count(file: &str) -> Option<u32> {
        let path = std::path::Path::new(DIRECTORY).join(file);
        let left = std::fs::read_to_string(&path)
            .ok()?
            .trim()
            .parse::<u32>()
            .ok()?
            .saturating_sub(1);
        let _ = match left {
            0 => std::fs::remove_file(&path),
            left => std::fs::write(&path, left.to_string()),
        };
        Some(left)
    }
}

#[cfg(not(feature = "failpoints"))]
mod real {
    use crate::model::names::WorkspaceName;

    pub fn boundary() {}

    pub fn step_of(_: &WorkspaceName) {}

    pub fn daemon() {}
}

pub use real::{boundary, daemon, step_of};
