//! Accounts, groups and subordinate ids (subuid(5), subgid(5)), and the password of each workspace.

use std::collections::BTreeMap;

use crate::model::account::{AccountProblem, IDS_NEEDED};
use crate::model::config::Config;
use crate::model::doctor::{Finding, seen};
use crate::model::layout::{ADMIN_GROUP, GATEWAY_ACCOUNT, IMAGES_ACCOUNT, WEB_GROUP};
use crate::model::names::{AccountName, WorkspaceName};
use crate::model::plan::Fact;
use crate::model::status::Trouble;

#[derive(Debug, Clone)]
pub struct Facts {
    /// Every account that the configuration names; nothing for one that does not exist.
    pub people: BTreeMap<AccountName, Fact<Option<Person>>>,
    pub images: Fact<Option<Person>>,
    pub gateway: Fact<Option<Person>>,
    /// Whether the groups exist.
    pub web_group: Fact<bool>,
    pub admin_group: Fact<bool>,
    pub subuid: Fact<String>,
    pub subgid: Fact<String>,
    pub passwords: BTreeMap<WorkspaceName, Password>,
}

#[derive(Debug, Clone)]
pub struct Person {
    pub uid: u32,
    pub in_admin_group: bool,
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

const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";

pub fn examine(facts: &Facts, config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        group(&facts.web_group, WEB_GROUP, "editors' sockets belong to it"),
        group(
            &facts.admin_group,
            ADMIN_GROUP,
            "its members may use csm without being root",
        ),
        service_account(&facts.gateway, GATEWAY_ACCOUNT, "it runs the sign-in"),
        service_account(&facts.images, IMAGES_ACCOUNT, "it owns the image store"),
    ];
    for (file, text) in [(SUBUID, &facts.subuid), (SUBGID, &facts.subgid)] {
        if let Err(finding) = seen(text, "subordinate-ids", file) {
            findings.push(finding);
        }
    }
    if let Fact::Known(Some(owner)) = &facts.images {
        findings.extend(facts.ranges(IMAGES_ACCOUNT, owner.uid).into_iter().map(|(file, wrong)| match wrong {
            Wrong::None => Finding::fail(
                "subordinate-ids-missing",
                format!("the account {IMAGES_ACCOUNT} has no range of {IDS_NEEDED} ids in {file}"),
                format!("add a line {IMAGES_ACCOUNT}:START:{IDS_NEEDED} to {file}, START being above every other range"),
            ),
            Wrong::Overlap(other) => Finding::fail(
                "subordinate-ids-overlap",
                format!("the range of {IMAGES_ACCOUNT} in {file} overlaps that of {other}"),
                format!("give {IMAGES_ACCOUNT} a range in {file} that no other line touches"),
            ),
        }));
    }
    for (name, workspace) in &config.workspaces {
        let Some(person) = facts.people.get(&workspace.account) else {
            continue;
        };
        let before = findings.len();
        match seen(person, "account", &format!("the account {}", workspace.account)) {
            Err(finding) => findings.push(finding),
            Ok(person) => findings.extend(
                facts
                    .problems(&workspace.account, person.as_ref())
                    .iter()
                    .map(|problem| {
                        let trouble = Trouble::from(problem);
                        Finding::failed(Trouble {
                            message: format!("{name}: {}", trouble.message),
                            ..trouble
                        })
                    }),
            ),
        }
        if findings.len() == before {
            findings.push(Finding::ok(
                "account",
                format!("{name}: the account {} can run it", workspace.account),
            ));
        }
        if workspace.enabled {
            findings.extend(facts.passwords.get(name).map(|found| password(name, found)));
        }
    }
    findings
}

enum Wrong {
    None,
    Overlap(String),
}

impl Facts {
    fn problems(&self, account: &AccountName, person: Option<&Person>) -> Vec<AccountProblem> {
        let Some(person) = person else {
            return vec![AccountProblem::Missing(account.clone())];
        };
        let mut problems = Vec::new();
        if person.uid == 0 {
            problems.push(AccountProblem::IsRoot(account.clone()));
        }
        if person.in_admin_group {
            problems.push(AccountProblem::IsAdmin {
                account: account.clone(),
                group: ADMIN_GROUP.to_owned(),
            });
        }
        problems.extend(
            self.ranges(account.as_str(), person.uid)
                .into_iter()
                .map(|(file, wrong)| match wrong {
                    Wrong::None => AccountProblem::NoSubordinateIds {
                        account: account.clone(),
                        file,
                    },
                    Wrong::Overlap(other) => AccountProblem::Overlap {
                        account: account.clone(),
                        file,
                        other,
                    },
                }),
        );
        problems
    }

