//! Floods, slow clients, and an orderly end.

use std::time::Duration;

use futures_util::future::join_all;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::rig::{Ask, Rig, pair, soon};

fn wrong(workspace: &str, address: &str) -> Ask {
    Ask::of(workspace).form("wrong").with("x-real-ip", address)
}

async fn statuses(rig: &Rig, asks: impl Iterator<Item = Ask>) -> Vec<u16> {
    join_all(asks.map(|ask| async { ask.await_reply(rig).await.status.as_u16() })).await
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|other| **other == status).count()
}

#[tokio::test]
async fn one_guesser_is_slowed_and_no_one_else_is() {
    let rig = Rig::new().await;
    let alice = rig.sign_in("alice", "alice's").await;
    let flood = statuses(&rig, (0..100).map(|_| wrong("alice", "192.0.2.66"))).await;
    assert_eq!((count(&flood, 401), count(&flood, 429)), (10, 90), "{flood:?}");
    let reply = wrong("dan", "192.0.2.66").await_reply(&rig).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "the limit is the source's");
    let wait: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(reply.body.contains("too many attempts"));
    let right = Ask::of("dan")
        .form("dan's")
        .with("x-real-ip", "192.0.2.66")
        .await_reply(&rig)
        .await;
    assert_eq!(
        right.status,
        StatusCode::TOO_MANY_REQUESTS,
        "the right password does not stand out"
    );
    assert_eq!(rig.auth("alice", &alice).await, StatusCode::NO_CONTENT);
    rig.sign_in("alice", "alice's").await;
}

#[tokio::test]
async fn many_guessers_do_not_lock_the_owner_out() {
    let rig = Rig::with(|bounds| (bounds.checks, bounds.queue) = (1, 1000)).await;
    let (alice, device) = rig.sign_in_with_device("alice", "alice's").await;
    let addresses: Vec<_> = (0..300).map(|number| format!("2001:db8:0:{number:x}::1")).collect();
    let flood = statuses(&rig, addresses.iter().map(|address| wrong("alice", address))).await;
    assert!((30..=36).contains(&count(&flood, 401)), "{flood:?}");
    assert_eq!(count(&flood, 401) + count(&flood, 429), 300);
    let new_place = Ask::of("alice")
        .form("alice's")
        .with("x-real-ip", "198.51.100.1")
        .await_reply(&rig)
        .await;
    assert_eq!(new_place.status, StatusCode::TOO_MANY_REQUESTS);
    let known = Ask::of("alice").cookie(&device).form("alice's").await_reply(&rig).await;
    assert_eq!(known.status, StatusCode::SEE_OTHER);
    assert_eq!(
        pair(known.device().unwrap()),
        device,
        "it stays the browser that it was"
    );
    assert_eq!(rig.auth("alice", &alice).await, StatusCode::NO_CONTENT);
    rig.sign_in("dan", "dan's").await;
}

#[tokio::test]
async fn a_neighbours_guesses_keep_no_owner_out() {
    let rig = Rig::new().await;
    let (_, device) = rig.sign_in_with_device("alice", "alice's").await;
    // From the very address that the owner has.
    let flood = statuses(&rig, (0..40).map(|_| wrong("alice", "192.0.2.1"))).await;
    assert_eq!((count(&flood, 401), count(&flood, 429)), (10, 30), "{flood:?}");
    let ask = || Ask::of("alice").form("alice's");
    assert_eq!(ask().await_reply(&rig).await.status, StatusCode::TOO_MANY_REQUESTS);
    let made_up = device.replace(&device[device.len() - 8..], "AAAAAAAA");
    for cookie in [
        made_up,
        device.replacen("--device", "--deviced", 1),
        device.to_uppercase(),
    ] {
        assert_eq!(
            ask().cookie(&cookie).await_reply(&rig).await.status,
            StatusCode::TOO_MANY_REQUESTS,
            "{cookie}"
        );
    }
    // Known there, and nowhere else.
    let elsewhere = Ask::of("dan").cookie(&device).form("dan's").await_reply(&rig).await;
    assert_eq!(elsewhere.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        ask().cookie(&device).await_reply(&rig).await.status,
        StatusCode::SEE_OTHER
    );
    // It has no more guesses than anybody.
    let own = statuses(&rig, (0..20).map(|_| wrong("alice", "192.0.2.1").cookie(&device))).await;
    assert_eq!((count(&own, 401), count(&own, 429)), (10, 10), "{own:?}");
}

