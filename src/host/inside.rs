//! The processes of a command in a container, as they are seen and signalled from outside. Podman's own client can be
//! killed without the command noticing, so whoever ends a command has to reach it itself: its parent is Podman's monitor
//! (conmon), which becomes our child because we ask to be the reaper of what our children leave behind.
//! Called by the process that carries the command, as the workspace's account, which owns the container's user namespace
//! and may therefore signal what is in it (user_namespaces(7)).

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{Pid, Signal, WaitOptions};

/// Takes in what children leave behind (prctl(2), PR_SET_CHILD_SUBREAPER).
pub fn adopt() -> std::io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// The command's first processes: run by our monitors, and belonging to somebody inside. Podman's and the monitor's own
/// helpers are ours.
pub fn first() -> Vec<Pid> {
    let own = rustix::process::geteuid().as_raw();
    let somebody_else =
        |pid: &Pid| fs::metadata(format!("/proc/{}", pid.as_raw_nonzero())).is_ok_and(|metadata| metadata.uid() != own);
    let monitors = children(rustix::process::getpid());
    monitors.into_iter().flat_map(children).filter(somebody_else).collect()
}

/// Signals a first process and all in its group; those that it put into groups of their own hear of it from their shell.
pub fn signal(first: Pid, signal: Signal) {
    // One that has gone meanwhile needs none.
    if rustix::process::kill_process_group(first, signal).is_err() {
        let _ = rustix::process::kill_process(first, signal);
    }
}

/// Kills our children themselves: Podman and its monitors.
pub fn kill_children() {
    for child in children(rustix::process::getpid()) {
        let _ = rustix::process::kill_process(child, Signal::KILL);
    }
}

/// Lets ended children go, but for the one that somebody waits for.
pub fn reap(but: Option<Pid>) {
    for child in children(rustix::process::getpid()) {
        if Some(child) != but {
            let _ = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
        }
    }
}

/// proc_pid_task_children(5): complete as to those that live, if none comes or goes meanwhile; so the caller looks again.
fn children(parent: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero()));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
                .collect::<Vec<_>>()
        })
        .collect()
}
