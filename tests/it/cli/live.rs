//! The live view as its users see it: events, also over a restart of the daemon.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::Uri;
use axum::routing::get;
use futures_util::stream;
use serde_json::{Value, json};

use super::fake::{Admin, csm, run, run_and_leave};

fn event(second: u32, message: &str) -> Value {
    json!({
        "id": format!("{second}-1"), "at": format!("2026-03-01T12:00:{second:02}.000000Z"), "kind": "stopped",
        "workspace": "dan", "by": "admin", "why": "csm stop by root", "message": message,
    })
}

fn lines(events: &[Value]) -> String {
    let lines: Vec<String> = events.iter().map(|event| format!("{event}\n")).collect();
    lines.concat()
}

#[test]
fn events_are_lines_and_json_is_passed_on() {
    let events = [
        event(1, "stopping: csm stop by root"),
        event(2, "stopped: csm stop by root"),
    ];
    let body = lines(&events);
    let answer = body.clone();
    let admin = Admin::new(Router::new().route("/v1/events", get(move || async move { answer })));
    let done = run(csm(&admin).args(["events", "dan", "-n", "5"]));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert_eq!(
        done.stdout,
        "2026-03-01 12:00:01Z dan stopping: csm stop by root\n2026-03-01 12:00:02Z dan stopped: csm stop by root\n"
    );
    assert_eq!(admin.requests(), ["GET /v1/events?follow=false&lines=5&workspace=dan"]);
    let done = run(csm(&admin).args(["events", "--json"]));
    assert_eq!((done.code, done.stdout), (0, body));
}

#[test]
fn a_host_where_nothing_happened_says_so() {
    let admin = Admin::new(Router::new().route("/v1/events", get(async || "")));
    let done = run(csm(&admin).arg("events"));
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.as_str()),
        (0, "", "Nothing has been noted yet.\n")
    );
}

/// The second stream begins with what the first one ended with.
#[test]
fn a_follower_goes_on_where_the_daemon_was_restarted() {
    let calls = Arc::new(AtomicUsize::new(0));
    let answer = move |_: Uri| async move {
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            Body::from(lines(&[event(1, "one"), event(2, "two")]))
        } else {
            let endless = (4..).map(|number| event(number, "more"));
            let events = [event(2, "two"), event(3, "three")].into_iter().chain(endless);
            Body::from_stream(stream::iter(
                events.map(|event| Ok::<_, Infallible>(format!("{event}\n"))),
            ))
        }
    };
    let admin = Admin::new(Router::new().route("/v1/events", get(answer)));
    let done = run_and_leave(csm(&admin).args(["events", "--follow"]));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(
        admin.requests(),
        [
            "GET /v1/events?follow=true&lines=100",
            "GET /v1/events?follow=true&lines=10000&since=2026-03-01T12:00:02.000000Z"
        ]
    );
    let begin = "2026-03-01 12:00:01Z dan one\n2026-03-01 12:00:02Z dan two\n2026-03-01 12:00:03Z dan three\n";
    assert!(done.stdout.starts_with(begin), "{}", done.stdout);
}
