//! Accounts, groups and passwords of this machine, as its name service and files show them.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Group, User, getgrouplist};

use crate::model::account::{Entry, SUBGID, SUBUID};
use crate::model::config::Config;
use crate::model::doctor::accounts::{Content, Facts, Password};
use crate::model::layout::{ADMIN_GROUP, GATEWAY_ACCOUNT, IMAGES_ACCOUNT, Layout, WEB_GROUP};
use crate::model::plan::Fact;

pub fn look(config: &Config) -> Facts {
    let kept = Layout::default().passwords();
    let passwords = config.workspaces.iter().map(|(name, workspace)| {
        let file = workspace.password_file.as_ref();
        let content = content(file.unwrap_or(&kept.join(format!("{name}.argon2"))));
        (
            name.clone(),
            Password {
                file: file.map(|file| file.display().to_string()),
                content,
            },
        )
    });
    let accounts = config.workspaces.values().map(|workspace| &workspace.account);
    Facts {
        people: accounts
            .map(|account| (account.clone(), entry(account.as_str())))
            .collect(),
        images: entry(IMAGES_ACCOUNT),
        gateway: entry(GATEWAY_ACCOUNT),
        web_group: exists(WEB_GROUP),
        admin_group: exists(ADMIN_GROUP),
        subuid: ranges(SUBUID),
        subgid: ranges(SUBGID),
        passwords: passwords.collect(),
    }
}

/// Members of a group by the group database; empty when there is no such group.
pub fn members(group: &str) -> Fact<Vec<String>> {
    match Group::from_name(group) {
        Ok(found) => Fact::Known(found.map(|group| group.mem).unwrap_or_default()),
        Err(error) => Fact::Unknown(error.to_string()),
    }
}

fn exists(group: &str) -> Fact<bool> {
    match Group::from_name(group) {
        Ok(found) => Fact::Known(found.is_some()),
        Err(error) => Fact::Unknown(error.to_string()),
    }
}

/// A file that isn't there grants nobody anything.
fn ranges(file: &str) -> Fact<String> {
    if Path::new(file).exists() {
        super::text(file)
    } else {
        Fact::Known(String::new())
    }
}

fn entry(account: &str) -> Fact<Option<Entry>> {
    match look_up(account) {
        Ok(entry) => Fact::Known(entry),
        Err(error) => Fact::Unknown(error.to_string()),
    }
}

fn look_up(account: &str) -> nix::Result<Option<Entry>> {
    let Some(user) = User::from_name(account)? else {
        return Ok(None);
    };
    let same = User::from_uid(user.uid)?;
    let name = CString::new(account).map_err(|_| nix::Error::EINVAL)?;
    let groups = getgrouplist(&name, user.gid)?;
    let admin = Group::from_name(ADMIN_GROUP)?.is_some_and(|group| groups.contains(&group.gid));
    Ok(Some(Entry {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        name_of_uid: same.map(|user| user.name),
        admin_of: admin.then(|| ADMIN_GROUP.to_owned()),
    }))
}

fn content(path: &Path) -> Fact<Option<Content>> {
    match std::fs::metadata(path) {
        Ok(found) => Fact::Known(Some(Content {
            bytes: found.len(),
            mode: found.mode(),
        })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Fact::Known(None),
        Err(error) => Fact::Unknown(error.to_string()),
    }
}
