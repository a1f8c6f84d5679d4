//! The host account of a workspace and its subordinate ids (subuid(5), subgid(5)): whether they can carry a container.
//! Pure: what the account databases say is handed in, see `host::accounts`.

use crate::model::names::AccountName;

pub const SUBUID: &str = "/etc/subuid";
pub const SUBGID: &str = "/etc/subgid";

/// How many ids a container needs: 0 to 65535, of which 0 is the account itself.
pub const IDS_NEEDED: u32 = 65_536;

/// The user and group that the workspace runs as inside its container.
pub const CONTAINER_ID: u32 = 1000;

/// Ids below are for accounts of the machine itself, nobody (65534) and systemd's dynamic users among them.
const FIRST_SUBORDINATE: u32 = 65_536;

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

/// What the account databases say of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub uid: u32,
    pub gid: u32,
    /// The name that its user id leads back to: another one when two accounts share the id.
    pub name_of_uid: Option<String>,
    /// The admin group, when the account is in it.
    pub admin_of: Option<String>,
}

/// Whether an account can run a workspace. `user_ids` and `group_ids` are the texts of subuid(5) and subgid(5).
pub fn check(
    name: &AccountName,
    entry: Option<&Entry>,
    user_ids: &str,
    group_ids: &str,
) -> Result<Account, AccountProblem> {
    let entry = entry.ok_or_else(|| AccountProblem::Missing(name.clone()))?;
    if entry.uid == 0 || entry.gid == 0 {
        return Err(AccountProblem::IsRoot(name.clone()));
    }
    if let Some(other) = entry.name_of_uid.as_ref().filter(|other| *other != name.as_str()) {
        return Err(AccountProblem::SharedId {
            account: name.clone(),
            uid: entry.uid,
            other: other.clone(),
        });
    }
    if let Some(group) = &entry.admin_of {
        return Err(AccountProblem::IsAdmin {
            account: name.clone(),
            group: group.clone(),
        });
    }
    Ok(Account {
        name: name.clone(),
        uid: entry.uid,
        gid: entry.gid,
        subuid: own_range(name, entry.uid, entry.uid, SUBUID, user_ids)?,
        subgid: own_range(name, entry.uid, entry.gid, SUBGID, group_ids)?,
    })
}

/// The first id of the account's one range. `host_id` is the account's own id of the file's kind.
fn own_range(
    name: &AccountName,
    uid: u32,
    host_id: u32,
    file: &'static str,
    text: &str,
) -> Result<u32, AccountProblem> {
    // subgid(5) names users too, and both files may give the number in place of the name.
    let uid = uid.to_string();
    let (own, others): (Vec<Range<'_>>, Vec<Range<'_>>) = text
        .lines()
        .filter_map(Range::parse)
        .partition(|range| range.owner == name.as_str() || range.owner == uid);
    let account = name.clone();
    let range = match own.as_slice() {
        [range] if range.count >= IDS_NEEDED => range,
        [] | [_] => return Err(AccountProblem::NoSubordinateIds { account, file }),
        // Podman strings several together; the mounts know one. Guessing would hand files to the wrong id.
        _ => return Err(AccountProblem::SeveralRanges { account, file }),
    };
    if range.start < FIRST_SUBORDINATE || range.contains(host_id) {
        return Err(AccountProblem::HostIds {
            account,
            file,
            start: range.start,
        });
    }
    // guard: A4-overlap
    match others.iter().find(|other| range.overlaps(other)) {
        None => Ok(range.start),
        Some(other) => Err(AccountProblem::Overlap {
            account,
            file,
            other: other.owner.to_owned(),
        }),
    }
}

/// A line of subuid(5): OWNER:START:COUNT.
struct Range<'t> {
    owner: &'t str,
    start: u32,
    count: u32,
}

impl<'t> Range<'t> {
    /// Lines of another shape are passed over, as newuidmap(1) does: comments, and what runs past the last id.
    fn parse(line: &'t str) -> Option<Self> {
        let mut parts = line.trim().split(':');
        let (owner, start, count) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let range = Self { owner, start, count };
        let whole = !owner.is_empty() && !owner.starts_with('#') && count > 0 && parts.next().is_none();
        // The last id is (uid_t) -1, which stands for "none".
        (whole && start.checked_add(count)? < u32::MAX).then_some(range)
    }

