//! Rules about what a right value may still not be: places that root must not follow or that are the system's, and
//! variables that belong to the container, its shell or code-server.

use std::path::Path;

use crate::model::config::document::Wrong;
use crate::model::layout::{RUN, STATE};
use crate::model::names::VariableName;

/// Generations of snippets, where nothing else is configured.
pub(super) const SNIPPET_DIR: &str = "/var/lib/code-server-multi/nginx";

/// Below these nothing may be placed: the system's, or gone after a reboot, or anybody's to write.
const SYSTEM: [&str; 17] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/nix", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp",
    "/usr", "/var/log", "/var/run", "/var/tmp",
];

/// These hold what others put there: their subdirectories may serve, they themselves may not.
const SHARED: [&str; 10] = [
    "/var/backups",
    "/var/cache",
    "/var/empty",
    "/var/lib",
    "/var/local",
    "/var/lock",
    "/var/mail",
    "/var/opt",
    "/var/spool",
    "/var/www",
];

/// Where everybody may create files (hier(7)): a name there proves nothing about who wrote it.
const ANYBODYS: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Where homes may be: `workspace_base` gets a mode and a directory for each workspace.
pub(super) fn workspace_base(path: &Path) -> Result<(), Wrong> {
    let hint = "take a directory of its own, for example \"/var/lib/vscode\" or \"/srv/workspaces\"";
    if path.components().count() < 3 {
        return Err(Wrong::new(
            "a top-level directory, whose owner and mode are not this service's to set",
            hint,
        ));
    }
    if let Some(system) = SYSTEM.iter().find(|system| path.starts_with(system)) {
        return Err(Wrong::new(
            format!("below {system}, which is the system's or does not last"),
            hint,
        ));
    }
    if SHARED.iter().any(|shared| path == Path::new(shared)) {
        return Err(Wrong::new("a directory that holds what others put there", hint));
    }
    if path.starts_with(STATE) || Path::new(STATE).starts_with(path) {
        return Err(Wrong::new(format!("overlaps {STATE}, the daemon's own state"), hint));
    }
    Ok(())
}

/// Where generations of snippets may be.
pub(super) fn snippet_dir(path: &Path, workspace_base: Option<&Path>) -> Result<(), Wrong> {
    let hint = "take a directory of its own, for example \"/var/lib/code-server-multi/nginx\"";
    trusted(path, workspace_base, hint)?;
    if path.starts_with(STATE) && !path.starts_with(SNIPPET_DIR) {
        return Err(Wrong::new("a directory that the daemon uses for something else", hint));
    }
    if path.components().count() < 3
        || path.starts_with("/nix")
        || path.starts_with("/proc")
        || path.starts_with("/sys")
    {
        return Err(Wrong::new("not a place where snippets can be written", hint));
    }
    Ok(())
}

/// Where a password, an API key or a certificate's key may be read from.
pub(super) fn secret(path: &Path, workspace_base: Option<&Path>) -> Result<(), Wrong> {
    let hint =
        "put it where only root can write and read, for example \"/run/secrets/NAME\" or below /etc/code-server-multi";
    if path.starts_with("/nix/store") {
        return Err(Wrong::new(
            "in the Nix store, which everybody on the machine can read",
            hint,
        ));
    }
    trusted(path, workspace_base, hint)
}

/// Refuses a place that a workspace, or anybody, can write: root must not follow a path through it.
pub(super) fn trusted(path: &Path, workspace_base: Option<&Path>, hint: &str) -> Result<(), Wrong> {
    // guard: A17-no-file
    if workspace_base.is_some_and(|base| path.starts_with(base)) {
        return Err(Wrong::new("below workspace_base, where workspaces can write", hint));
    }
    if path.starts_with(Path::new(STATE).join("accounts")) || path.starts_with(RUN) {
        return Err(Wrong::new(
            "in a directory of this service that workspaces can write",
            hint,
        ));
    }
    if let Some(place) = ANYBODYS.iter().find(|place| path.starts_with(place)) {
        return Err(Wrong::new(
            format!("below {place}, where anybody can create files"),
            hint,
        ));
    }
    Ok(())
}

/// Why a variable is not the admin's to set, and what to do instead.
pub(super) fn variable(name: &VariableName) -> Result<(), Wrong> {
    let (message, hint) = match name.as_str() {
        "HOME" | "USER" | "LOGNAME" | "PWD" | "OLDPWD" | "HOSTNAME" => (
            "set by the container's layout",
            "leave it out; the home is /home/coder, the user coder",
        ),
        // The value would replace the image's, and the editor is found on it.
        "PATH" => (
            "replaces the image's PATH, on which code-server is found",
            "extend PATH in a shell profile in the home",
        ),
        // Some shells can't export these, and would end before the editor starts.
        "_" | "IFS" | "UID" | "EUID" | "PPID" | "ENV" | "BASH_ENV" | "SHELLOPTS" | "BASHOPTS" | "BASH_VERSINFO" => {
            ("belongs to the shell that starts the editor", "choose another name")
        }
        "PASSWORD" | "HASHED_PASSWORD" => (
            "would be code-server's own sign-in, which is off",
            "use password_file, or `csm password NAME`",
        ),
        // code-server takes it for its own sign-in to GitHub and deletes it: no terminal would ever see it.
        "GITHUB_TOKEN" => (
            "is taken away by code-server before any terminal sees it",
            "use GH_TOKEN, which gh and scripts read",
        ),
        name if name.starts_with("CSM_") => ("CSM_ variables are this service's", "choose another name"),
        _ => return Ok(()),
    };
    Err(Wrong::new(message, hint))
}
