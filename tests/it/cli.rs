//! The command line as its users see it: the real binary against a daemon that plays a part.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

mod exec;
pub mod fake;
mod lifecycle;
mod live;
mod password;
mod screen;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use axum::Router;
use axum::routing::{get, post};
use fake::{Admin, csm, problem, run, workspace};
use serde_json::json;

fn machine() -> serde_json::Value {
    let mut bob = workspace("bob", "blocked", false);
    bob["findings"] = json!([{
        "code": "account-missing",
        "message": "the account csm-bob does not exist",
        "remediation": "create it: useradd --system csm-bob",
    }]);
    bob["memory_bytes"] = json!(null);
    json!({
        "api": 1,
        "version": "0.1.0",
        "configuration": { "path": "/etc/code-server-multi/config.toml", "loaded_at": "2020-01-01T00:00:00Z", "problems": [] },
        "image": { "name": "localhost/workspace:1", "id": "5f70", "state": "present" },
        "nginx": { "generation": "12" },
        "degraded": [],
        "workspaces": [workspace("alice", "ready", false), bob],
        "a field of a later daemon": true,
    })
}

#[test]
fn status_is_a_table_without_colour_off_a_terminal_and_blocked_is_no_failure() {
    let admin = Admin::json("/v1/workspaces", machine());
    let done = run(csm(&admin).arg("status"));
    assert_eq!(done.code, 0);
    assert_eq!(done.stderr, "");
    let lines: Vec<&str> = done.stdout.lines().collect();
    let days = lines[1]
        .split("  ")
        .find(|cell| cell.ends_with("days ago"))
        .unwrap()
        .trim();
    let width = days.len();
    assert_eq!(
        lines[0],
        format!("NAME   STATE    {:width$}  MEMORY      PENDING  URL", "SINCE")
    );
    assert_eq!(
        lines[1],
        format!("alice  ready    {days}  812M of 3G  -        https://alice.code.example.org")
    );
    assert_eq!(
        lines[2],
        format!("bob    blocked  {days}  -           -        https://bob.code.example.org")
    );
    assert_eq!(
        lines[3..],
        [
            "",
            "bob is blocked:",
            "  account-missing: the account csm-bob does not exist",
            "    Hint: create it: useradd --system csm-bob"
        ]
    );
}

