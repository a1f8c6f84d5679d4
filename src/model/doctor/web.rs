//! The way in: DNS, the certificate and its key; nginx is in `units`.

use crate::model::config::Config;
use crate::model::doctor::certificate::Certificate;
use crate::model::doctor::units::{self, Wiring};
use crate::model::doctor::{Finding, connections, seen};
use crate::model::names::HostName;
use crate::model::nginx::names_hash_bucket_size;
use crate::model::plan::Fact;

#[derive(Debug, Clone)]
pub struct Facts {
    /// Seconds since 1970.
    pub now: i64,
    /// The first certificate of the file; or what is wrong with it.
    pub certificate: Fact<Result<Certificate, String>>,
    /// Mode of the key's file; nothing when it is not there.
    pub key_mode: Fact<Option<u32>>,
    /// Whether the host name of a workspace leads anywhere; nothing without workspaces.
    pub resolves: Option<(String, Fact<bool>)>,
    pub nginx: Wiring,
}

/// Renewals come at a third of 90 days, so whoever is at two weeks has no renewal that works.
const SOON: i64 = 14 * 86_400;

pub fn examine(facts: &Facts, config: &Config) -> Vec<Finding> {
    let mut findings = certificate(facts, config);
    findings.push(key(
        &facts.key_mode,
        &config.nginx.certificate_key.display().to_string(),
    ));
    findings.extend(
        facts
            .resolves
            .iter()
            .map(|(host, fact)| resolves(host, fact, &config.domain)),
    );
    findings.extend(units::nginx(
        &facts.nginx,
        &config.nginx,
        names_hash_bucket_size(config),
    ));
    findings.extend(connections::examine(&facts.nginx.text, &facts.nginx.unit));
    findings
}

fn certificate(facts: &Facts, config: &Config) -> Vec<Finding> {
    let path = config.nginx.certificate.display();
    let domain = config.domain.as_str();
    let fix = format!("get one for *.{domain} and {domain}, and name it in nginx.certificate");
    let certificate = match seen(&facts.certificate, "certificate", &format!("the certificate {path}")) {
        Err(finding) => return vec![finding],
        Ok(Err(wrong)) => {
            return vec![Finding::fail(
                "certificate-unreadable",
                format!("{path} can't be used: {wrong}"),
                fix,
            )];
        }
        Ok(Ok(certificate)) => certificate,
    };
    let hosts = config
        .workspaces
        .keys()
        .map(|name| HostName::of_workspace(name, &config.domain));
    let missing: Vec<String> = hosts
        .map(|host| host.to_string())
        .filter(|host| !certificate.covers(host))
        .collect();
    let names = if !missing.is_empty() {
        Finding::fail(
            "certificate-names",
            format!("{path} is not for {}", missing.join(", ")),
            fix,
        )
    } else if !certificate.covers(&format!("x.{domain}")) {
        let what =
            format!("{path} is not for *.{domain}: a new workspace, or a mistyped name, meets a browser's warning");
        Finding::warn("certificate-names", what, fix)
    } else if !certificate.covers(domain) {
        Finding::warn("certificate-names", format!("{path} is not for {domain} itself"), fix)
    } else {
        Finding::ok("certificate-names", format!("{path} is for *.{domain} and {domain}"))
    };
    vec![names, validity(facts.now, certificate, &path.to_string())]
}

fn validity(now: i64, certificate: &Certificate, path: &str) -> Finding {
    const FIX: &str = "renew it, then: systemctl reload nginx; see why it was not renewed by itself";
    let days = |seconds: i64| format!("{} days", seconds / 86_400);
    let rest = certificate.not_after - now;
    if now < certificate.not_before {
        let early = days(certificate.not_before - now);
        return Finding::fail(
            "certificate-early",
            format!("{path} is not valid for another {early}"),
            "set this machine's clock (timedatectl), or take another certificate",
        );
    }
    match rest {
        ..0 => Finding::fail(
            "certificate-expired",
            format!("{path} expired {} ago", days(-rest)),
            FIX,
        ),
        0..SOON => Finding::warn("certificate-expires", format!("{path} expires in {}", days(rest)), FIX),
        SOON.. => Finding::ok("certificate-validity", format!("{path} is valid for {}", days(rest))),
    }
}