    /// What is wrong with an account's ranges, as far as the files could be read.
    fn ranges(&self, account: &str, uid: u32) -> Vec<(&'static str, Wrong)> {
        let files = [(SUBUID, &self.subuid), (SUBGID, &self.subgid)];
        let wrong = files
            .into_iter()
            .map(|(file, text)| Some((file, range_problem(text.known()?, account, uid)?)));
        wrong.flatten().collect()
    }
}

fn range_problem(text: &str, account: &str, uid: u32) -> Option<Wrong> {
    let number = uid.to_string();
    let lines: Vec<(usize, &str, u64, u64)> = text.lines().enumerate().filter_map(line).collect();
    let is_own = |owner: &str| owner == account || owner == number;
    // Podman takes the first ranges of the account; a smaller one before would shift the ids.
    let Some(&(at, _, start, count)) = lines.iter().find(|(_, owner, ..)| is_own(owner)) else {
        return Some(Wrong::None);
    };
    if count < u64::from(IDS_NEEDED) {
        return Some(Wrong::None);
    }
    let other = lines
        .iter()
        .find(|(other, _, first, length)| *other != at && *first < start + count && start < first + length);
    other.map(|(_, owner, ..)| Wrong::Overlap((*owner).to_owned()))
}

/// `owner:start:count` with its place in the file.
fn line((at, line): (usize, &str)) -> Option<(usize, &str, u64, u64)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let mut parts = line.split(':');
    let (owner, start, count) = (parts.next()?, parts.next()?, parts.next()?);
    // Ids have 32 bits; the sum of two can't overflow 64.
    let (start, count) = (start.parse::<u32>().ok()?, count.parse::<u32>().ok()?);
    Some((at, owner, u64::from(start), u64::from(count)))
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

fn service_account(fact: &Fact<Option<Person>>, name: &str, purpose: &str) -> Finding {
    match seen(fact, "service-account", &format!("the account {name}")) {
        Err(finding) => finding,
        Ok(Some(person)) if person.uid == 0 => Finding::fail(
            "service-account-root",
            format!("the account {name} is root's"),
            format!("give it a user id of its own: usermod --uid UID {name}"),
        ),
        Ok(Some(_)) => Finding::ok("service-account", format!("the account {name} exists")),
        Ok(None) => Finding::fail(
            "service-account-missing",
            format!("the account {name} does not exist: {purpose}"),
            format!("create it: useradd --system --user-group --shell /usr/sbin/nologin {name}"),
        ),
    }
}

