//! The live view as its users see it: events, also over a restart of the daemon, and what is in use.

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

/// dan works, alice runs on a host that counts little, sam is stopped.
pub fn usage(clock: u64, cpu: u64) -> String {
    let of = |name: &str, state: &str, counts: Value| {
        let limits = json!({
            "memory_max": 1 << 30, "memory_high": 1 << 29, "memory_low": 0, "cpu_quota_usec": 1_500_000, "cpu_weight": 100,
            "tasks_max": 400,
        });
        json!({ "name": name, "state": state, "limits": limits, "counts": counts })
    };
    let dan = json!({
        "cpu_usec": cpu, "memory_bytes": 1000 << 20, "memory_peak_bytes": 1 << 30, "tasks": 37, "oom_kills": 2,
        "pressure_cpu": 12.34, "pressure_memory": 0.0, "pressure_io": 0.6,
    });
    let alice = json!({ "cpu_usec": cpu / 100 });
    json!({
        "api": 1, "clock_usec": clock,
        "workspaces": [of("alice", "ready", alice), of("dan", "ready", dan), of("sam", "stopped", json!(null))],
    })
    .to_string()
}

/// Each answer is a second after the one before, in which dan took 0.75 s of processor time.
pub fn busy_host() -> Admin {
    let answers = Arc::new(AtomicUsize::new(1));
    let usage = move || async move {
        let number = answers.fetch_add(1, Ordering::SeqCst) as u64;
        usage(number * 1_000_000, number * 750_000)
    };
    let disk = async || json!({ "bytes": 5_368_709_120_u64 }).to_string();
    Admin::new(
        Router::new()
            .route("/v1/usage", get(usage))
            .route("/v1/workspaces/{name}/disk", get(disk)),
    )
}

#[test]
fn top_in_a_pipe_is_one_table_and_what_is_not_counted_is_no_zero() {
    let admin = busy_host();
    let done = run(csm(&admin).arg("top"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(done.stdout, @"
    NAME   STATE    CPU          MEMORY       WAITING C/M/IO  TASKS      OOM KILLS
    dan    ready    0.75 of 1.5  1000M of 1G  12%/0%/1%       37 of 400  2
    alice  ready    0.01 of 1.5  n/a          n/a/n/a/n/a     n/a        n/a
    sam    stopped  -            -            -               -          -
    ");
    assert_eq!(admin.requests(), ["GET /v1/usage"; 2]);
    let done = run(csm(&admin).args(["top", "sam", "dan", "--disk"]));
    insta::assert_snapshot!(done.stdout, @"
    NAME  STATE    CPU          MEMORY       WAITING C/M/IO  TASKS      OOM KILLS  DISK
    dan   ready    0.75 of 1.5  1000M of 1G  12%/0%/1%       37 of 400  2          5G
    sam   stopped  -            -            -               -          -          5G
    ");
    let done = run(csm(&admin).args(["top", "eve"]));
    assert_eq!(done.code, 2);
    assert_eq!(
        done.stderr,
        "csm: there is no workspace eve\nHint: `csm status` lists those there are\n"
    );
}

#[test]
fn top_as_json_has_the_share_that_takes_two_answers() {
    let done = run(csm(&busy_host()).args(["top", "dan", "alice", "--json", "--disk"]));
    let json: Value = serde_json::from_str(&done.stdout).unwrap();
    let workspaces = json["workspaces"].as_array().unwrap();
    assert_eq!(workspaces.len(), 2);
    assert_eq!(workspaces[1]["counts"]["cpu_cores"], 0.75);
    assert_eq!(workspaces[1]["counts"]["memory_bytes"], 1000 << 20);
    assert_eq!(workspaces[0]["counts"]["cpu_cores"], 0.008);
    assert_eq!(workspaces[0]["counts"].get("memory_bytes"), None);
    assert_eq!(workspaces[0]["disk_bytes"], 5_368_709_120_u64);
}
