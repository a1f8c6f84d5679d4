//! Start, stop and restart: what is asked, what is waited for, how it is told.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::fake::{Admin, csm, finish, open_stream, problem, program, run, workspace};

/// A workspace whose verb answers `first` and whose `follow` then says `rest`.
fn part(routes: Router, name: &str, verb: &str, first: Value, rest: Vec<Value>) -> Router {
    routes
        .route(
            &format!("/v1/workspaces/{name}/{verb}"),
            post(move || async move { first.to_string() }),
        )
        .route(
            &format!("/v1/workspaces/{name}/follow"),
            get(move || async move { open_stream(rest.clone()) }),
        )
}

#[test]
fn start_waits_until_it_is_ready_and_says_each_state_once() {
    let admin = Admin::new(part(
        Router::new(),
        "dan",
        "start",
        workspace("dan", "stopped", true),
        vec![
            workspace("dan", "stopped", true),
            workspace("dan", "starting", true),
            workspace("dan", "starting", true),
            workspace("dan", "ready", false),
        ],
    ));
    let done = run(csm(&admin).args(["start", "dan"]));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.stdout, "dan is ready at https://dan.code.example.org\n");
    assert_eq!(done.stderr, "dan: stopped\ndan: starting\ndan: ready\n");
    assert_eq!(
        admin.requests(),
        ["POST /v1/workspaces/dan/start", "GET /v1/workspaces/dan/follow"]
    );
}

#[test]
fn a_restart_is_not_over_while_the_daemon_is_busy() {
    let admin = Admin::new(part(
        Router::new(),
        "dan",
        "restart",
        workspace("dan", "ready", true),
        vec![
            workspace("dan", "ready", true),
            workspace("dan", "stopping", true),
            workspace("dan", "starting", true),
            workspace("dan", "ready", false),
        ],
    ));
    let done = run(csm(&admin).args(["restart", "dan"]));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.stderr, "dan: ready\ndan: stopping\ndan: starting\ndan: ready\n");
}

#[test]
fn stop_waits_until_it_is_gone() {
    let admin = Admin::new(part(
        Router::new(),
        "dan",
        "stop",
        workspace("dan", "stopping", true),
        vec![workspace("dan", "stopping", true), workspace("dan", "stopped", false)],
    ));
    let done = run(csm(&admin).args(["stop", "dan"]));
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "dan is stopped\n"),
        "{}",
        done.stderr
    );
}

#[test]
fn an_answer_that_is_final_needs_no_following() {
    let ready = || async { workspace("dan", "ready", false).to_string() };
    let admin = Admin::new(Router::new().route("/v1/workspaces/dan/start", post(ready)));
    assert_eq!(run(csm(&admin).args(["start", "dan"])).code, 0);
    assert_eq!(admin.requests(), ["POST /v1/workspaces/dan/start"]);
}

#[test]
fn one_that_fails_does_not_hold_up_the_others() {
    let mut failed = workspace("bob", "failed", false);
    failed["findings"] =
        json!([{ "code": "image-missing", "message": "the image is not there", "remediation": "load it" }]);
    let gone = || async { problem(404, "no such workspace", "carol is not configured", "see: csm status") };
    let routes = Router::new().route("/v1/workspaces/carol/start", post(gone));
    let routes = part(routes, "bob", "start", workspace("bob", "starting", true), vec![failed]);
    let dan = vec![workspace("dan", "ready", false)];
    let admin = Admin::new(part(routes, "dan", "start", workspace("dan", "starting", true), dan));
    let done = run(csm(&admin).args(["start", "bob", "dan", "carol", "dan"]));
    assert_eq!(done.code, 1);
    assert_eq!(done.stdout, "dan is ready at https://dan.code.example.org\n");
    for text in [
        "csm: bob is failed\n  image-missing: the image is not there\n    Hint: load it\n",
        "carol: csm: no such workspace: carol is not configured\nHint: see: csm status\n",
    ] {
        assert!(done.stderr.contains(text), "{}", done.stderr);
    }
    let starts = admin
        .requests()
        .iter()
        .filter(|request| request.starts_with("POST"))
        .count();
    assert_eq!(starts, 3, "a name given twice is asked for once");
}

