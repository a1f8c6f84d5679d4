//! Where the lab lets the daemon be killed: around every step it takes. Compiled in with the feature `failpoints` alone.

/// Counts one boundary of an action. When the number in `/run/code-server-multi/kill-at-boundary` has been counted
/// down, the file goes and the process is killed, as by `kill -9`.
#[cfg(feature = "failpoints")]
pub fn boundary() {
    const FILE: &str = "/run/code-server-multi/kill-at-boundary";
    let Some(left) = std::fs::read_to_string(FILE)
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
    else {
        return;
    };
    if left > 1 {
        let _ = std::fs::write(FILE, (left - 1).to_string());
        return;
    }
    let _ = std::fs::remove_file(FILE);
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

#[cfg(not(feature = "failpoints"))]
pub fn boundary() {}
