//! The daemon comes and goes; the gateway keeps its last word.

use code_server_multi::api::State;
use hyper::StatusCode;

use super::rig::{Ask, Rig, workspace};

#[tokio::test]
async fn before_the_daemon_was_heard_sessions_go_on_and_nobody_signs_in() {
    let mut rig = Rig::new().await;
    let cookie = rig.sign_in("dan", "dan's").await;
    rig.stop_gateway().await;
    rig.stop_daemon().await;
    rig.start_gateway();
    assert_eq!(rig.auth("dan", &cookie).await, StatusCode::NO_CONTENT);
    let reply = Ask::of("dan").form("dan's").await_reply(&rig).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.headers.contains_key("retry-after"));
    assert!(reply.body.contains("not possible at the moment"), "{}", reply.body);
    let reply = Ask::of("dan")
        .cookie(&cookie)
        .navigating()
        .get("/_csm/away")
        .await_reply(&rig)
        .await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.body.contains("dan does not answer"));

    rig.start_daemon();
    rig.until_synced().await;
    assert_eq!(rig.auth("dan", &cookie).await, StatusCode::NO_CONTENT);
    rig.sign_in("dan", "dan's").await;
}

#[tokio::test]
async fn a_sign_in_waits_for_the_daemon_a_moment() {
    let mut rig = Rig::without_daemon(|bounds| bounds.first_sync = std::time::Duration::from_secs(60));
    rig.start_gateway();
    let sign_in = Ask::of("dan").form("dan's").reply(rig.connect().await);
    tokio::pin!(sign_in);
    assert!(futures_util::poll!(sign_in.as_mut()).is_pending());
    rig.start_daemon();
    assert_eq!(sign_in.await.unwrap().status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn while_the_daemon_is_away_its_last_word_stays_in_force() {
    let mut rig = Rig::new().await;
    let cookie = rig.sign_in("dan", "dan's").await;
    rig.stop_daemon().await;
    assert_eq!(rig.auth("dan", &cookie).await, StatusCode::NO_CONTENT);
    rig.sign_in("alice", "alice's").await;
    assert_eq!(
        Ask::of("alice").form("wrong").await_reply(&rig).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn what_is_gone_when_the_daemon_comes_back_is_signed_out() {
    let mut rig = Rig::new().await;
    let dan = rig.sign_in("dan", "dan's").await;
    let alice = rig.sign_in("alice", "alice's").await;
    rig.stop_daemon().await;
    rig.forget_silently("alice");
    rig.start_daemon();
    rig.until("alice to be signed out", async || {
        rig.auth("alice", &alice).await == StatusCode::UNAUTHORIZED
    })
    .await;
    assert_eq!(rig.auth("dan", &dan).await, StatusCode::NO_CONTENT);
    assert_eq!(
        Ask::of("alice").form("alice's").await_reply(&rig).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_password_changed_while_away_is_in_force_at_once() {
    let mut rig = Rig::new().await;
    let dan = rig.sign_in("dan", "dan's").await;
    rig.stop_daemon().await;
    rig.say(workspace("dan", State::Ready, Some("new")));
    rig.start_daemon();
    rig.until("dan to be signed out", async || {
        rig.auth("dan", &dan).await == StatusCode::UNAUTHORIZED
    })
    .await;
    rig.sign_in("dan", "new").await;
}

#[tokio::test]
async fn nonsense_from_the_daemon_changes_nothing() {
    let rig = Rig::new().await;
    let cookie = rig.sign_in("dan", "dan's").await;
    for line in [
        "",
        "x",
        "{}",
        "{\"workspace\":{\"name\":\"dan\"}}",
        &"x".repeat(100_000),
    ] {
        rig.say_line(line.to_owned());
        // The gateway hangs up, asks again, and is told everything anew.
        rig.until_heard(&cookie).await;
        rig.sign_in("alice", "alice's").await;
    }
}