fn key(mode: &Fact<Option<u32>>, path: &str) -> Finding {
    match seen(mode, "certificate-key", &format!("the key {path}")) {
        Err(finding) => finding,
        Ok(None) => Finding::fail(
            "certificate-key-missing",
            format!("the key {path} is not there"),
            "put it there, or name another in nginx.certificate_key",
        ),
        Ok(Some(mode)) if mode & 0o004 != 0 => Finding::fail(
            "certificate-key-open",
            format!("everybody on this machine can read the key {path}"),
            format!("chmod o-rwx {path}, then get a certificate with a new key"),
        ),
        Ok(Some(_)) => Finding::ok("certificate-key", format!("the key {path} is there")),
    }
}

fn resolves(host: &str, fact: &Fact<bool>, domain: &HostName) -> Finding {
    match seen(fact, "dns", &format!("the name {host}")) {
        Err(finding) => finding,
        Ok(true) => Finding::ok("dns", format!("{host} leads to an address")),
        Ok(false) => Finding::warn(
            "dns",
            format!("{host} leads to no address, as seen from here"),
            format!("add A and AAAA records for *.{domain} and {domain} that lead to this machine"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::doctor::tests::{config, wrong};

    const DAY: i64 = 86_400;

    fn certified(names: &[&str], not_before: i64, not_after: i64) -> Fact<Result<Certificate, String>> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Fact::Known(Ok(Certificate {
            names,
            not_before,
            not_after,
        }))
    }

    const NAMES: [&str; 2] = ["*.code.example.org", "code.example.org"];

    fn good() -> Facts {
        Facts {
            now: 100 * DAY,
            certificate: certified(&NAMES, 50 * DAY, 140 * DAY),
            key_mode: Fact::Known(Some(0o100_640)),
            resolves: Some(("dan.code.example.org".into(), Fact::Known(true))),
            nginx: units::tests::good(),
        }
    }

    #[test]
    fn a_host_set_up_as_documented_is_fine() {
        assert_eq!(wrong(&examine(&good(), &config("[workspaces.dan]\n"))), [""; 0]);
    }

    #[test]
    fn each_thing_that_is_wrong_is_found_alone() {
        type Break = fn(&mut Facts);
        let cases: Vec<(Break, &str, &str)> = vec![
            (
                |f| f.certificate = certified(&NAMES[1..], 50 * DAY, 140 * DAY),
                "fail certificate-names",
                "is not for dan.code.example.org",
            ),
            (
                |f| f.certificate = certified(&["dan.code.example.org", NAMES[1]], 50 * DAY, 140 * DAY),
                "warn certificate-names",
                "is not for *.code.example.org",
            ),
            (
                |f| f.certificate = certified(&NAMES[..1], 50 * DAY, 140 * DAY),
                "warn certificate-names",
                "is not for code.example.org itself",
            ),
            (
                |f| f.certificate = certified(&NAMES, 50 * DAY, 99 * DAY),
                "fail certificate-expired",
                "expired 1 days ago",
            ),
            (
                |f| f.certificate = certified(&NAMES, 50 * DAY, 113 * DAY),
                "warn certificate-expires",
                "in 13 days",
            ),
            (
                |f| f.certificate = certified(&NAMES, 102 * DAY, 140 * DAY),
                "fail certificate-early",
                "another 2 days",
            ),
            (
                |f| f.certificate = Fact::Known(Err("no PEM".into())),
                "fail certificate-unreadable",
                "no PEM",
            ),
            (
                |f| f.certificate = Fact::Unknown("denied".into()),
                "warn certificate",
                "denied",
            ),
            (
                |f| f.key_mode = Fact::Known(None),
                "fail certificate-key-missing",
                "/etc/ssl/key.pem",
            ),
            (
                |f| f.key_mode = Fact::Known(Some(0o644)),
                "fail certificate-key-open",
                "/etc/ssl/key.pem",
            ),
            (
                |f| f.resolves = Some(("x.org".into(), Fact::Known(false))),
                "warn dns",
                "x.org leads to no address",
            ),
        ];
        let config = config("[workspaces.dan]\n");
        for (break_it, expected, words) in cases {
            let mut facts = good();
            break_it(&mut facts);
            let findings = examine(&facts, &config);
            assert_eq!(wrong(&findings), [expected]);
            let finding = findings.iter().find(|finding| !finding.fix.is_empty()).unwrap();
            assert!(finding.what.contains(words), "{:?} has no {words:?}", finding.what);
        }
    }
}