    fn overlaps(&self, other: &Range<'_>) -> bool {
        self.start < other.start + other.count && other.start < self.start + self.count
    }

    fn contains(&self, id: u32) -> bool {
        (self.start..self.start + self.count).contains(&id)
    }
}

/// What an account lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountProblem {
    #[error("the account {0} does not exist")]
    Missing(AccountName),
    #[error("the account {0} is root's, or in root's group")]
    IsRoot(AccountName),
    #[error("the account {account} shares its user id {uid} with {other}")]
    SharedId {
        account: AccountName,
        uid: u32,
        other: String,
    },
    #[error("the account {account} is in the group {group}, whose members administer every workspace")]
    IsAdmin { account: AccountName, group: String },
    #[error("the account {account} has no range of {IDS_NEEDED} ids in {file}")]
    NoSubordinateIds { account: AccountName, file: &'static str },
    #[error("the account {account} has more than one range in {file}")]
    SeveralRanges { account: AccountName, file: &'static str },
    #[error("the range of {account} in {file} begins at {start}, among the ids of the machine's own accounts")]
    HostIds {
        account: AccountName,
        file: &'static str,
        start: u32,
    },
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
                    "create it: useradd --system --user-group --shell /usr/sbin/nologin {account}, then give it \
                     subordinate ids"
                ),
            ),
            Self::IsRoot(account) => (
                "account-root",
                format!("give {account} a user id and a group of its own, or name another account"),
            ),
            Self::SharedId { account, .. } => (
                "account-shared",
                format!("give {account} a user id of its own: usermod --uid ID {account}"),
            ),
            Self::IsAdmin { account, group } => (
                "account-admin",
                format!("take {account} out of the group {group}: gpasswd --delete {account} {group}"),
            ),
            Self::NoSubordinateIds { account, file } => (
                "subordinate-ids-missing",
                format!("add a line {account}:START:{IDS_NEEDED} to {file}, START being above every other range"),
            ),
            Self::SeveralRanges { account, file } => (
                "subordinate-ids-several",
                format!("leave one line for {account} in {file}, with {IDS_NEEDED} ids"),
            ),
            Self::HostIds { account, file, .. } => (
                "subordinate-ids-reserved",
                format!(
                    "let the range of {account} in {file} begin at {FIRST_SUBORDINATE} or above, away from its own id"
                ),
            ),
            Self::Overlap { account, file, .. } => (
                "subordinate-ids-overlap",
                format!("give {account} a range in {file} that no other line touches"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "# ranges\n\nalice:100000:65536\ncsm-dan:165536:65536\nbob:231072:65536\n";

    fn entry() -> Entry {
        Entry {
            uid: 990,
            gid: 980,
            name_of_uid: Some("csm-dan".to_owned()),
            admin_of: None,
        }
    }

    fn check_dan(entry: Option<&Entry>, user_ids: &str, group_ids: &str) -> Result<Account, AccountProblem> {
        check(&AccountName::parse("csm-dan").unwrap(), entry, user_ids, group_ids)
    }

    #[test]
    fn an_account_with_a_range_of_its_own_will_do() {
        let account = check_dan(Some(&entry()), FILE, "csm-dan:300000:70000\n").unwrap();
        assert_eq!(
            (account.uid, account.gid, account.subuid, account.subgid),
            (990, 980, 165_536, 300_000)
        );
        assert_eq!((account.inner_uid(), account.inner_gid()), (166_535, 300_999));
    }

    #[test]
    fn an_account_that_is_not_fit_is_refused() {
        let code = |entry: Option<&Entry>| check_dan(entry, FILE, FILE).unwrap_err().remediation().0;
        let named = |name: Option<&str>| Entry {
            name_of_uid: name.map(str::to_owned),
            ..entry()
        };
        assert_eq!(code(None), "account-missing");
        assert_eq!(code(Some(&Entry { uid: 0, ..entry() })), "account-root");
        assert_eq!(code(Some(&Entry { gid: 0, ..entry() })), "account-root");
        assert_eq!(code(Some(&named(Some("alice")))), "account-shared");
        assert_eq!(
            code(Some(&Entry {
                admin_of: Some("csm-admin".to_owned()),
                ..entry()
            })),
            "account-admin"
        );
        assert!(check_dan(Some(&named(None)), FILE, FILE).is_ok());
    }

    #[test]
    fn ranges_are_judged_by_all_lines_of_the_file() {
        for (text, outcome) in [
            ("csm-dan:100000:65536", Ok(100_000)),
            ("  csm-dan:100000:65536  \n", Ok(100_000)),
            ("990:100000:65536", Ok(100_000)),
            ("csm-dan:65536:65536", Ok(65_536)),
            ("csm-dan:4294901758:65536", Ok(4_294_901_758)),
            ("a:34464:65536\ncsm-dan:100000:65536\nb:165536:1", Ok(100_000)),
            (
                "csm-dan:100000:65536\nbroken:100000\nb:100000:0\nc:x:y\n#d:100000:65536",
                Ok(100_000),
            ),
            ("", Err("subordinate-ids-missing")),
            ("#csm-dan:100000:65536", Err("subordinate-ids-missing")),
            ("csm-dan:100000:65535", Err("subordinate-ids-missing")),
            ("csm-dan:100000:65536:1", Err("subordinate-ids-missing")),
            ("csm-dan:-1:65536", Err("subordinate-ids-missing")),
            ("csm-dan:4294901760:65536", Err("subordinate-ids-missing")),
            (
                "csm-dan2:100000:65536\nxcsm-dan:300000:65536",
                Err("subordinate-ids-missing"),
            ),
            ("980:100000:65536", Err("subordinate-ids-missing")),
            (
                "csm-dan:100000:65536\ncsm-dan:300000:65536",
                Err("subordinate-ids-several"),
            ),
            ("csm-dan:100000:65536\n990:300000:65536", Err("subordinate-ids-several")),
            ("csm-dan:0:65536", Err("subordinate-ids-reserved")),
            ("csm-dan:65535:65536", Err("subordinate-ids-reserved")),
            ("csm-dan:100000:65536\na:165535:65536", Err("subordinate-ids-overlap")),
            ("a:34465:65536\ncsm-dan:100000:65536", Err("subordinate-ids-overlap")),
            ("csm-dan:100000:65536\n123:120000:1", Err("subordinate-ids-overlap")),
            ("a:90000:4000000\ncsm-dan:100000:65536", Err("subordinate-ids-overlap")),
        ] {
            let code = |problem: AccountProblem| problem.remediation().0;
            let fits = "csm-dan:500000:65536";
            assert_eq!(
                check_dan(Some(&entry()), text, fits)
                    .map(|dan| dan.subuid)
                    .map_err(code),
                outcome,
                "{text:?}"
            );
            assert_eq!(
                check_dan(Some(&entry()), fits, text)
                    .map(|dan| dan.subgid)
                    .map_err(code),
                outcome,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_range_may_not_hold_the_accounts_own_id() {
        let high = Entry {
            uid: 100_007,
            gid: 300_007,
            ..entry()
        };
        let problem = check_dan(Some(&high), "csm-dan:100000:65536", "csm-dan:500000:65536").unwrap_err();
        assert_eq!(problem.remediation().0, "subordinate-ids-reserved");
        let problem = check_dan(Some(&high), "csm-dan:500000:65536", "csm-dan:300000:65536").unwrap_err();
        assert_eq!(
            problem.to_string(),
            "the range of csm-dan in /etc/subgid begins at 300000, among the ids of the machine's own accounts"
        );
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic_and_what_passes_is_whole(text in "((csm-dan|990|bob|#)?:?[0-9]{0,10}:[0-9]{0,10}\n?){0,5}") {
            if let Ok(account) = check_dan(Some(&entry()), &text, &text) {
                prop_assert!(account.subuid >= FIRST_SUBORDINATE && account.subuid.checked_add(IDS_NEEDED).is_some());
            }
        }
    }
}