#[test]
fn json_is_what_the_daemon_wrote_later_fields_included() {
    let admin = Admin::json("/v1/workspaces", machine());
    let done = run(csm(&admin).args(["status", "--json"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert_eq!(done.stdout, format!("{}\n", machine()));
}

#[test]
fn status_of_one_is_asked_for_by_name() {
    let admin = Admin::json("/v1/workspaces/alice", workspace("alice", "ready", false));
    let done = run(csm(&admin).args(["status", "alice"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert!(
        done.stdout
            .contains("Unit       csm-alice.service, main process 4711\n"),
        "{}",
        done.stdout
    );
}

#[test]
fn a_refusal_shows_what_why_and_the_way_out() {
    let refusal = || async {
        problem(
            404,
            "no such workspace",
            "\"carol\" is not in the configuration",
            "see: csm status",
        )
    };
    let admin = Admin::new(Router::new().route("/v1/workspaces/carol", get(refusal)));
    let done = run(csm(&admin).args(["status", "carol"]));
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    assert_eq!(
        done.stderr,
        "csm: no such workspace: \"carol\" is not in the configuration\nHint: see: csm status\n"
    );
}

#[test]
fn an_answer_that_makes_no_sense_is_a_failure_with_a_hint() {
    let admin = Admin::new(Router::new().route("/v1/plan", get(|| async { "<html>" })));
    let done = run(csm(&admin).arg("plan"));
    assert_eq!(done.code, 1);
    assert!(
        done.stderr
            .starts_with("csm: can't read the daemon's answer to GET /v1/plan: "),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.ends_with("Hint: compare the two versions: csm version\n"),
        "{}",
        done.stderr
    );
}

#[test]
fn without_a_daemon_the_code_is_3_and_the_hint_names_its_unit() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    for verb in ["status", "plan", "reload", "version"] {
        let done = run(fake::program().arg("--socket").arg(&socket).arg(verb));
        assert_eq!(done.code, 3, "{verb}");
        assert_eq!(
            done.stderr,
            format!(
                "csm: can't reach the daemon at {}: No such file or directory (os error 2)\n\
                 Hint: see whether it runs: systemctl status code-server-multi\n",
                socket.display()
            )
        );
    }
}

#[test]
fn a_socket_that_may_not_be_used_names_the_group() {
    let admin = Admin::json("/v1/workspaces", machine());
    std::fs::set_permissions(&admin.socket, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::set_permissions(admin.socket.parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = csm(&admin);
    if rustix::process::geteuid().is_root() {
        // Root may use any socket. The program has to lie where another account can reach it.
        let copy = admin.socket.with_file_name("csm");
        // Not by this process: a test that forks meanwhile would hold the copy open for writing (ETXTBSY).
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_csm"))
            .arg(&copy)
            .status()
            .unwrap();
        assert!(copied.success());
        command = fake::command(&copy);
        command.arg("--socket").arg(&admin.socket).uid(65534).gid(65534);
    } else {
        std::fs::set_permissions(&admin.socket, PermissionsExt::from_mode(0o000)).unwrap();
    }
    let done = run(command.arg("status"));
    assert_eq!(done.code, 3);
    assert!(
        done.stderr.contains(": Permission denied (os error 13)\nHint: "),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("group csm-admin"), "{}", done.stderr);
}

#[test]
fn a_reader_that_leaves_is_not_an_error() {
    let admin = Admin::new(Router::new().route("/v1/workspaces/dan/logs", get(fake::endless_log)));
    let done = fake::run_and_leave(csm(&admin).args(["logs", "dan", "--follow"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[test]
fn logs_are_asked_for_and_shown() {
    let lines = concat!(
        r#"{"at":"2026-03-01T12:00:00.5Z","from":"systemd","message":"Started"}"#,
        "\n",
        r#"{"at":"2026-03-01T12:00:01Z","from":"podman","message":"colour \u001b[31m"}"#,
        "\n"
    );
    let admin = Admin::new(Router::new().route("/v1/workspaces/dan/logs", get(move || async move { lines })));
    let done = run(csm(&admin).args(["logs", "dan", "-n", "7"]));
    assert_eq!(
        done.stdout,
        "2026-03-01 12:00:00Z systemd: Started\n2026-03-01 12:00:01Z podman: colour \\u{1b}[31m\n"
    );
    assert_eq!(run(csm(&admin).args(["logs", "dan", "--json"])).stdout, lines);
    assert_eq!(
        admin.requests(),
        [
            "GET /v1/workspaces/dan/logs?follow=false&lines=7",
            "GET /v1/workspaces/dan/logs?follow=false&lines=100"
        ]
    );
}

#[test]
fn an_empty_log_explains_itself() {
    let admin = Admin::new(Router::new().route("/v1/workspaces/dan/logs", get(|| async { "" })));
    let done = run(csm(&admin).args(["logs", "dan"]));
    assert_eq!((done.code, done.stdout.as_str()), (0, ""));
    assert_eq!(
        done.stderr,
        "dan has written nothing yet.\nHint: see whether it runs: csm status dan\n"
    );
}

#[test]
fn a_refused_configuration_is_shown_whole_with_code_2() {
    let refused = || async {
        let mut body = json!({
            "code": "configuration-refused", "title": "the configuration is refused", "status": 422,
            "detail": "2 problems; the one before stays in force", "remediation": "mend them, then run: csm reload",
        });
        body["problems"] = json!([
            { "key": "domain", "message": "is missing", "hint": "write domain = \"code.example.org\"" },
            { "key": "workspaces.dan.port", "value": "80", "message": "is below 1024", "hint": "choose 1024 to 65535" },
        ]);
        fake::problem_body(422, &body)
    };
    let admin = Admin::new(Router::new().route("/v1/reload", post(refused)));
    let done = run(csm(&admin).arg("reload"));
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    assert_eq!(
        done.stderr,
        "csm: the configuration is refused: 2 problems; the one before stays in force\n\
         domain: is missing\n  Hint: write domain = \"code.example.org\"\n\
         workspaces.dan.port: 80: is below 1024\n  Hint: choose 1024 to 65535\n\
         Hint: mend them, then run: csm reload\n"
    );
}

#[test]
fn a_failed_check_is_a_failed_test() {
    let report = json!({ "checks": [
        { "name": "node", "ok": true, "detail": "v24.1.0" },
        { "name": "terminal", "ok": false, "detail": "no answer within 5 s" },
    ]});
    let admin = Admin::new(Router::new().route(
        "/v1/workspaces/dan/test",
        post(move || async move { report.to_string() }),
    ));
    let done = run(csm(&admin).args(["test", "dan"]));
    assert_eq!((done.code, done.stderr.as_str()), (1, ""));
    assert_eq!(
        done.stdout,
        "ok    node      v24.1.0\nfail  terminal  no answer within 5 s\n"
    );
}

#[test]
fn versions_that_differ_are_pointed_out() {
    let admin = Admin::json("/v1/version", json!({ "api": 1, "version": "0.0.9" }));
    let done = run(csm(&admin).arg("version"));
    assert_eq!(
        (done.code, done.stdout),
        (0, format!("csm     {}\ndaemon  0.0.9\n", env!("CARGO_PKG_VERSION")))
    );
    assert!(
        done.stderr.starts_with("Hint: the daemon is of another version"),
        "{}",
        done.stderr
    );
}

#[test]
fn wrong_usage_is_code_2_and_asks_nothing() {
    let admin = Admin::json("/v1/workspaces", machine());
    for arguments in [
        &["start"][..],
        &["start", "../x"],
        &["frobnicate"],
        &["--log", "a=b=c", "status"],
        &[],
    ] {
        let done = run(csm(&admin).args(arguments));
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (2, ""),
            "{arguments:?}: {}",
            done.stderr
        );
    }
    assert_eq!(admin.requests(), [""; 0]);
}

#[test]
fn every_problem_of_a_configuration_is_shown_with_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, "domain = \"Code\"\nfrobnicate = 1\n").unwrap();
    let done = run(fake::program().arg("check-config").arg(&file));
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert!(
        lines[0].starts_with(&format!("csm: {} has ", file.display())),
        "{}",
        done.stderr
    );
    assert!(lines[0].ends_with(" problems"), "{}", done.stderr);
    for key in ["domain: ", "frobnicate: "] {
        let at = lines.iter().position(|line| line.starts_with(key));
        let at = at.unwrap_or_else(|| panic!("{key} is not in {}", done.stderr));
        assert!(lines[at + 1].starts_with("  Hint: "), "{}", done.stderr);
    }
    let done = run(fake::program().args(["check-config", "--json"]).arg(&file));
    assert_eq!(done.code, 2);
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert!(
        json["problems"]
            .as_array()
            .unwrap()
            .iter()
            .any(|problem| problem["key"] == "frobnicate"),
        "{json}"
    );
}

#[test]
fn a_configuration_that_is_fine_is_said_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, GOOD).unwrap();
    let done = run(fake::program().arg("check-config").arg(&file));
    assert_eq!(
        (done.code, done.stdout, done.stderr.as_str()),
        (
            0,
            format!("{} is fine: 1 workspace under code.example.org\n", file.display()),
            ""
        )
    );
    let done = run(fake::program().args(["check-config", "--json"]).arg(&file));
    assert_eq!(done.code, 0);
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(json, json!({ "path": file, "ok": true, "problems": [] }));
}

#[test]
fn a_configuration_that_is_not_there_is_code_2() {
    let done = run(fake::program().args(["check-config", "/nonexistent/config.toml"]));
    assert_eq!(done.code, 2);
    assert_eq!(
        done.stderr,
        "csm: can't read /nonexistent/config.toml: No such file or directory (os error 2)\n"
    );
}

const GOOD: &str = r#"
domain = "code.example.org"

[image]
name = "localhost/workspace:1"

[nginx]
certificate = "/etc/ssl/code/fullchain.pem"
certificate_key = "/etc/ssl/code/privkey.pem"

[workspaces.dan]
"#;

#[test]
fn doctor_works_without_a_daemon_and_every_finding_has_its_fix() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, GOOD).unwrap();
    let done = run(fake::program().args(["doctor", "--json", "--config"]).arg(&file));
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let findings = json["findings"].as_array().unwrap();
    let said = |code: &str| {
        findings
            .iter()
            .find(|finding| finding["code"] == code)
            .map(|finding| &finding["severity"])
    };
    assert_eq!(said("configuration"), Some(&json!("ok")), "{json}");
    assert_eq!(said("certificate-unreadable"), Some(&json!("fail")), "{json}");
    assert_eq!(said("account-missing"), Some(&json!("fail")), "{json}");
    assert!(said("kernel").is_some(), "{json}");
    for finding in findings {
        assert_eq!(finding["severity"] == "ok", finding["fix"] == "", "{finding}");
    }
    assert_eq!(done.code, 1, "an account is missing");
    let text = run(fake::program().args(["doctor", "--config"]).arg(&file));
    assert_eq!((text.code, text.stderr.as_str()), (1, ""));
    assert!(
        text.stdout
            .contains("\nfail  dan: the account csm-dan does not exist\n      Fix: create it: "),
        "{}",
        text.stdout
    );
}