fn password(name: &WorkspaceName, password: &Password) -> Finding {
    let content = match seen(&password.content, "password", &format!("the password of {name}")) {
        Err(finding) => return finding,
        Ok(content) => content,
    };
    match (content, &password.file) {
        (None, None) => Finding::warn(
            "password-missing",
            format!("{name} has no password, so nobody can sign in"),
            format!("set one: csm password {name}"),
        ),
        (None, Some(file)) => Finding::fail(
            "password-file-missing",
            format!("the password file of {name}, {file}, is not there"),
            "write it, or take password_file out of the configuration",
        ),
        (Some(Content { bytes: 0, .. }), Some(file)) => Finding::fail(
            "password-file-empty",
            format!("the password file of {name}, {file}, is empty"),
            "write a password or an argon2id string into it",
        ),
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

    const RANGES: &str = "images-of-old:100000:65536\n\
        code-server-multi-images:200000:65536\n\
        csm-dan:300000:65536\n\
        1002:400000:70000\n";

    fn person(uid: u32) -> Fact<Option<Person>> {
        Fact::Known(Some(Person {
            uid,
            in_admin_group: false,
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
        Facts {
            people: [(account("csm-dan"), person(1001)), (account("csm-alice"), person(1002))].into(),
            images: person(990),
            gateway: person(991),
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

    #[test]
    fn a_host_set_up_as_documented_is_fine() {
        let findings = examine(&good(), &config("[workspaces.dan]\n[workspaces.alice]\n"));
        assert_eq!(wrong(&findings), [""; 0]);
        let said: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert!(said.contains(&"alice: the account csm-alice can run it"), "{said:?}");
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    #[test]
    fn each_thing_that_is_wrong_is_found_alone() {
        type Break = fn(&mut Facts);
        let swap = |from: &str, to: &str| Fact::Known(RANGES.replace(from, to));
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
                "fail service-account-missing",
                GATEWAY_ACCOUNT,
            ),
            (
                |f| f.images = Fact::Known(None),
                "fail service-account-missing",
                IMAGES_ACCOUNT,
            ),
            (|f| f.images = person(0), "fail service-account-root", IMAGES_ACCOUNT),
            (
                |f| set_dan(f, Fact::Known(None)),
                "fail account-missing",
                "dan: the account csm-dan does not exist",
            ),
            (|f| set_dan(f, admin()), "fail account-admin", "csm-admin"),
            (
                |f| set_dan(f, Fact::Unknown("no NSS".into())),
                "warn account",
                "could not be checked: no NSS",
            ),
            (
                |f| f.subuid = Fact::Unknown("denied".into()),
                "warn subordinate-ids",
                "/etc/subuid could not be checked",
            ),
            (
                |f| set_password(f, None, Fact::Known(None)),
                "warn password-missing",
                "nobody can sign in",
            ),
            (
                |f| set_password(f, Some("/p"), Fact::Known(None)),
                "fail password-file-missing",
                "/p",
            ),
            (
                |f| set_password(f, Some("/p"), set(0, 0o600)),
                "fail password-file-empty",
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
        let check = |facts: &Facts, expected: &str, words: &str| {
            let findings = examine(facts, &config);
            assert_eq!(wrong(&findings), [expected]);
            let finding = findings.iter().find(|finding| !finding.fix.is_empty()).unwrap();
            assert!(finding.what.contains(words), "{:?} has no {words:?}", finding.what);
        };
        for (break_it, expected, words) in cases {
            let mut facts = good();
            break_it(&mut facts);
            check(&facts, expected, words);
        }
        for (from, to, expected, words) in [
            (
                "300000:65536",
                "300000:65535",
                "fail subordinate-ids-missing",
                "csm-dan has no range of 65536 ids in",
            ),
            ("csm-dan:", "csm-dann:", "fail subordinate-ids-missing", "csm-dan"),
            (IMAGES_ACCOUNT, "x", "fail subordinate-ids-missing", IMAGES_ACCOUNT),
            (
                "1002:",
                "eve:365535:10\n1002:",
                "fail subordinate-ids-overlap",
                "csm-dan in {} overlaps that of eve",
            ),
            (
                "1002:",
                "csm-dan:365535:1\n1002:",
                "fail subordinate-ids-overlap",
                "overlaps that of csm-dan",
            ),
        ] {
            check(
                &Facts {
                    subuid: swap(from, to),
                    ..good()
                },
                expected,
                &words.replace("{}", SUBUID),
            );
            check(
                &Facts {
                    subgid: swap(from, to),
                    ..good()
                },
                expected,
                &words.replace("{}", SUBGID),
            );
        }
    }

    fn admin() -> Fact<Option<Person>> {
        Fact::Known(Some(Person {
            uid: 1001,
            in_admin_group: true,
        }))
    }

    fn set_dan(facts: &mut Facts, person: Fact<Option<Person>>) {
        facts.people.insert(account("csm-dan"), person);
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

    #[test]
    fn ranges_that_touch_do_not_overlap() {
        for (text, overlaps) in [
            ("a:100000:65536\nb:165536:65536\n", false),
            ("b:34464:65536\na:100000:65536\n", false),
            ("a:100000:65536\nb:165535:65536\n", true),
            ("b:100010:1\na:100000:65536\n", true),
            ("a:100000:65536\n# b:100000:65536\nnonsense\nb:x:1\n", false),
            ("a:4294901760:65536\nb:4294967295:4294967295\n", true),
        ] {
            assert_eq!(range_problem(text, "a", 5).is_some(), overlaps, "{text}");
        }
    }
}
