//! Accounts, groups and subordinate ids (subuid(5), subgid(5)), and the password of each workspace.

use std::collections::BTreeMap;

use crate::model::account::{self, Entry, SUBGID, SUBUID};
use crate::model::config::Config;
use crate::model::doctor::{Finding, seen};
use crate::model::layout::{ADMIN_GROUP, GATEWAY_ACCOUNT, IMAGES_ACCOUNT, WEB_GROUP};
use crate::model::names::{AccountName, WorkspaceName};
use crate::model::plan::Fact;
use crate::model::status::Trouble;

#[derive(Debug, Clone)]
pub struct Facts {
    /// Every account that the configuration names; nothing for one that does not exist.
    pub people: BTreeMap<AccountName, Fact<Option<Entry>>>,
    pub images: Fact<Option<Entry>>,
    pub gateway: Fact<Option<Entry>>,
    /// Whether the groups exist.
    pub web_group: Fact<bool>,
    pub admin_group: Fact<bool>,
    pub subuid: Fact<String>,
    pub subgid: Fact<String>,
    pub passwords: BTreeMap<WorkspaceName, Password>,
}

/// Where the password of a workspace comes from, and what is there.
#[derive(Debug, Clone)]
pub struct Password {
    /// The path of `password_file`; nothing when `csm password` sets it.
    pub file: Option<String>,
    pub content: Fact<Option<Content>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Content {
    pub bytes: u64,
    pub mode: u32,
}

pub fn examine(facts: &Facts, config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        group(&facts.web_group, WEB_GROUP, "editors' sockets belong to it"),
        group(
            &facts.admin_group,
            ADMIN_GROUP,
            "its members may use csm without being root",
        ),
        gateway(&facts.gateway),
        facts.account(&AccountName::service(IMAGES_ACCOUNT), &facts.images, "the image store"),
    ];
    for (name, workspace) in &config.workspaces {
        if let Some(entry) = facts.people.get(&workspace.account) {
            findings.push(facts.account(&workspace.account, entry, name.as_str()));
        }
        if workspace.enabled {
            findings.extend(facts.passwords.get(name).map(|found| password(name, found)));
        }
    }
    findings
}

impl Facts {
    /// What the daemon itself would say of an account.
    fn account(&self, account: &AccountName, entry: &Fact<Option<Entry>>, purpose: &str) -> Finding {
        let judge = || {
            let entry = seen(entry, "account", &format!("the account {account}"))?;
            let user_ids = seen(&self.subuid, "subordinate-ids", SUBUID)?;
            let group_ids = seen(&self.subgid, "subordinate-ids", SUBGID)?;
            account::check(account, entry.as_ref(), user_ids, group_ids).map_err(|problem| {
                let trouble = Trouble::from(&problem);
                Finding::failed(Trouble {
                    message: format!("{purpose}: {}", trouble.message),
                    ..trouble
                })
            })
        };
        match judge() {
            Ok(_) => Finding::ok("account", format!("{purpose}: the account {account} will do")),
            Err(finding) => finding,
        }
    }
}

fn group(fact: &Fact<bool>, name: &str, purpose: &str) -> Finding {
    match seen(fact, "group", &format!("the group {name}")) {
        Err(finding) => finding,
        Ok(true) => Finding::ok("group", format!("the group {name} exists")),
        Ok(false) => Finding::fail(
            "group-missing",
            format!("the group {name} does not exist: {purpose}"),
            format!("create it: groupadd --system {name}"),
        ),
    }
}

/// Runs no container, so it needs no subordinate ids.
fn gateway(fact: &Fact<Option<Entry>>) -> Finding {
    match seen(fact, "account", &format!("the account {GATEWAY_ACCOUNT}")) {
        Err(finding) => finding,
        Ok(entry) => match entry {
            Some(Entry { uid: 1.., .. }) => {
                Finding::ok("account", format!("sign-in: the account {GATEWAY_ACCOUNT} will do"))
            }
            Some(_) => Finding::fail(
                "account-root",
                format!("sign-in: the account {GATEWAY_ACCOUNT} is root's"),
                format!("give it a user id of its own: usermod --uid ID {GATEWAY_ACCOUNT}"),
            ),
            None => Finding::fail(
                "account-missing",
                format!("sign-in: the account {GATEWAY_ACCOUNT} does not exist"),
                format!("create it: useradd --system --user-group --shell /usr/sbin/nologin {GATEWAY_ACCOUNT}"),
            ),
        },
    }
}

