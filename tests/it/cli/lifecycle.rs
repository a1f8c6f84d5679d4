//! Start, stop and restart: what is asked, what is waited for, how it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::fake::{Admin, csm, open_stream, problem, run, workspace};

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
