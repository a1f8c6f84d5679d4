//! The account databases, through the C library so that every name service counts (nsswitch.conf(5)), and the files of
//! subordinate ids. What could not be looked up is an error, never an absent account. `model::account` judges.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::model::account::{self, Account, AccountProblem, Entry, SUBGID, SUBUID};
use crate::model::names::AccountName;

/// A look-up that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("can't look up the account {name}")]
    Account { name: String, source: nix::Error },
    #[error("can't look up the group {name}")]
    Group { name: String, source: nix::Error },
    #[error("can't read {file}")]
    File { file: &'static str, source: io::Error },
}

/// User and group id of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

/// Looks at the account of a workspace and judges it.
pub fn look(name: &AccountName, admin_group: &str) -> Result<Result<Account, AccountProblem>, LookError> {
    let entry = entry(name.as_str(), admin_group)?;
    Ok(account::check(name, entry.as_ref(), &read(SUBUID)?, &read(SUBGID)?))
}

/// The ids of an account, of a service for instance; nothing when there is none of that name.
pub fn ids(name: &str) -> Result<Option<Ids>, LookError> {
    let user = User::from_name(name).map_err(|source| LookError::Account {
        name: name.to_owned(),
        source,
    })?;
    Ok(user.map(|user| Ids {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    }))
}

/// The id of a group; nothing when there is none of that name.
pub fn group_id(name: &str) -> Result<Option<u32>, LookError> {
    let group = Group::from_name(name).map_err(|source| LookError::Group {
        name: name.to_owned(),
        source,
    })?;
    Ok(group.map(|group| group.gid.as_raw()))
}

/// What a user id is called; nothing for one without an account, or that can't be looked up.
pub fn name_of(uid: u32) -> Option<String> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
    Some(user.name)
}

/// Whether a user is in a group, by its own or as a supplementary one. A user id without an account, as subordinate ids
/// are, is in none; neither is one that can't be looked up.
pub fn in_group(uid: u32, group: &str) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
        return false;
    };
    let (Ok(Some(wanted)), Ok(name)) = (group_id(group), CString::new(user.name)) else {
        return false;
    };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&Gid::from_raw(wanted)))
}

fn entry(name: &str, admin_group: &str) -> Result<Option<Entry>, LookError> {
    let failed = |source| LookError::Account {
        name: name.to_owned(),
        source,
    };
    let Some(Ids { uid, gid }) = ids(name)? else {
        return Ok(None);
    };
    let same = User::from_uid(Uid::from_raw(uid)).map_err(failed)?;
    let groups = CString::new(name)
        .map_err(|_| nix::Error::EINVAL)
        .and_then(|name| getgrouplist(&name, Gid::from_raw(gid)))
        .map_err(failed)?;
    let admin = group_id(admin_group)?.is_some_and(|admin| groups.contains(&Gid::from_raw(admin)));
    Ok(Some(Entry {
        uid,
        gid,
        name_of_uid: same.map(|user| user.name),
        admin_of: admin.then(|| admin_group.to_owned()),
    }))
}

/// A file that isn't there grants nobody anything; one that can't be read says nothing.
fn read(file: &'static str) -> Result<String, LookError> {
    match std::fs::read(file) {
        // An owner's name may be in any encoding; the lines of the others count all the same.
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(LookError::File { file, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_refused() {
        assert_eq!(ids("root").unwrap(), Some(Ids { uid: 0, gid: 0 }));
        assert_eq!(group_id("root").unwrap(), Some(0));
        let root = entry("root", "root").unwrap().unwrap();
        assert_eq!(
            (root.name_of_uid.as_deref(), root.admin_of.as_deref()),
            (Some("root"), Some("root"))
        );
        assert_eq!(entry("root", "no-such-group-here").unwrap().unwrap().admin_of, None);
    }

    #[test]
    fn only_members_are_in_a_group() {
        assert!(in_group(0, "root"));
        assert!(!in_group(0, "no-such-group-here"));
        // Far above every account: a subordinate id.
        assert!(!in_group(4_000_000_000, "root"));
    }

    #[test]
    fn nobody_of_that_name_is_missing_and_no_error() {
        let name = AccountName::parse("no-such-account-here").unwrap();
        assert_eq!(ids(name.as_str()).unwrap(), None);
        assert_eq!(group_id(name.as_str()).unwrap(), None);
        assert_eq!(look(&name, "root").unwrap(), Err(AccountProblem::Missing(name)));
    }

    #[test]
    fn an_absent_file_is_empty_and_an_unreadable_one_an_error() {
        assert_eq!(read("/nonexistent/subuid").unwrap(), "");
        // A directory can be opened, not read: that is no absence, even for root.
        let error = read("/etc").unwrap_err();
        assert_eq!(error.to_string(), "can't read /etc");
    }
}
