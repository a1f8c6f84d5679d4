//! STORAGE of one workspace: its home, the mount points in it, its Podman configuration and its secrets' files.
//! Homes are made and never removed; whatever stands in the way is reported and left alone.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use crate::host::files::{self, Access, Doing as _, FileError, ReadError, Spot};
use crate::model::account::Account;
use crate::model::desired::{Machine, Workspace};
use crate::model::layout::{HOME_PARTS, MOUNT_POINTS};
use crate::model::names::Secret;
use crate::model::plan::Directories;
use crate::model::podman;
use crate::model::status::Trouble;

/// Whether everything is where it has to be.
pub fn look(workspace: &Workspace, account: &Account, machine: &Machine) -> Result<Directories, FileError> {
    walk(workspace, account, machine, false)
}

/// Makes what is missing. Doing it twice is the same as once.
pub fn ensure(workspace: &Workspace, account: &Account, machine: &Machine) -> Result<Directories, FileError> {
    walk(workspace, account, machine, true)
}

fn walk(workspace: &Workspace, account: &Account, machine: &Machine, make: bool) -> Result<Directories, FileError> {
    let mut found = Directories::InPlace;
    if !own_places(workspace, account, machine, make)? {
        found = Directories::ToMake;
    }
    match home(workspace, account, make)? {
        Directories::InPlace => Ok(found),
        other => Ok(other),
    }
}

/// What lies under directories that only root writes. Says whether it was all there.
fn own_places(workspace: &Workspace, account: &Account, machine: &Machine, make: bool) -> Result<bool, FileError> {
    let places = machine.layout.of(&workspace.name);
    // The account may pass through the directory of its views, but not put anything else in their place.
    let passage = Access {
        // guard: A18-mount-points
        uid: 0,
        gid: account.gid,
        mode: 0o750,
    };
    let directories = [
        (&places.podman, Access::root(0o755)),
        (&places.helpers, Access::root(0o755)),
        (
            &places.account_home,
            Access {
                uid: account.uid,
                gid: account.gid,
                mode: 0o700,
            },
        ),
        (&places.mounts, passage),
        (&places.images_view, Access::root(0o755)),
        (&places.data_view, Access::root(0o755)),
        // The entrypoint lists it, as the container's user.
        (
            &places.secrets,
            Access {
                // guard: A18-secrets
                uid: 0,
                gid: account.inner_gid(),
                mode: 0o750,
            },
        ),
        (&places.run, Access::root(0o755)),
    ];
    let texts = [
        (places.podman.join("storage.conf"), podman::storage_conf(&places), 0o644),
        (
            places.podman.join("containers.conf"),
            podman::containers_conf(Some(&places.podman)),
            0o644,
        ),
        (
            places.podman.join("no-namespaces.json"),
            podman::NO_NAMESPACES.to_owned(),
            0o644,
        ),
        (
            places.podman.join("registries.conf"),
            podman::REGISTRIES_CONF.to_owned(),
            0o644,
        ),
        (places.helpers.join("pasta"), podman::pasta(), 0o755),
    ];
    let there = directories.iter().all(|(path, _)| path.is_dir())
        && texts.iter().all(|(path, text, _)| files::holds(path, text.as_bytes()));
    if make {
        for (path, access) in directories {
            // What is mounted over a mount point has its own owner and mode.
            let mount_point = [&places.images_view, &places.data_view, &places.run].contains(&path);
            if !(mount_point && path.is_dir()) {
                files::ensure_directory(path, access)?;
            }
        }
        for (path, text, mode) in texts {
            if !files::holds(&path, text.as_bytes()) {
                files::write_whole(&path, text.as_bytes(), Access::root(mode))?;
            }
        }
    }
    Ok(there || make)
}

/// Why the walk through a home ended early.
enum Stop {
    Missing,
    Obstructed(Trouble),
    File(FileError),
}