fn password(name: &WorkspaceName, password: &Password) -> Finding {
    let content = match seen(&password.content, "password", &format!("the password of {name}")) {
        Err(finding) => return finding,
        Ok(content) => content,
    };
    match (content, &password.file) {
        (None, None) => Finding::warn(
            "password-unset",
            format!("{name} has no password, so nobody can sign in"),
            format!("set one: csm password {name}"),
        ),
        (None, Some(file)) => Finding::fail(
            "password-unusable",
            format!("the password file of {name}, {file}, is not there"),
            "write it, or take password_file out of the configuration",
        ),
        (Some(Content { bytes: 0, .. }), Some(file)) => Finding::fail(
            "password-unusable",
            format!("the password file of {name}, {file}, is empty"),
            "write a password or an argon2id string into it",
        ),
        // guard: F10-open-mode
        (Some(Content { mode, .. }), Some(file)) if mode & 0o004 != 0 => Finding::warn(
            "password-file-open",
            format!("everybody on this machine can read the password file of {name}, {file}"),
            format!("chmod o-rwx {file}, then change the password"),
        ),
        (Some(_), _) => Finding::ok("password", format!("{name} has a password")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::doctor::tests::{config, wrong};

    const RANGES: &str = "code-server-multi-images:200000:65536\ncsm-dan:300000:65536\n1002:400000:70000\n";

    fn entry(uid: u32, name: &str) -> Fact<Option<Entry>> {
        Fact::Known(Some(Entry {
            uid,
            gid: uid,
            name_of_uid: Some(name.to_owned()),
            admin_of: None,
        }))
    }

    fn account(text: &str) -> AccountName {
        AccountName::parse(text).unwrap()
    }

    fn set(bytes: u64, mode: u32) -> Fact<Option<Content>> {
        Fact::Known(Some(Content { bytes, mode }))
    }

    fn dan() -> WorkspaceName {
        WorkspaceName::parse("dan").unwrap()
    }

    fn good() -> Facts {
        let people = [("csm-dan", 1001), ("csm-alice", 1002)].map(|(name, uid)| (account(name), entry(uid, name)));
        Facts {
            people: people.into(),
            images: entry(990, IMAGES_ACCOUNT),
            gateway: entry(991, GATEWAY_ACCOUNT),
            web_group: Fact::Known(true),
            admin_group: Fact::Known(true),
            subuid: Fact::Known(RANGES.into()),
            subgid: Fact::Known(RANGES.into()),
            passwords: [(
                dan(),
                Password {
                    file: None,
                    content: set(97, 0o600),
                },
            )]
            .into(),
        }
    }

    fn set_dan(facts: &mut Facts, entry: Fact<Option<Entry>>) {
        facts.people.insert(account("csm-dan"), entry);
    }

    fn set_password(facts: &mut Facts, file: Option<&str>, content: Fact<Option<Content>>) {
        facts.passwords.insert(
            dan(),
            Password {
                file: file.map(str::to_owned),
                content,
            },
        );
    }

    fn without(line: &str) -> Fact<String> {
        let rest: Vec<&str> = RANGES.lines().filter(|one| !one.starts_with(line)).collect();
        Fact::Known(rest.join("\n"))
    }

    #[test]
    fn a_host_set_up_as_documented_is_fine() {
        let findings = examine(&good(), &config("[workspaces.dan]\n[workspaces.alice]\n"));
        assert_eq!(wrong(&findings), [""; 0]);
        let said: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert!(said.contains(&"alice: the account csm-alice will do"), "{said:?}");
    }

    #[test]
    fn each_thing_that_is_wrong_is_found_alone() {
        type Break = fn(&mut Facts);
        let cases: Vec<(Break, &str, &str)> = vec![
            (
                |f| f.web_group = Fact::Known(false),
                "fail group-missing",
                "code-server-multi-web",
            ),
            (
                |f| f.admin_group = Fact::Known(false),
                "fail group-missing",
                "csm-admin",
            ),
            (
                |f| f.gateway = Fact::Known(None),
                "fail account-missing",
                GATEWAY_ACCOUNT,
            ),
            (|f| f.gateway = entry(0, "root"), "fail account-root", GATEWAY_ACCOUNT),
            (
                |f| f.images = Fact::Known(None),
                "fail account-missing",
                "the image store: the account code-server",
            ),
            (
                |f| f.subuid = without("code-server"),
                "fail subordinate-ids-missing",
                "the image store: ",
            ),
            (
                |f| set_dan(f, Fact::Known(None)),
                "fail account-missing",
                "dan: the account csm-dan does not exist",
            ),
            (|f| set_dan(f, entry(0, "root")), "fail account-root", "csm-dan"),
            (
                |f| set_dan(f, Fact::Unknown("no NSS".into())),
                "warn account",
                "could not be checked: no NSS",
            ),
            (
                |f| f.subuid = without("csm-dan"),
                "fail subordinate-ids-missing",
                "65536 ids in /etc/subuid",
            ),
            (
                |f| f.subgid = without("csm-dan"),
                "fail subordinate-ids-missing",
                "65536 ids in /etc/subgid",
            ),
            (
                |f| set_password(f, None, Fact::Known(None)),
                "warn password-unset",
                "nobody can sign in",
            ),
            (
                |f| set_password(f, Some("/p"), Fact::Known(None)),
                "fail password-unusable",
                "/p",
            ),
            (
                |f| set_password(f, Some("/p"), set(0, 0o600)),
                "fail password-unusable",
                "/p",
            ),
            (
                |f| set_password(f, Some("/p"), set(9, 0o644)),
                "warn password-file-open",
                "everybody",
            ),
            (
                |f| set_password(f, None, Fact::Unknown("denied".into())),
                "warn password",
                "checked: denied",
            ),
        ];
        let config = config("[workspaces.dan]\n[workspaces.alice]\n");
        for (break_it, expected, words) in cases {
            let mut facts = good();
            break_it(&mut facts);
            let findings = examine(&facts, &config);
            assert_eq!(wrong(&findings), [expected]);
            let finding = findings.iter().find(|finding| !finding.fix.is_empty()).unwrap();
            assert!(finding.what.contains(words), "{:?} has no {words:?}", finding.what);
        }
    }

    #[test]
    fn ranges_that_can_not_be_read_condemn_nobody() {
        let facts = Facts {
            subgid: Fact::Unknown("denied".into()),
            ..good()
        };
        let findings = examine(&facts, &config("[workspaces.dan]\n[workspaces.alice]\n"));
        assert_eq!(wrong(&findings), ["warn subordinate-ids"; 3]);
    }
}
