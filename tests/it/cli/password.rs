//! Passwords: hashed before they leave the program, never in its arguments or messages.

use std::io::Write;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use argon2::{Argon2, PasswordVerifier};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::put;

use super::fake::{Admin, csm, finish, run};

type Body = Arc<Mutex<String>>;

fn admin() -> (Admin, Body) {
    let body = Body::default();
    let kept = body.clone();
    let take = move |text: String| async move {
        *kept.lock().unwrap() = text;
        StatusCode::NO_CONTENT
    };
    let forget = || async { StatusCode::NO_CONTENT };
    (
        Admin::new(Router::new().route("/v1/workspaces/dan/password", put(take).delete(forget))),
        body,
    )
}

pub fn opens(body: &str, password: &str) -> bool {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let hash = body["argon2"].as_str().unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    Argon2::default().verify_password(password.as_bytes(), hash).is_ok()
}

#[test]
fn one_line_of_standard_input_is_the_password() {
    let (admin, body) = admin();
    let mut child = csm(&admin)
        .args(["password", "dan"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"correct horse battery\nnot this\n")
        .unwrap();
    let done = finish(child);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(
        done.stdout,
        "The password of dan is set; its old sessions have ended.\n"
    );
    let body = body.lock().unwrap();
    assert!(opens(&body, "correct horse battery"));
    assert!(!body.contains("horse"));
}

#[test]
fn an_empty_standard_input_changes_nothing() {
    let (admin, _) = admin();
    let done = run(csm(&admin).args(["password", "dan"]));
    assert_eq!(done.code, 2);
    assert_eq!(
        done.stderr,
        "csm: the password is empty\nHint: let one be made: csm password NAME --generate\n"
    );
    assert_eq!(admin.requests(), [""; 0]);
}

#[test]
fn a_generated_password_is_printed_alone_and_opens_the_workspace() {
    let (admin, body) = admin();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let done = run(csm(&admin).args(["password", "dan", "--generate"]));
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stderr.contains("Its old sessions have ended."), "{}", done.stderr);
        let password = done.stdout.strip_suffix('\n').unwrap().to_owned();
        assert_eq!(
            password.split('-').map(str::len).collect::<Vec<_>>(),
            [5; 4],
            "{password}"
        );
        assert!(opens(&body.lock().unwrap(), &password));
        seen.push(password);
    }
    assert_ne!(seen[0], seen[1]);
}

#[test]
fn a_password_that_the_daemon_refused_is_not_printed() {
    let refuse = || async { super::problem(409, "a file is configured", "dan has password_file", "change that file") };
    let admin = Admin::new(Router::new().route("/v1/workspaces/dan/password", put(refuse)));
    let done = run(csm(&admin).args(["password", "dan", "--generate"]));
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    assert_eq!(
        done.stderr,
        "csm: a file is configured: dan has password_file\nHint: change that file\n"
    );
}

#[test]
fn a_password_can_be_forgotten() {
    let (admin, _) = admin();
    let done = run(csm(&admin).args(["password", "dan", "--remove"]));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(admin.requests(), ["DELETE /v1/workspaces/dan/password"]);
}