impl From<FileError> for Stop {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

fn home(workspace: &Workspace, account: &Account, make: bool) -> Result<Directories, FileError> {
    match home_parts(workspace, account, make) {
        Ok(()) => Ok(Directories::InPlace),
        Err(Stop::Missing) => Ok(Directories::ToMake),
        Err(Stop::Obstructed(trouble)) => Ok(Directories::Obstructed(trouble)),
        Err(Stop::File(error)) => Err(error),
    }
}

/// `workspace_base/NAME` is root's, so that nobody swaps its parts; the parts are the account's. In `home`, where the
/// workspace writes, each name is looked up beneath the directory that was opened before, never by its path.
fn home_parts(workspace: &Workspace, account: &Account, make: bool) -> Result<(), Stop> {
    let path = &workspace.home;
    let Some(base_path) = path.parent() else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput)).doing("use as a home", path)?;
    };
    if make && !base_path.is_dir() {
        std::fs::create_dir_all(base_path).doing("make", base_path)?;
        files::ensure_directory(base_path, Access::root(0o700))?;
    }
    let base = match files::open_directory(base_path) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Err(Stop::Missing),
        other => other?,
    };
    let top = step(&base, workspace.name.as_str(), Access::root(0o711), make, path)?;
    let private = Access {
        uid: account.uid,
        gid: account.gid,
        mode: 0o700,
    };
    for (part, _) in HOME_PARTS {
        step(&top, part, private, make, &path.join(part))?;
    }
    let home_path = path.join("home");
    let home = step(&top, "home", private, make, &home_path)?;
    for point in MOUNT_POINTS {
        let (parent, name) = point.rsplit_once('/').unwrap_or((".", point));
        let whole = home_path.join(point);
        // The mount points come outermost first, so the parent was a directory a moment ago.
        let parent =
            files::open_beneath(home.as_fd(), Path::new(parent)).map_err(|_| Stop::Obstructed(obstacle(&whole)))?;
        step(&parent, name, private, make, &whole)?;
    }
    Ok(())
}

fn step(parent: &OwnedFd, name: &str, access: Access, make: bool, whole: &Path) -> Result<OwnedFd, Stop> {
    match files::look(parent.as_fd(), name, access.uid).doing("look at", whole)? {
        Spot::There(fd) => Ok(fd),
        Spot::Nothing if make => Ok(files::make(parent.as_fd(), name, access).doing("make", whole)?),
        Spot::Nothing => Err(Stop::Missing),
        Spot::Obstacle => Err(Stop::Obstructed(obstacle(whole))),
        Spot::Foreign(uid) => Err(Stop::Obstructed(foreign(whole, uid, access.uid))),
    }
}

fn obstacle(path: &Path) -> Trouble {
    Trouble::new(
        "home-obstructed",
        format!("{} has to be a directory, and is something else", path.display()),
        format!("move it away: mv {0} {0}.moved", path.display()),
    )
}

fn foreign(path: &Path, found: u32, wanted: u32) -> Trouble {
    Trouble::new(
        "home-foreign",
        format!("{} belongs to user {found}, not to {wanted}", path.display()),
        format!(
            "if it is this workspace's home, give it back: chown -R {wanted} {}",
            path.display()
        ),
    )
}

/// Writes the secrets of a workspace to its tmpfs directory, readable by its container's user alone, and removes those
/// that it no longer has.
pub fn write_secrets(workspace: &Workspace, account: &Account, machine: &Machine) -> Result<(), SecretsError> {
    let directory = machine.layout.of(&workspace.name).secrets;
    let access = Access {
        uid: account.inner_uid(),
        gid: account.inner_gid(),
        mode: 0o400,
    };
    for (variable, file) in &workspace.secret_environment {
        let content = files::read_named(file, MOST_SECRET).map_err(|source| SecretsError::Read {
            variable: variable.to_string(),
            file: file.clone(),
            source,
        })?;
        let content = Secret::new(content);
        // guard: F9-handed-over I6-secret-logged
        files::write_whole(&directory.join(variable.as_str()), content.expose(), access)?;
    }
    for entry in std::fs::read_dir(&directory).doing("list", &directory)? {
        let entry = entry.doing("list", &directory)?;
        if !workspace
            .secret_environment
            .keys()
            .any(|variable| entry.file_name() == variable.as_str())
        {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether a secret's file holds something else than the workspace was given at its start. A file that can't be used is no
/// other secret: that it can't is a finding of its own. Nor is one that it was not given: its environment is another.
pub fn rotated(workspace: &Workspace, machine: &Machine) -> Result<bool, ReadError> {
    let given = machine.layout.of(&workspace.name).secrets;
    let read = |path: &Path| files::read_named(path, MOST_SECRET).map(Secret::new);
    for (variable, file) in &workspace.secret_environment {
        let Ok(now) = read(file) else { continue };
        match read(&given.join(variable.as_str())) {
            Err(ReadError::Missing) => {}
            Ok(given) if given == now => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// A secret is a key or a token; whatever is larger was named by mistake.
pub const MOST_SECRET: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error("can't use {} for {variable}", file.display())]
    Read {
        variable: String,
        file: PathBuf,
        #[source]
        source: ReadError,
    },
    #[error(transparent)]
    File(#[from] FileError),
}
