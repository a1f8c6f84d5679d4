//! Units: how nginx is wired to the product, and whether the product's own services run.

use std::collections::BTreeMap;

use crate::model::config::Nginx as Settings;
use crate::model::doctor::{Finding, seen};
use crate::model::layout::WEB_GROUP;
use crate::model::plan::Fact;

/// What was seen of nginx.
#[derive(Debug, Clone)]
pub struct Wiring {
    /// Properties of nginx's unit (`systemctl show`).
    pub unit: Fact<String>,
    /// The configuration that nginx uses, with every file that it includes (`nginx -T`).
    pub text: Fact<String>,
    /// Whether nginx listens where the daemon's own snippet tells it to.
    pub probe: bool,
    /// Accounts in the group of the editors' sockets.
    pub web_members: Fact<Vec<String>>,
}

/// One of the product's own units.
#[derive(Debug, Clone)]
pub struct Service {
    pub unit: &'static str,
    /// Its properties (`systemctl show`).
    pub properties: Fact<String>,
}

/// What the drop-in for nginx gives it, beside the group.
const RUNTIME_DIRECTORY: &str = "code-server-multi-nginx";

/// `names`: the `server_names_hash_bucket_size` that the longest name of the configuration needs.
pub fn nginx(wiring: &Wiring, settings: &Settings, names: usize) -> Vec<Finding> {
    let mut findings = nginx_unit(wiring, &settings.unit);
    findings.push(include(
        wiring.probe,
        &wiring.text,
        &settings.snippet_dir.display().to_string(),
    ));
    findings.extend(names_hash(wiring.probe, &wiring.text, names));
    findings
}

/// What nginx takes by itself: the size of a cache line, which is 64 bytes nearly everywhere.
const NAMES_HASH: usize = 64;

/// Only where there are names so long that it matters. An nginx that answers with our generation takes them; its text is
/// not asked for then, and a name that it refuses is the status' to tell.
fn names_hash(probe: bool, text: &Fact<String>, needed: usize) -> Option<Finding> {
    if needed <= NAMES_HASH || (probe && text.known().is_none()) {
        return None;
    }
    let text = match seen(text, "nginx-names", "nginx's server_names_hash_bucket_size") {
        Err(finding) => return Some(finding),
        Ok(text) => text,
    };
    let set = directives(text, "server_names_hash_bucket_size").find_map(|size| size.parse().ok());
    Some(match set {
        Some(size) if size >= needed => Finding::ok(
            "nginx-names",
            format!("nginx takes the longest name (server_names_hash_bucket_size {size})"),
        ),
        set => Finding::fail(
            "nginx-names-too-long",
            format!(
                "the longest name needs a server_names_hash_bucket_size of {needed}, and nginx has {}",
                set.unwrap_or(NAMES_HASH)
            ),
            format!("write server_names_hash_bucket_size {needed}; into http {{}}, then: systemctl reload nginx"),
        ),
    })
}

pub fn services(services: &[Service]) -> Vec<Finding> {
    services.iter().map(service).collect()
}

/// How to ask an nginx for its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nginx {
    pub program: String,
    pub configuration: Option<String>,
    /// Account and group of the unit; nothing when it is root's.
    pub account: Option<(String, String)>,
}

/// What the properties of its unit tell of it. `ExecStart` is shown as `{ path=P ; argv[]=P A A ; ignore_errors=.. }`.
pub fn command(unit: &str) -> Option<Nginx> {
    let found = properties(unit);
    let start = found.get("ExecStart")?;
    let program = start.split_once("path=")?.1.split_whitespace().next()?.to_owned();
    let arguments = start.split_once("argv[]=")?.1;
    let mut words = arguments.split_whitespace();
    let configuration = words
        .find(|word| *word == "-c")
        .and_then(|_| words.next())
        .map(str::to_owned);
    let user = found.get("User").copied().unwrap_or_default();
    let group = found
        .get("Group")
        .copied()
        .filter(|group| !group.is_empty())
        .unwrap_or(user);
    let account = (!matches!(user, "" | "root" | "0")).then(|| (user.to_owned(), group.to_owned()));
    Some(Nginx {
        program,
        configuration,
        account,
    })
}

