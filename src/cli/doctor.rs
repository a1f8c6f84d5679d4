//! `csm doctor`: looks at this machine, with or without a daemon, and shows what the model makes of it.
//! It changes nothing. What only root can see is said to be unseen when it runs as somebody else.

pub mod accounts;
pub mod programs;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::cli::check;
use crate::cli::doctor::programs::{ask, ask_path};
use crate::cli::error::CliError;
use crate::cli::text::{BAD, GOOD, Look, WAIT, count, printable};
use crate::cli::{Outcome, Screen};
use crate::model::config::{self, Config};
use crate::model::doctor::certificate;
use crate::model::doctor::machine::{self, Directory};
use crate::model::doctor::units::{self, Nginx, Service, Wiring};
use crate::model::doctor::web;
use crate::model::doctor::{Configuration, Facts, Finding, Severity, examine};
use crate::model::doctor::{counts, network};
use crate::model::layout::{Layout, WEB_GROUP};
use crate::model::names::HostName;
use crate::model::network::first_resolver;
use crate::model::nginx::PROBE_SOCKET;
use crate::model::plan::Fact;

/// The image is 2 GB, and each workspace adds what its user does in the container.
const STATE_LEAST: u64 = 4 << 30;
const HOMES_LEAST: u64 = 1 << 30;
const RESOLVE_SECONDS: u64 = 5;
/// Every NixOS has this file, and nothing else does.
const NIXOS: &str = "/etc/NIXOS";
const SERVICES: [&str; 2] = ["code-server-multi.service", "code-server-multi-gateway.socket"];

pub async fn run(screen: &Screen, path: &Path) -> Result<Outcome, CliError> {
    let findings = examine(&look(path).await);
    let text = if screen.json {
        as_json(&findings)
    } else {
        render(&findings, screen.look, Path::new(NIXOS).exists())
    };
    screen.print(&text)?;
    let failed = findings.iter().any(|finding| finding.severity == Severity::Fail);
    Ok(if failed { Outcome::Failed } else { Outcome::Done })
}

fn as_json(findings: &[Finding]) -> String {
    let one = |finding: &Finding| json!({ "severity": finding.severity.word(), "code": finding.code, "what": finding.what, "fix": finding.fix });
    format!(
        "{}\n",
        json!({ "findings": findings.iter().map(one).collect::<Vec<_>>() })
    )
}

fn render(findings: &[Finding], look: Look, nixos: bool) -> String {
    let mut text = String::new();
    let (mut fails, mut warnings) = (0, 0);
    for finding in findings {
        let style = match finding.severity {
            Severity::Ok => GOOD,
            Severity::Warn => WAIT,
            Severity::Fail => BAD,
        };
        fails += usize::from(finding.severity == Severity::Fail);
        warnings += usize::from(finding.severity == Severity::Warn);
        let word = look.paint(style, &format!("{:4}", finding.severity.word()));
        text.push_str(&format!("{word}  {}\n", printable(&finding.what)));
        if !finding.fix.is_empty() {
            text.push_str(&format!("      Fix: {}\n", printable(&finding.fix)));
        }
    }
    text.push('\n');
    text.push_str(&match (fails, warnings) {
        (0, 0) => "This machine has what workspaces need.\n".to_owned(),
        (0, _) => format!(
            "This machine can run workspaces; {} to look at.\n",
            count(warnings, "warning")
        ),
        (_, 0) => format!("{} to mend.\n", count(fails, "failure")),
        (_, _) => format!(
            "{} to mend, {} to look at.\n",
            count(fails, "failure"),
            count(warnings, "warning")
        ),
    });
    if nixos && fails + warnings > 0 {
        text.push_str(
            "This is NixOS: accounts, units, programs and nginx come from services.code-server-multi and its neighbours; \
             mend them there, and switch.\n",
        );
    }
    text
}

async fn look(path: &Path) -> Facts {
    let configuration = configuration(path);
    let config = match &configuration {
        Configuration::Read { config, .. } => Some(config.as_ref()),
        Configuration::Unreadable { .. } | Configuration::Wrong { .. } => None,
    };
    let web = async {
        match config {
            Some(config) => Some(self::web(config).await),
            None => None,
        }
    };
    let (machine, services, web) = tokio::join!(self::machine(config), services(), web);
    let accounts = config.map(accounts::look);
    Facts {
        machine,
        network: network(),
        counts: counts(),
        configuration,
        accounts,
        web,
        services,
    }
}

