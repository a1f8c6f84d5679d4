//! DOCTOR: what was seen of a machine → what is right and wrong with it, each with its fix. `csm doctor` gathers the
//! facts; nothing here looks at anything.

pub mod accounts;
pub mod certificate;
pub mod connections;
pub mod counts;
pub mod machine;
pub mod network;
pub mod units;
pub mod versions;
pub mod web;

use crate::model::config::Config;
use crate::model::plan::Fact;
use crate::model::status::Trouble;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Ok,
    /// Works, but not as well or not for long.
    Warn,
    /// Keeps workspaces from working, or from being safe.
    Fail,
}

impl Severity {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// Stable; listed in docs/operations.md.
    pub code: &'static str,
    pub what: String,
    /// What to do; empty when all is well.
    pub fix: String,
}

impl Finding {
    fn ok(code: &'static str, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Ok,
            code,
            what: what.into(),
            fix: String::new(),
        }
    }

    fn warn(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warn,
            code,
            what: what.into(),
            fix: fix.into(),
        }
    }

    fn fail(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Fail,
            code,
            what: what.into(),
            fix: fix.into(),
        }
    }

    /// Not being able to look is neither right nor wrong.
    fn unseen(code: &'static str, what: &str, why: &str) -> Self {
        Self::warn(
            code,
            format!("{what} could not be checked: {why}"),
            "mend what kept it from looking; if that is a matter of rights, run csm doctor as root",
        )
    }

    fn failed(trouble: Trouble) -> Self {
        Self::fail(trouble.code, trouble.message, trouble.remediation)
    }
}

/// Everything that was looked at.
#[derive(Debug, Clone)]
pub struct Facts {
    pub machine: machine::Facts,
    pub network: network::Facts,
    pub counts: counts::Facts,
    pub configuration: Configuration,
    /// What needs a configuration to look at; nothing without one.
    pub accounts: Option<accounts::Facts>,
    pub web: Option<web::Facts>,
    pub services: Vec<units::Service>,
}

#[derive(Debug, Clone)]
pub enum Configuration {
    Unreadable { path: String, why: String },
    Wrong { path: String, problems: usize },
    Read { path: String, config: Box<Config> },
}

impl Configuration {
    fn config(&self) -> Option<&Config> {
        match self {
            Self::Read { config, .. } => Some(config),
            Self::Unreadable { .. } | Self::Wrong { .. } => None,
        }
    }
}

pub fn examine(facts: &Facts) -> Vec<Finding> {
    let config = facts.configuration.config();
    let mut findings = machine::examine(&facts.machine, config);
    findings.extend(network::examine(&facts.network));
    findings.extend(counts::examine(&facts.counts, config));
    findings.push(configuration(&facts.configuration));
    if let (Some(config), Some(accounts)) = (config, &facts.accounts) {
        findings.extend(accounts::examine(accounts, config));
    }
    if let (Some(config), Some(web)) = (config, &facts.web) {
        findings.extend(web::examine(web, config));
    }
    findings.extend(units::services(&facts.services));
    findings
}

fn configuration(configuration: &Configuration) -> Finding {
    match configuration {
        Configuration::Unreadable { path, why } => Finding::fail(
            "configuration-unreadable",
            format!("the configuration {path} can't be read: {why}"),
            "write it (README.md has the least there is), or name it with --config; without one, only the machine is checked",
        ),
        Configuration::Wrong { path, problems } => Finding::fail(
            "configuration-refused",
            format!(
                "the configuration {path} has {problems} problem{}",
                if *problems == 1 { "" } else { "s" }
            ),
            format!("see them: csm check-config {path}"),
        ),
        Configuration::Read { path, config } => {
            let count = config.workspaces.len();
            Finding::ok(
                "configuration",
                format!("{path}: {count} workspace{}", if count == 1 { "" } else { "s" }),
            )
        }
    }
}

/// The value of a fact, or the finding that it could not be seen.
fn seen<'a, T>(fact: &'a Fact<T>, code: &'static str, what: &str) -> Result<&'a T, Finding> {
    match fact {
        Fact::Known(value) => Ok(value),
        Fact::Unknown(why) => Err(Finding::unseen(code, what, why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config;

    /// A configuration for the tests below this module.
    pub fn config(rest: &str) -> Config {
        let text = format!(
            "domain = \"code.example.org\"\n[image]\nname = \"localhost/workspace:1\"\n\
             [nginx]\ncertificate = \"/etc/ssl/chain.pem\"\ncertificate_key = \"/etc/ssl/key.pem\"\n{rest}"
        );
        config::parse(&text).unwrap()
    }

    /// `fail code` and the like, without what is well.
    pub fn wrong(findings: &[Finding]) -> Vec<String> {
        for finding in findings {
            assert_eq!(finding.fix.is_empty(), finding.severity == Severity::Ok, "{finding:?}");
            assert!(!finding.what.is_empty() && !finding.what.ends_with('.'), "{finding:?}");
        }
        let wrong = findings.iter().filter(|finding| finding.severity != Severity::Ok);
        wrong
            .map(|finding| format!("{} {}", finding.severity.word(), finding.code))
            .collect()
    }

    #[test]
    fn a_configuration_that_is_not_there_does_not_hide_the_machine() {
        let facts = Facts {
            machine: machine::tests::good(),
            network: network::tests::good(),
            counts: counts::tests::good(),
            configuration: Configuration::Unreadable {
                path: "/etc/x.toml".into(),
                why: "it is not there".into(),
            },
            accounts: None,
            web: None,
            services: Vec::new(),
        };
        let findings = examine(&facts);
        assert_eq!(wrong(&findings), ["fail configuration-unreadable"]);
        assert!(findings.iter().any(|finding| finding.code == "kernel"));
    }

    #[test]
    fn a_wrong_configuration_leads_to_the_verb_that_shows_it() {
        let finding = configuration(&Configuration::Wrong {
            path: "/etc/x.toml".into(),
            problems: 2,
        });
        assert_eq!(finding.what, "the configuration /etc/x.toml has 2 problems");
        assert_eq!(finding.fix, "see them: csm check-config /etc/x.toml");
    }
}
