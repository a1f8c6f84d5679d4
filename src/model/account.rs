//! The host account of a workspace and its subordinate ids (subuid(5), subgid(5)): whether they can carry a container.

use crate::model::names::AccountName;

/// How many ids a container needs: 0 to 65535, of which 0 is the account itself.
pub const IDS_NEEDED: u32 = 65_536;

/// The user and group that the workspace runs as inside its container.
pub const CONTAINER_ID: u32 = 1000;

/// An account that can run a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: AccountName,
    pub uid: u32,
    pub gid: u32,
    /// First of its 65,536 subordinate user ids.
    pub subuid: u32,
    pub subgid: u32,
}

impl Account {
    /// The host's id of the container's user 1000: Podman maps container id 0 to the account and 1.. to the range.
    pub fn inner_uid(&self) -> u32 {
        self.subuid + CONTAINER_ID - 1
    }

    pub fn inner_gid(&self) -> u32 {
        self.subgid + CONTAINER_ID - 1
    }
}

/// What an account lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountProblem {
    #[error("the account {0} does not exist")]
    Missing(AccountName),
    #[error("the account {0} is root's")]
    IsRoot(AccountName),
    #[error("the account {account} is in the group {group}, whose members administer every workspace")]
    IsAdmin { account: AccountName, group: String },
    #[error("the account {account} has no range of {IDS_NEEDED} ids in {file}")]
    NoSubordinateIds { account: AccountName, file: &'static str },
    #[error("the range of {account} in {file} overlaps that of {other}")]
    Overlap {
        account: AccountName,
        file: &'static str,
        other: String,
    },
}

impl AccountProblem {
    /// Stable code and what to do.
    pub fn remediation(&self) -> (&'static str, String) {
        match self {
            Self::Missing(account) => (
                "account-missing",
                format!(
                    "create it: useradd --system --user-group --shell /usr/sbin/nologin {account}, then give it subordinate ids"
                ),
            ),
            Self::IsRoot(account) => (
                "account-root",
                format!("give {account} a user id of its own, or name another account"),
            ),
            Self::IsAdmin { account, group } => (
                "account-admin",
                format!("take {account} out of the group {group}: gpasswd --delete {account} {group}"),
            ),
            Self::NoSubordinateIds { account, file } => (
                "subordinate-ids-missing",
                format!("add a line {account}:START:{IDS_NEEDED} to {file}, START being above every other range"),
            ),
            Self::Overlap { account, file, .. } => (
                "subordinate-ids-overlap",
                format!("give {account} a range in {file} that no other line touches"),
            ),
        }
    }
}