fn configuration(path: &Path) -> Configuration {
    let shown = path.display().to_string();
    let bytes = match check::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            return Configuration::Unreadable { path: shown, why };
        }
    };
    match config::parse_bytes(&bytes) {
        Ok(config) => Configuration::Read {
            path: shown,
            config: Box::new(config),
        },
        Err(problems) => Configuration::Wrong {
            path: shown,
            problems: problems.len(),
        },
    }
}

async fn machine(config: Option<&Config>) -> machine::Facts {
    let (systemd, util_linux, podman, nginx, pasta) = tokio::join!(
        ask("systemctl", &["--version"]),
        ask("mount", &["--version"]),
        ask("podman", &["--version"]),
        ask("nginx", &["-v"]),
        ask("pasta", &["--help"]),
    );
    let controllers = match std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") {
        Ok(text) => Fact::Known(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Fact::Known(None),
        Err(error) => Fact::Unknown(error.to_string()),
    };
    let state = directory(&Layout::default().state, STATE_LEAST);
    let homes = config.map(|config| directory(&config.workspace_base, HOMES_LEAST));
    machine::Facts {
        kernel: text("/proc/sys/kernel/osrelease"),
        systemd,
        util_linux,
        podman,
        nginx,
        bundled: programs::podman_brings_helpers(),
        pasta,
        crun: Fact::Known(programs::find("crun").is_some()),
        catatonit: Fact::Known(programs::find("catatonit").is_some()),
        newuidmap: programs::id_helper("newuidmap"),
        newgidmap: programs::id_helper("newgidmap"),
        controllers,
        memory: text("/proc/meminfo"),
        directories: [Some(state), homes].into_iter().flatten().collect(),
    }
}

/// What this kernel has no name for, or not in this network, is left out.
fn counts() -> counts::Facts {
    let mut found = std::collections::BTreeMap::new();
    for name in counts::NAMES {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                found.insert(name, text);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Fact::Unknown(format!("{path}: {error}")),
        }
    }
    Fact::Known(found)
}

fn network() -> network::Facts {
    let resolv_conf = match std::fs::read_to_string("/etc/resolv.conf") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Fact::Known(String::new()),
        Ok(text) => Fact::Known(text),
        Err(error) => Fact::Unknown(error.to_string()),
    };
    // Only an address of this host's can be bound to.
    let resolver = resolv_conf.known().and_then(|text| first_resolver(text));
    let resolver_is_own = resolver.is_some_and(|address| std::net::UdpSocket::bind((address, 0)).is_ok());
    network::Facts {
        resolv_conf,
        resolver_is_own,
    }
}

fn text(path: &str) -> Fact<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Fact::Known(text.trim_end().to_owned()),
        Err(error) => Fact::Unknown(format!("{path}: {error}")),
    }
}

/// The file system that a directory is on, or will be on once it is made.
fn directory(path: &Path, least: u64) -> Directory {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let unknown = |error: rustix::io::Errno| error.to_string();
    // The type is signed on some architectures; the magic number is the same 32 bits everywhere.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "magic numbers have 32 bits"
    )]
    let kind = rustix::fs::statfs(existing)
        .map(|found| u64::from(found.f_type as u32))
        .map_err(unknown);
    let free = rustix::fs::statvfs(existing)
        .map(|found| found.f_bavail.saturating_mul(found.f_frsize))
        .map_err(unknown);
    Directory {
        path: path.display().to_string(),
        kind: fact(kind),
        free: fact(free),
        least,
    }
}

fn fact<T>(result: Result<T, String>) -> Fact<T> {
    match result {
        Ok(value) => Fact::Known(value),
        Err(why) => Fact::Unknown(why),
    }
}

async fn services() -> Vec<Service> {
    let mut services = Vec::new();
    for unit in SERVICES {
        services.push(Service {
            unit,
            properties: properties(unit).await,
        });
    }
    services
}

async fn properties(unit: &str) -> Fact<String> {
    const WANTED: &str = "--property=LoadState,ActiveState,UnitFileState,User,Group,SupplementaryGroups,RuntimeDirectory,\
         ExecStart,LimitNOFILESoft";
    match ask("systemctl", &["show", WANTED, "--", unit]).await {
        Fact::Known(Some(text)) => Fact::Known(text),
        Fact::Known(None) => Fact::Unknown("systemctl is not installed".to_owned()),
        Fact::Unknown(why) => Fact::Unknown(why),
    }
}

