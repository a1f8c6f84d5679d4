//! How what systemd and the file system say becomes the facts of a sighting.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;

use zbus::OwnedVariant;

use crate::host::files;
use crate::host::homes;
use crate::host::listing::Rows;
use crate::host::stats;
use crate::host::systemd::Chain;
use crate::model::desired::Workspace;
use crate::model::layout::Places;
use crate::model::plan::Fact;
use crate::model::status::Trouble;
use crate::model::unit::{MOUNTS, Mount};

pub(crate) fn fact<T, E: std::error::Error + 'static>(looked: Result<T, E>) -> Fact<T> {
    match looked {
        Ok(value) => Fact::Known(value),
        Err(error) => Fact::Unknown(Chain(&error).to_string()),
    }
}

/// The mounts that are up, by what they were made from. One whose source has since been replaced by another directory of
/// the same name, as by a restored backup, shows what nobody sees any more: it is told as made from nothing.
pub(crate) fn mounts(rows: &Rows, places: &Places, home: Option<&Path>, store: &Path) -> BTreeMap<Mount, String> {
    let up = |mount: &Mount| {
        let row = rows
            .get(&mount.unit_name(places))
            .filter(|row| row.active == "active")?;
        let stale = match mount {
            Mount::Data => home.is_some_and(|home| !same_directory(home, &places.data_view)),
            Mount::Images => !same_directory(store, &places.images_view),
            Mount::Run => false,
        };
        Some((*mount, if stale { String::new() } else { row.description.clone() }))
    };
    MOUNTS.iter().filter_map(up).collect()
}

/// Whether both paths lead to one directory. What can't be looked at is not called different.
fn same_directory(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &Path| std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    match (id(one), id(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => true,
    }
}

/// IPAddressDeny= as it is in force, sorted.
pub(crate) fn networks(properties: &HashMap<String, OwnedVariant>) -> Option<Vec<(IpAddr, u32)>> {
    let rows = Vec::<(i32, Vec<u8>, u32)>::try_from(properties.get("IPAddressDeny")?.try_clone().ok()?).ok()?;
    let address = |bytes: &[u8]| {
        let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
    };
    let mut networks = rows
        .iter()
        .map(|(_, bytes, prefix)| Some((address(bytes)?, *prefix)))
        .collect::<Option<Vec<_>>>()?;
    networks.sort_unstable();
    networks.dedup();
    Some(networks)
}

/// cgroup.freeze of the unit's cgroup, which is what FreezeUnit writes (cgroups(7)).
pub(crate) fn frozen(properties: &HashMap<String, OwnedVariant>) -> bool {
    let group = properties
        .get("ControlGroup")
        .and_then(|group| <&str>::try_from(group).ok())
        .unwrap_or_default();
    std::fs::read(format!("/sys/fs/cgroup{group}/cgroup.freeze")).is_ok_and(|content| content.starts_with(b"1"))
}

pub(crate) fn link_there(front: &Path) -> std::io::Result<bool> {
    match std::fs::symlink_metadata(front) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is wrong with the files that the configuration names for a workspace.
pub(crate) fn file_troubles(workspace: &Workspace) -> Vec<Trouble> {
    let secrets = workspace
        .secret_environment
        .iter()
        .map(|(variable, file)| ("secret-unusable", format!("secret_environment.{variable}"), file));
    let password = workspace
        .password_file
        .iter()
        .map(|file| ("password-unusable", "password_file".to_owned(), file));
    let trouble = |(code, key, file): (&'static str, String, &std::path::PathBuf)| {
        let error = files::open_named(file, homes::MOST_SECRET).err()?;
        Some(Trouble::new(
            code,
            format!(
                "workspaces.{}.{key}: {}: {}",
                workspace.name,
                file.display(),
                Chain(&error)
            ),
            "put a regular, non-empty file there, or name another one; it is looked at again at once",
        ))
    };
    password.chain(secrets).filter_map(trouble).collect()
}

/// Threads of the `podman rm` that ends a container.
const ROOM: u64 = 48;

/// Whether a service is so near its TasksMax= that nothing more can be started in it, as with a fork bomb inside
/// (cgroups(7), pids). Not so where the host has no such controller.
pub(crate) fn crowded(service: &str) -> bool {
    let number = |file: &str| stats::read(service, file)?.trim().parse::<u64>().ok();
    matches!((number("pids.current"), number("pids.max")), (Some(now), Some(most)) if now + ROOM > most)
}