fn properties(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

fn nginx_unit(wiring: &Wiring, unit: &str) -> Vec<Finding> {
    let found = match seen(&wiring.unit, "nginx-unit", unit) {
        Err(finding) => return vec![finding],
        Ok(text) => properties(text),
    };
    let get = |key: &str| found.get(key).copied().unwrap_or_default();
    if get("LoadState") != "loaded" {
        let what = format!("systemd has no unit {unit} for nginx ({})", get("LoadState"));
        return vec![Finding::fail(
            "nginx-unit-missing",
            what,
            "install nginx, or name its unit in nginx.unit",
        )];
    }
    let mut findings = Vec::new();
    if get("ActiveState") == "active" {
        findings.push(Finding::ok("nginx-unit", format!("{unit} is active")));
    } else {
        let what = format!("{unit} is {}", get("ActiveState"));
        let fix = format!("see why: systemctl status {unit}; then: systemctl start {unit}");
        findings.push(Finding::fail("nginx-inactive", what, fix));
    }
    let has = |key: &str, word: &str| get(key).split_whitespace().any(|one| one == word);
    let drop_in = format!(
        "install nix/units/nginx.service.d as /etc/systemd/system/{unit}.d, then: systemctl daemon-reload && systemctl restart {unit}"
    );
    if has("RuntimeDirectory", RUNTIME_DIRECTORY) {
        findings.push(Finding::ok(
            "nginx-drop-in",
            format!("{unit} has /run/{RUNTIME_DIRECTORY}"),
        ));
    } else {
        let what =
            format!("{unit} has no RuntimeDirectory={RUNTIME_DIRECTORY}, where the daemon asks nginx what it serves");
        findings.push(Finding::fail("nginx-drop-in-missing", what, drop_in.clone()));
    }
    findings.push(nginx_group(
        wiring,
        unit,
        get("User"),
        has("SupplementaryGroups", WEB_GROUP),
        drop_in,
    ));
    findings
}

/// A master that runs as root sets its workers' groups from the group database; one that doesn't keeps the unit's.
fn nginx_group(wiring: &Wiring, unit: &str, user: &str, given: bool, drop_in: String) -> Finding {
    const OK: &str = "nginx may use the editors' sockets";
    if !matches!(user, "" | "root" | "0") {
        if given {
            return Finding::ok("nginx-group", OK);
        }
        let what = format!("{unit} has no SupplementaryGroups={WEB_GROUP}, so it can't reach the editors' sockets");
        return Finding::fail("nginx-group-missing", what, drop_in);
    }
    let members = match seen(
        &wiring.web_members,
        "nginx-group",
        &format!("the members of {WEB_GROUP}"),
    ) {
        Err(finding) => return finding,
        Ok(members) => members,
    };
    let worker = wiring.text.known().and_then(|text| worker(text)).unwrap_or("www-data");
    if members.iter().any(|member| member == worker) {
        return Finding::ok("nginx-group", OK);
    }
    Finding::fail(
        "nginx-group-missing",
        format!("nginx starts as root, and its workers' account {worker} is not in the group {WEB_GROUP}"),
        format!(
            "usermod --append --groups {WEB_GROUP} {worker} && systemctl restart {unit}, or let nginx run as {worker} \
             throughout (docs/operations.md)"
        ),
    )
}

/// Words of each directive that stands at the beginning of a line.
fn directives<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let (directive, _) = line.trim().strip_prefix(name)?.split_once(';')?;
        directive.starts_with(char::is_whitespace).then(|| directive.trim())
    })
}

fn worker(text: &str) -> Option<&str> {
    directives(text, "user").next()?.split_whitespace().next()
}

fn include(probe: bool, text: &Fact<String>, snippet_dir: &str) -> Finding {
    let wanted = format!("{}/current/*.conf", snippet_dir.trim_end_matches('/'));
    if probe {
        return Finding::ok("nginx-include", format!("nginx serves what lies in {wanted}"));
    }
    let text = match seen(text, "nginx-include", "what nginx includes") {
        Err(finding) => return finding,
        Ok(text) => text,
    };
    if directives(text, "include").any(|path| path.trim_matches(['"', '\'']) == wanted) {
        return Finding::ok("nginx-include", format!("nginx includes {wanted}"));
    }
    Finding::fail(
        "nginx-include-missing",
        format!("nginx does not include {wanted}"),
        format!("write into /etc/nginx/conf.d/code-server-multi.conf: include {wanted}; then: systemctl reload nginx"),
    )
}