async fn web(config: &Config) -> web::Facts {
    let nginx_unit = properties(&config.nginx.unit).await;
    let probe = UnixStream::connect(PROBE_SOCKET).await.is_ok();
    let nginx = nginx_unit.known().and_then(|unit| units::command(unit));
    let key = std::fs::metadata(&config.nginx.certificate_key);
    let host = config
        .workspaces
        .keys()
        .next()
        .map(|name| HostName::of_workspace(name, &config.domain).to_string());
    let resolves = match host {
        Some(host) => Some((host.clone(), resolves(host).await)),
        None => None,
    };
    web::Facts {
        now: jiff::Timestamp::now().as_second(),
        certificate: match std::fs::read(&config.nginx.certificate) {
            Ok(pem) => Fact::Known(certificate::parse(&pem)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Fact::Known(Err("it is not there".to_owned()))
            }
            Err(error) => Fact::Unknown(error.to_string()),
        },
        key_mode: match key {
            Ok(found) => Fact::Known(Some(found.permissions().mode())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Fact::Known(None),
            Err(error) => Fact::Unknown(error.to_string()),
        },
        resolves,
        nginx: Wiring {
            text: nginx_text(nginx).await,
            unit: nginx_unit,
            probe,
            web_members: accounts::members(WEB_GROUP),
        },
    }
}

/// `nginx -T` opens logs and makes directories as it would when it starts, so it has to run as the account that nginx
/// has, or it leaves files that nginx itself can't write.
async fn nginx_text(nginx: Option<Nginx>) -> Fact<String> {
    let Some(nginx) = nginx else {
        return Fact::Unknown("its unit does not say how it is started".to_owned());
    };
    if !rustix::process::geteuid().is_root() {
        return Fact::Unknown("only root may read its configuration".to_owned());
    }
    let mut argv = vec![nginx.program, "-T".to_owned()];
    argv.extend(nginx.configuration.into_iter().flat_map(|file| ["-c".to_owned(), file]));
    if let Some((user, group)) = nginx.account {
        // It binds its ports even for a test, and goes on where it has them already.
        let bind = [
            "--inh-caps=+net_bind_service",
            "--ambient-caps=+net_bind_service",
            "--init-groups",
        ];
        let mut become_nginx = vec![
            "setpriv".to_owned(),
            format!("--reuid={user}"),
            format!("--regid={group}"),
        ];
        become_nginx.extend(bind.map(str::to_owned));
        become_nginx.append(&mut argv);
        argv = become_nginx;
    }
    let arguments: Vec<&str> = argv.iter().skip(1).map(String::as_str).collect();
    match ask_path(Path::new(&argv[0]), &arguments).await {
        Ok(text) => Fact::Known(text),
        Err(why) => Fact::Unknown(why),
    }
}

async fn resolves(host: String) -> Fact<bool> {
    let (sender, receiver) = oneshot::channel();
    // A thread and not tokio's pool: leaving does not wait for a resolver that hangs.
    std::thread::spawn(move || {
        let found = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), 443));
        drop(
            sender.send(
                found
                    .map(|mut addresses| addresses.next().is_some())
                    .map_err(|error| error.to_string()),
            ),
        );
    });
    match tokio::time::timeout(Duration::from_secs(RESOLVE_SECONDS), receiver).await {
        Err(_) => Fact::Unknown(format!("the resolver did not answer within {RESOLVE_SECONDS} s")),
        Ok(Err(_)) => Fact::Unknown("the resolver gave up".to_owned()),
        Ok(Ok(Ok(found))) => Fact::Known(found),
        // getaddrinfo(3) has codes for these; the standard library keeps their words only.
        Ok(Ok(Err(error))) if error.contains("not known") || error.contains("No address") => Fact::Known(false),
        Ok(Ok(Err(error))) => Fact::Unknown(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_lines_with_their_fix_below() {
        let finding = |severity, what: &str, fix: &str| Finding {
            severity,
            code: "x",
            what: what.into(),
            fix: fix.into(),
        };
        let look = Look {
            colour: false,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let findings = [
            finding(Severity::Ok, "Linux 6.12", ""),
            finding(Severity::Warn, "little memory", "buy some"),
            finding(Severity::Fail, "no Podman", "install it"),
        ];
        insta::assert_snapshot!(render(&findings, look, false), @r"
        ok    Linux 6.12
        warn  little memory
              Fix: buy some
        fail  no Podman
              Fix: install it

        1 failure to mend, 1 warning to look at.
        ");
        assert!(
            render(&findings[..2], look, false).ends_with("\nThis machine can run workspaces; 1 warning to look at.\n")
        );
        assert!(render(&findings[..1], look, true).ends_with("\nThis machine has what workspaces need.\n"));
        assert!(render(&findings, look, true).contains("to look at.\nThis is NixOS: "));
    }
}