#[test]
fn json_has_one_line_a_workspace_and_nothing_else() {
    let admin = Admin::new(part(
        Router::new(),
        "dan",
        "start",
        workspace("dan", "starting", true),
        vec![workspace("dan", "ready", false)],
    ));
    let done = run(csm(&admin).args(["start", "dan", "--json"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert_eq!(done.stdout, format!("{}\n", workspace("dan", "ready", false)));
}

/// It ended with the first try: exit code 1, while the second one was under way.
#[test]
fn a_slow_start_is_waited_for_and_that_is_said_once() {
    let slow = |message: &str| {
        let mut status = workspace("dan", "starting", false);
        status["findings"] = json!([{ "code": "editor-slow", "message": message, "remediation": "wait" }]);
        status
    };
    let admin = Admin::new(part(
        Router::new(),
        "dan",
        "start",
        workspace("dan", "starting", true),
        vec![
            slow("it takes long"),
            slow("it takes long"),
            slow("it gave up"),
            workspace("dan", "ready", false),
        ],
    ));
    let done = run(csm(&admin).args(["start", "dan"]));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(
        done.stderr,
        "dan: starting\ndan: it takes long; it is waited for, 300 s at most\n\
         dan: it gave up; it is waited for, 300 s at most\ndan: ready\n"
    );
}

#[test]
fn the_deadline_is_named_and_the_daemon_goes_on() {
    let admin = Admin::new(part(
        Router::new(),
        "dan",
        "start",
        workspace("dan", "starting", true),
        vec![workspace("dan", "starting", true)],
    ));
    let done = run(csm(&admin).args(["start", "dan", "--timeout", "1"]));
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    assert_eq!(
        done.stderr,
        "dan: starting\ncsm: dan is still starting after 1 s\n\
         Hint: the daemon goes on with it; see: csm status dan, csm logs dan\n"
    );
}

#[test]
fn a_daemon_that_is_restarted_meanwhile_is_followed_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let follow = move || {
        let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        // The first stream ends in the middle, as it does when the daemon goes.
        let cut = Body::from(format!("{}\n", workspace("dan", "starting", true)));
        async move {
            if first {
                cut
            } else {
                open_stream(vec![workspace("dan", "ready", false)])
            }
        }
    };
    let starting = || async { workspace("dan", "starting", true).to_string() };
    let admin = Admin::new(
        Router::new()
            .route("/v1/workspaces/dan/start", post(starting))
            .route("/v1/workspaces/dan/follow", get(follow)),
    );
    let done = run(csm(&admin).args(["start", "dan"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, "dan: starting\ndan: ready\n"));
}

/// dan, who is in this state at once, behind a daemon that hears one request and dies of it.
fn after_a_death(verb: &str, state: &'static str) -> Admin {
    let answer = post(move || async move { workspace("dan", state, false).to_string() });
    let routes = Router::new().route(&format!("/v1/workspaces/dan/{verb}"), answer);
    Admin::later(routes, |socket| {
        let (first, socket) = (UnixListener::bind(socket).unwrap(), socket.to_owned());
        move || {
            let (mut caller, _) = first.accept().unwrap();
            caller.read_exact(&mut [0; 16]).unwrap();
            drop((caller, first));
            std::fs::remove_file(&socket).unwrap();
            UnixListener::bind(&socket).unwrap()
        }
    })
}

#[test]
fn the_next_daemon_is_asked_to_start_or_to_stop_once_more() {
    for (verb, state) in [("start", "ready"), ("stop", "stopped")] {
        let admin = after_a_death(verb, state);
        let done = run(csm(&admin).args([verb, "dan"]));
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert_eq!(admin.requests(), [format!("POST /v1/workspaces/dan/{verb}")]);
    }
}

/// It may have been done, and a second one would end what the first one started.
#[test]
fn a_restart_that_was_cut_off_is_not_asked_for_once_more() {
    let admin = after_a_death("restart", "ready");
    let done = run(csm(&admin).args(["restart", "dan"]));
    assert_eq!(done.code, 3, "{}", done.stderr);
    let begin = "csm: lost the daemon during POST /v1/workspaces/dan/restart: ";
    assert!(done.stderr.starts_with(begin), "{}", done.stderr);
    assert_eq!(admin.requests(), [""; 0]);
}

#[test]
fn a_daemon_that_is_not_there_yet_is_waited_for_and_that_is_said_once() {
    let ready = |name| post(move || async move { workspace(name, "ready", false).to_string() });
    let routes = Router::new()
        .route("/v1/workspaces/alice/restart", ready("alice"))
        .route("/v1/workspaces/dan/restart", ready("dan"));
    let (begin, begun) = mpsc::channel();
    let admin = Admin::later(routes, |socket| {
        let socket = socket.to_owned();
        move || {
            begun.recv().unwrap();
            UnixListener::bind(&socket).unwrap()
        }
    });
    let mut child = csm(&admin)
        .args(["restart", "alice", "dan"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let socket = admin.socket.display();
    assert_eq!(
        line,
        format!(
            "csm: can't reach the daemon at {socket}: No such file or directory (os error 2); it is waited for, 30 s at most\n"
        )
    );
    begin.send(()).unwrap();
    let done = finish(child);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(done.code, 0, "{rest}");
    let mut states: Vec<&str> = rest.lines().collect();
    states.sort_unstable();
    assert_eq!(states, ["alice: ready", "dan: ready"]);
}

#[test]
fn a_daemon_that_does_not_come_is_given_up_on_at_the_deadline() {
    let done = run(program().args(["--socket", "/nonexistent/admin.sock", "start", "dan", "--timeout", "1"]));
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (
            3,
            "csm: can't reach the daemon at /nonexistent/admin.sock: No such file or directory (os error 2)\n\
             Hint: see whether it runs: systemctl status code-server-multi\n"
        )
    );
}