fn service(service: &Service) -> Finding {
    let unit = service.unit;
    let found = match seen(&service.properties, "service", unit) {
        Err(finding) => return finding,
        Ok(text) => properties(text),
    };
    let get = |key: &str| found.get(key).copied().unwrap_or_default();
    if get("LoadState") != "loaded" {
        return Finding::fail(
            "service-missing",
            format!("systemd has no usable unit {unit} ({})", get("LoadState")),
            format!("install nix/units/{unit} into /etc/systemd/system, then: systemctl daemon-reload"),
        );
    }
    if get("ActiveState") != "active" {
        return Finding::fail(
            "service-inactive",
            format!("{unit} is {}", get("ActiveState")),
            format!("start it: systemctl enable --now {unit}; if it does not stay up: journalctl --unit {unit}"),
        );
    }
    if get("UnitFileState") == "disabled" {
        return Finding::warn(
            "service-disabled",
            format!("{unit} runs, but does not start with the machine"),
            format!("systemctl enable {unit}"),
        );
    }
    Finding::ok("service", format!("{unit} is active"))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::doctor::tests::{config, wrong};

    const UNIT: &str = "LoadState=loaded\nActiveState=active\nUser=www-data\n\
        SupplementaryGroups=code-server-multi-web\nRuntimeDirectory=nginx code-server-multi-nginx\n";
    const AS_ROOT: &str = "LoadState=loaded\nActiveState=active\nUser=\nSupplementaryGroups=code-server-multi-web\n\
        RuntimeDirectory=code-server-multi-nginx\n";
    const TEXT: &str = "# configuration file /etc/nginx/nginx.conf:\nuser  http  web;\n\
        events {\nworker_connections 16384;\n}\nhttp {\nclient_header_timeout 20s;\n\
        include /etc/nginx/mime.types;\n    include /var/lib/code-server-multi/nginx/current/*.conf;\n}\n";

    pub fn good() -> Wiring {
        Wiring {
            unit: Fact::Known(UNIT.into()),
            text: Fact::Known(TEXT.into()),
            probe: false,
            web_members: Fact::Known(Vec::new()),
        }
    }

    #[test]
    fn nginx_is_wired_in_either_of_two_ways_and_seen_in_either_of_two() {
        let settings = config("").nginx;
        assert_eq!(wrong(&nginx(&good(), &settings, 64)), [""; 0]);
        let unit = Fact::Known(AS_ROOT.into());
        let as_root = Wiring {
            unit,
            web_members: Fact::Known(vec!["http".into()]),
            ..good()
        };
        assert_eq!(wrong(&nginx(&as_root, &settings, 64)), [""; 0]);
        let serving = Wiring {
            probe: true,
            text: Fact::Unknown("not asked".into()),
            ..good()
        };
        assert_eq!(wrong(&nginx(&serving, &settings, 64)), [""; 0]);
    }

    #[test]
    fn each_loose_wire_is_found_alone() {
        type Break = fn(&mut Wiring);
        let cases: Vec<(Break, &str, &str)> = vec![
            (
                |f| f.unit = Fact::Known("LoadState=not-found\n".into()),
                "fail nginx-unit-missing",
                "(not-found)",
            ),
            (
                |f| f.unit = Fact::Known(UNIT.replace("ActiveState=active", "ActiveState=failed")),
                "fail nginx-inactive",
                "nginx.service is failed",
            ),
            (
                |f| f.unit = Fact::Known(UNIT.replace(" code-server-multi-nginx", "")),
                "fail nginx-drop-in-missing",
                "RuntimeDirectory",
            ),
            (
                |f| f.unit = Fact::Known(UNIT.replace("=code-server-multi-web", "=code-server-multi-webs")),
                "fail nginx-group-missing",
                "SupplementaryGroups",
            ),
            (
                |f| f.unit = Fact::Known(AS_ROOT.into()),
                "fail nginx-group-missing",
                "workers' account http is not",
            ),
            (
                |f| f.text = Fact::Known(TEXT.replace("    include /var", "    # include /var")),
                "fail nginx-include-missing",
                "/var/lib/code-server-multi/nginx/current/*.conf",
            ),
            (
                |f| f.text = Fact::Unknown("only root may".into()),
                "warn nginx-include",
                "only root may",
            ),
        ];
        let settings = config("").nginx;
        for (break_it, expected, words) in cases {
            let mut wiring = good();
            break_it(&mut wiring);
            let findings = nginx(&wiring, &settings, 64);
            assert_eq!(wrong(&findings), [expected]);
            let finding = findings.iter().find(|finding| !finding.fix.is_empty()).unwrap();
            assert!(finding.what.contains(words), "{:?} has no {words:?}", finding.what);
        }
    }

    #[test]
    fn names_too_long_for_nginx_are_found() {
        let with = |line: &str| Fact::Known(TEXT.replace("http {", &format!("http {{\n    {line}\n")));
        let cases = [
            (Fact::Unknown("only root may".into()), 64, None),
            (with(""), 64, None),
            (with(""), 128, Some("fail nginx-names-too-long")),
            (
                with("# server_names_hash_bucket_size 128;"),
                128,
                Some("fail nginx-names-too-long"),
            ),
            (
                with("server_names_hash_bucket_size 64;"),
                128,
                Some("fail nginx-names-too-long"),
            ),
            (with("server_names_hash_bucket_size  128;"), 128, None),
            (with("server_names_hash_bucket_size 256;"), 128, None),
            (Fact::Unknown("only root may".into()), 128, Some("warn nginx-names")),
        ];
        for (text, needed, expected) in cases {
            let found: Vec<Finding> = names_hash(false, &text, needed).into_iter().collect();
            assert_eq!(
                wrong(&found),
                expected.into_iter().collect::<Vec<_>>(),
                "{text:?} {needed}"
            );
        }
        // Nobody can mend that it was not asked.
        assert!(names_hash(true, &Fact::Unknown("not asked".into()), 128).is_none());
    }

    #[test]
    fn nginx_is_asked_as_its_unit_runs_it() {
        let debian = "User=\nExecStart={ path=/usr/sbin/nginx ; argv[]=/usr/sbin/nginx -g daemon on; master_process on; ; \
                      ignore_errors=no ; pid=0 }\n";
        let expected = Nginx {
            program: "/usr/sbin/nginx".into(),
            configuration: None,
            account: None,
        };
        assert_eq!(command(debian), Some(expected));
        let nixos = "User=nginx\nGroup=web\nExecStart={ path=/nix/store/x-nginx/bin/nginx ; \
                     argv[]=/nix/store/x-nginx/bin/nginx -c /etc/nginx/nginx.conf ; ignore_errors=no }\n";
        let expected = Nginx {
            program: "/nix/store/x-nginx/bin/nginx".into(),
            configuration: Some("/etc/nginx/nginx.conf".into()),
            account: Some(("nginx".into(), "web".into())),
        };
        assert_eq!(command(nixos), Some(expected));
        assert_eq!(command("LoadState=not-found\n"), None);
    }

    #[test]
    fn the_include_is_found_however_it_is_written() {
        let base = "/var/lib/code-server-multi/nginx";
        for (line, found) in [
            ("include /var/lib/code-server-multi/nginx/current/*.conf;", true),
            (
                "\tinclude \"/var/lib/code-server-multi/nginx/current/*.conf\"; # ours",
                true,
            ),
            ("include /var/lib/code-server-multi/nginx/old/*.conf;", false),
            ("included /var/lib/code-server-multi/nginx/current/*.conf;", false),
        ] {
            for snippet_dir in [base.to_owned(), format!("{base}/")] {
                let finding = include(false, &Fact::Known(format!("http {{\n{line}\n}}\n")), &snippet_dir);
                assert_eq!(finding.fix.is_empty(), found, "{line}");
            }
        }
    }

    #[test]
    fn the_products_units_have_to_run_and_come_back() {
        for (text, expected) in [
            ("LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n", None),
            ("LoadState=loaded\nActiveState=active\nUnitFileState=linked\n", None),
            (
                "LoadState=loaded\nActiveState=active\nUnitFileState=disabled\n",
                Some("warn service-disabled"),
            ),
            (
                "LoadState=loaded\nActiveState=failed\nUnitFileState=enabled\n",
                Some("fail service-inactive"),
            ),
            (
                "LoadState=not-found\nActiveState=inactive\n",
                Some("fail service-missing"),
            ),
            ("", Some("fail service-missing")),
        ] {
            let findings = services(&[Service {
                unit: "x.service",
                properties: Fact::Known(text.into()),
            }]);
            assert_eq!(wrong(&findings), expected.into_iter().collect::<Vec<_>>(), "{text}");
        }
    }
}
