//! Programs of this machine: where they are, and what they say of themselves.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::Access;
use tokio::process::Command;

use crate::model::doctor::machine::IdHelper;
use crate::model::plan::Fact;

/// An ordinary user's PATH lacks some of these, and Podman looks into the last ones itself (containers.conf(5),
/// `helper_binaries_dir`).
const ELSEWHERE: [&str; 10] = [
    "/run/wrappers/bin",
    // The NixOS module puts there what the daemon finds.
    "/etc/code-server-multi/programs/bin",
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/bin",
    "/usr/local/libexec/podman",
    "/usr/local/lib/podman",
    "/usr/libexec/podman",
    "/usr/lib/podman",
];
const SECONDS: u64 = 10;

pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(ELSEWHERE.iter().map(PathBuf::from));
    directories
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|file| file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok())
}

/// Whether this Podman was built with the places of its helpers (Nixpkgs does that).
pub fn podman_brings_helpers() -> bool {
    find("podman")
        .and_then(|path| path.canonicalize().ok())
        .is_some_and(|path| path.starts_with("/nix/store"))
}

/// What a program prints; nothing when it is not installed.
pub async fn ask(name: &str, arguments: &[&str]) -> Fact<Option<String>> {
    let Some(path) = find(name) else {
        return Fact::Known(None);
    };
    match ask_path(&path, arguments).await {
        Ok(text) => Fact::Known(Some(text)),
        Err(why) => Fact::Unknown(why),
    }
}

/// What a program prints on either output, if it ends well.
pub async fn ask_path(path: &Path, arguments: &[&str]) -> Result<String, String> {
    // The first argument says what it was asked; the rest would only be long.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let shown = format!("{name} {}", arguments.first().unwrap_or(&""));
    let mut command = Command::new(path);
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(SECONDS), command.output())
        .await
        .map_err(|_| format!("{shown} did not end within {SECONDS} s"))?
        .map_err(|error| format!("{shown}: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let last = errors
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("no message");
        return Err(format!("{shown}: {last}"));
    }
    Ok(format!("{}{errors}", String::from_utf8_lossy(&output.stdout)))
}

pub fn id_helper(name: &str) -> Fact<IdHelper> {
    const SETUID: u32 = 0o4000;
    let Some(path) = find(name) else {
        return Fact::Known(IdHelper::Missing);
    };
    let found = match std::fs::metadata(&path) {
        Ok(found) => found,
        Err(error) => return Fact::Unknown(error.to_string()),
    };
    let setuid = found.mode() & SETUID != 0 && found.uid() == 0;
    let capable = rustix::fs::getxattr(&path, "security.capability", &mut [0_u8; 64]).is_ok();
    Fact::Known(if setuid || capable {
        IdHelper::Able
    } else {
        IdHelper::Powerless
    })
}