#[tokio::test]
async fn the_known_browsers_outlive_a_restart() {
    let mut rig = Rig::new().await;
    let (_, device) = rig.sign_in_with_device("alice", "alice's").await;
    rig.kill_gateway().await;
    rig.start_gateway();
    rig.until_synced().await;
    let flood = statuses(
        &rig,
        (0..40).map(|number| wrong("alice", &format!("192.0.2.{}", number + 10))),
    )
    .await;
    assert!(count(&flood, 429) >= 5, "{flood:?}");
    let known = Ask::of("alice").cookie(&device).form("alice's").await_reply(&rig).await;
    assert_eq!(known.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn the_queue_for_checks_is_short() {
    let rig = Rig::with(|bounds| (bounds.checks, bounds.queue) = (1, 3)).await;
    let cookie = rig.sign_in("dan", "dan's").await;
    let asks = (0..25).map(|number| wrong("nobody", &format!("192.0.2.{}", number + 10)));
    let meanwhile = async { rig.auth("dan", &cookie).await };
    let (flood, status) = tokio::join!(statuses(&rig, asks), meanwhile);
    assert_eq!(status, StatusCode::NO_CONTENT, "those who are signed in notice nothing");
    assert!(count(&flood, 503) >= 15 && count(&flood, 401) >= 4, "{flood:?}");
    assert_eq!(count(&flood, 503) + count(&flood, 401), 25);
    assert_eq!(
        wrong("nobody", "192.0.2.9").await_reply(&rig).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn large_forms_and_heads_are_refused() {
    let rig = Rig::new().await;
    let reply = Ask::of("dan").form(&"x".repeat(9000)).await_reply(&rig).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    let mut stream = rig.connect().await;
    let _ = stream
        .write_all(
            format!(
                "GET /_csm/auth HTTP/1.1
X: {}",
                "x".repeat(70_000)
            )
            .as_bytes(),
        )
        .await;
    assert!(rest(stream).await.starts_with("HTTP/1.1 431 "));
    let reply = Ask::of("dan")
        .get("/_csm/auth")
        .with("cookie", &"x".repeat(8000))
        .await_reply(&rig)
        .await;
    assert_eq!(
        reply.status,
        StatusCode::UNAUTHORIZED,
        "what nginx lets through is read"
    );
}

async fn rest(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    let _ = soon("the end of the connection", stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn slow_clients_are_cut() {
    let rig = Rig::with(|bounds| {
        bounds.head = Duration::from_millis(500);
        bounds.body = Duration::from_millis(500);
    })
    .await;
    let cookie = rig.sign_in("dan", "dan's").await;
    let silent = rig.connect().await;
    let mut half_head = rig.connect().await;
    half_head
        .write_all(b"GET /_csm/auth HTTP/1.1\r\nHost: x\r\nX-Csm-Work")
        .await
        .unwrap();
    let mut half_body = rig.connect().await;
    let head = "POST /_csm/sign-in HTTP/1.1\r\nHost: x\r\nX-Csm-Workspace: dan\r\nX-Csm-Origin: https://x\r\n\
                Origin: https://x\r\nX-Csm-Method: POST\r\nContent-Length: 100\r\n\r\npassword=";
    half_body.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(rig.auth("dan", &cookie).await, StatusCode::NO_CONTENT);
    assert!(!rest(silent).await.contains("200"));
    assert!(!rest(half_head).await.contains("200"));
    assert!(rest(half_body).await.starts_with("HTTP/1.1 408 "));
    assert_eq!(rig.auth("dan", &cookie).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_and_are_served() {
    let rig = Rig::with(|bounds| (bounds.connections, bounds.head) = (2, Duration::from_millis(200))).await;
    let cookie = rig.sign_in("dan", "dan's").await;
    let hogs = [rig.connect().await, rig.connect().await];
    assert_eq!(rig.auth("dan", &cookie).await, StatusCode::NO_CONTENT);
    drop(hogs);
    let many = join_all((0..50).map(|_| rig.auth("dan", &cookie))).await;
    assert!(many.iter().all(|status| *status == StatusCode::NO_CONTENT));
}

#[tokio::test]
async fn pages_leave_connections_for_those_who_are_signed_in() {
    let rig = Rig::with(|bounds| (bounds.connections, bounds.checks, bounds.queue) = (4, 1, 100)).await;
    let cookie = rig.sign_in("dan", "dan's").await;
    // Each check against the stand-in takes its time, and waits for those before it.
    let mut held = JoinSet::new();
    for number in 0..3 {
        let stream = rig.connect().await;
        held.spawn(wrong("nobody", &format!("192.0.2.{}", number + 10)).reply(stream));
    }
    let page = || Ask::of("dan").navigating().get("/_csm/sign-in");
    rig.until("all pages to be taken", async || {
        page().await_reply(&rig).await.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    assert_eq!(rig.auth("dan", &cookie).await, StatusCode::NO_CONTENT);
    for reply in held.join_all().await {
        assert_eq!(reply.unwrap().status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(page().await_reply(&rig).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_being_answered_is_finished_and_what_comes_later_waits_for_the_next_one() {
    let mut rig = Rig::with(|bounds| bounds.checks = 1).await;
    let cookie = rig.sign_in("dan", "dan's").await;
    // A check against the stand-in takes its time, so that this one is under way when the end comes.
    let stream = rig.connect().await;
    let mut held = Box::pin(wrong("nobody", "192.0.2.9").reply(stream));
    assert!(futures_util::poll!(held.as_mut()).is_pending());
    rig.until("it to be accepted", async || {
        rig.auth("dan", &cookie).await == StatusCode::NO_CONTENT
    })
    .await;
    assert!(futures_util::poll!(held.as_mut()).is_pending());
    let idle = rig.connect().await;
    rig.begin_stop();
    let (reply, ()) = soon("the end", async { tokio::join!(held, rig.end_stop()) }).await;
    assert_eq!(reply.unwrap().status, StatusCode::UNAUTHORIZED);
    assert_eq!(rest(idle).await, "");

    let later = Ask::of("dan")
        .cookie(&cookie)
        .get("/_csm/auth")
        .reply(rig.connect().await);
    rig.start_gateway();
    assert_eq!(soon("the answer", later).await.unwrap().status, StatusCode::NO_CONTENT);
}
