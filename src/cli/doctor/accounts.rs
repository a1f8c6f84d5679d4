//! Accounts, groups and passwords of this machine, as its name service and files show them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Group, User};

use crate::model::config::Config;
use crate::model::doctor::accounts::{Content, Facts, Password, Person};
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
            .map(|account| (account.clone(), person(account.as_str())))
            .collect(),
        images: person(IMAGES_ACCOUNT),
        gateway: person(GATEWAY_ACCOUNT),
        web_group: exists(WEB_GROUP),
        admin_group: exists(ADMIN_GROUP),
        subuid: super::text("/etc/subuid"),
        subgid: super::text("/etc/subgid"),
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

fn person(account: &str) -> Fact<Option<Person>> {
    let (user, admins) = match (User::from_name(account), Group::from_name(ADMIN_GROUP)) {
        (Ok(None), _) => return Fact::Known(None),
        (Ok(Some(user)), Ok(admins)) => (user, admins),
        (Err(error), _) | (_, Err(error)) => return Fact::Unknown(error.to_string()),
    };
    let in_admin_group =
        admins.is_some_and(|group| group.gid == user.gid || group.mem.iter().any(|member| member == account));
    Fact::Known(Some(Person {
        uid: user.uid.as_raw(),
        in_admin_group,
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
