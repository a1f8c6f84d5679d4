//! Signing in, staying signed in, and everything that ends it.

use std::os::unix::fs::PermissionsExt;

use code_server_multi::api::{GatewayEvent, GatewaySettings, State};
use hyper::StatusCode;

use super::rig::{Ask, Rig, pair, workspace};

#[tokio::test]
async fn signs_in_and_out() {
    let rig = Rig::new().await;
    let reply = Ask::of("dan")
        .navigating()
        .get("/_csm/sign-in?next=/x")
        .await_reply(&rig)
        .await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.body.contains("Sign in to dan"));

    let reply = Ask::of("dan")
        .form_to("dan's", "/?folder=/home/coder/project")
        .await_reply(&rig)
        .await;
    assert_eq!(
        (reply.status, reply.location()),
        (StatusCode::SEE_OTHER, "/?folder=/home/coder/project")
    );
    let cookie = reply.cookie().unwrap();
    assert!(cookie.starts_with("__Host-csm--"), "{cookie}");
    let attributes: Vec<_> = cookie.split("; ").skip(1).collect();
    let common = ["Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Priority=High"];
    assert_eq!(attributes, [&common[..], &["Max-Age=2592000"]].concat());
    let device = reply.device().unwrap();
    assert!(device.starts_with("__Host-csm--device-"), "{device}");
    let attributes: Vec<_> = device.split("; ").skip(1).collect();
    assert_eq!(attributes, [&common[..], &["Max-Age=15552000"]].concat());
    let cookie = cookie.split(';').next().unwrap();

    assert_eq!(rig.auth("dan", cookie).await, StatusCode::NO_CONTENT);
    assert_eq!(
        rig.auth("dan", &format!("a=b; {cookie}; c=d")).await,
        StatusCode::NO_CONTENT
    );
    let reply = Ask::of("dan")
        .cookie(cookie)
        .navigating()
        .get("/_csm/sign-in?next=/x")
        .await_reply(&rig)
        .await;
    assert_eq!((reply.status, reply.location()), (StatusCode::SEE_OTHER, "/x"));

    let reply = Ask::of("dan")
        .cookie(cookie)
        .navigating()
        .get("/_csm/sign-out")
        .await_reply(&rig)
        .await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(
        rig.auth("dan", cookie).await,
        StatusCode::NO_CONTENT,
        "looking at the page signs nobody out"
    );
    let reply = Ask::of("dan")
        .cookie(cookie)
        .post("/_csm/sign-out", String::new())
        .await_reply(&rig)
        .await;
    assert_eq!(
        (reply.status, reply.location()),
        (StatusCode::SEE_OTHER, "/_csm/sign-in?signed-out")
    );
    let name = cookie.split('=').next().unwrap();
    assert_eq!(
        reply.cookies(),
        [format!(
            "{name}=; Path=/; Secure; HttpOnly; SameSite=Lax; Priority=High; Max-Age=0"
        )],
        "the browser stays known"
    );
    assert_eq!(rig.auth("dan", cookie).await, StatusCode::UNAUTHORIZED);
    let reply = Ask::of("dan")
        .navigating()
        .get(reply.location())
        .await_reply(&rig)
        .await;
    assert!(reply.body.contains("You are signed out."));
}

#[tokio::test]
async fn refuses_wrong_passwords_alike() {
    let rig = Rig::new().await;
    rig.say(workspace("unset", State::Blocked, None));
    rig.say(workspace("off", State::Disabled, Some("right")));
    let cookie = rig.sign_in("dan", "dan's").await;
    rig.until_heard(&cookie).await;
    let mut pages = Vec::new();
    for (name, password) in [("dan", "alice's"), ("unset", "x"), ("off", "right"), ("nobody", "x")] {
        let reply = Ask::of(name).form(password).await_reply(&rig).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name}");
        assert!(reply.cookie().is_none());
        assert!(reply.body.contains("That password is not right."), "{}", reply.body);
        pages.push(reply.body.replace(&format!("Sign in to {name}"), "Sign in to X"));
    }
    assert!(
        pages.iter().all(|page| page == &pages[0]),
        "the pages tell nothing apart"
    );
    for password in ["", &"x".repeat(1025)] {
        assert_eq!(
            Ask::of("dan").form(password).await_reply(&rig).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
}

#[tokio::test]
async fn another_workspaces_cookie_opens_nothing() {
    let rig = Rig::new().await;
    let dan = rig.sign_in("dan", "dan's").await;
    let alice = rig.sign_in("alice", "alice's").await;
    assert_eq!(rig.auth("alice", &dan).await, StatusCode::UNAUTHORIZED);
    assert_eq!(rig.auth("dan", &alice).await, StatusCode::UNAUTHORIZED);
    assert_eq!(rig.auth("dan", &dan).await, StatusCode::NO_CONTENT);
    for cookie in [
        "__Host-csm=",
        "__Host-csm=x",
        &alice,
        &dan[..60],
        &dan.replace('=', " ="),
        &dan.replace('=', "= "),
        &dan.replace("--", "-"),
        &dan.replacen("__Host", "__HOST", 1),
    ] {
        assert_eq!(rig.auth("dan", cookie).await, StatusCode::UNAUTHORIZED, "{cookie}");
    }
    // What others put beside it takes nothing away.
    let planted: Vec<String> = (0..200)
        .map(|number| format!("__Host-csm--{number:016x}={}", "A".repeat(43)))
        .collect();
    let planted = planted.join("; ");
    for cookies in [
        format!("{dan}; {alice}"),
        format!("{alice}; {dan}"),
        format!("{dan}; {dan}"),
        format!("__Host-csm=x; {dan}; __Host-csm=y"),
        format!("{planted}; {dan}"),
    ] {
        assert_eq!(rig.auth("dan", &cookies).await, StatusCode::NO_CONTENT, "{cookies}");
    }
}

#[tokio::test]
async fn a_new_password_ends_sessions_at_the_next_request() {
    let rig = Rig::new().await;
    let dan = rig.sign_in("dan", "dan's").await;
    let alice = rig.sign_in("alice", "alice's").await;
    rig.say(workspace("dan", State::Ready, Some("new")));
    rig.until("dan to be signed out", async || {
        rig.auth("dan", &dan).await == StatusCode::UNAUTHORIZED
    })
    .await;
    assert_eq!(rig.auth("alice", &alice).await, StatusCode::NO_CONTENT);
    assert_eq!(
        Ask::of("dan").form("dan's").await_reply(&rig).await.status,
        StatusCode::UNAUTHORIZED
    );
    let dan = rig.sign_in("dan", "new").await;
    assert_eq!(rig.auth("dan", &dan).await, StatusCode::NO_CONTENT);
    rig.say(workspace("dan", State::Failed, Some("new")));
    rig.say(GatewayEvent::Removed {
        name: "alice".to_owned(),
    });
    rig.until("alice to be signed out", async || {
        rig.auth("alice", &alice).await == StatusCode::UNAUTHORIZED
    })
    .await;
    assert_eq!(
        rig.auth("dan", &dan).await,
        StatusCode::NO_CONTENT,
        "a change of state signs nobody out"
    );
    rig.say(workspace("dan", State::Disabled, Some("new")));
    rig.until("dan to be signed out", async || {
        rig.auth("dan", &dan).await == StatusCode::UNAUTHORIZED
    })
    .await;
}

#[tokio::test]
async fn a_restart_signs_nobody_out_and_nobody_back_in() {
    let mut rig = Rig::new().await;
    let stays = rig.sign_in("dan", "dan's").await;
    let leaves = rig.sign_in("dan", "dan's").await;
    let out = Ask::of("dan").cookie(&leaves).post("/_csm/sign-out", String::new());
    assert_eq!(out.await_reply(&rig).await.status, StatusCode::SEE_OTHER);
    // First the hard way: what was answered is on disk already.
    rig.kill_gateway().await;
    rig.start_gateway();
    assert_eq!(rig.auth("dan", &stays).await, StatusCode::NO_CONTENT);
    assert_eq!(rig.auth("dan", &leaves).await, StatusCode::UNAUTHORIZED);
    rig.stop_gateway().await;
    let file = std::fs::metadata(rig.state_dir().join("sessions.json")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(rig.state_dir().join("sessions.json")).unwrap();
    assert!(
        !text.contains(stays.split('=').nth(1).unwrap()),
        "a token is written down"
    );
    assert!(!text.contains("argon2"), "a password string is written down");
    rig.start_gateway();
    assert_eq!(rig.auth("dan", &stays).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_password_changed_while_the_gateway_was_down_ends_sessions_too() {
    let mut rig = Rig::new().await;
    let dan = rig.sign_in("dan", "dan's").await;
    rig.stop_gateway().await;
    rig.say(workspace("dan", State::Ready, Some("new")));
    rig.start_gateway();
    assert_eq!(
        rig.auth("dan", &dan).await,
        StatusCode::UNAUTHORIZED,
        "the first request waits for the daemon's word"
    );
}

#[tokio::test]
async fn an_unreadable_state_file_is_set_aside() {
    let mut rig = Rig::new().await;
    let dan = rig.sign_in("dan", "dan's").await;
    rig.stop_gateway().await;
    std::fs::write(rig.state_dir().join("sessions.json"), "{\"version\":1,\"sess").unwrap();
    rig.start_gateway();
    assert_eq!(rig.auth("dan", &dan).await, StatusCode::UNAUTHORIZED);
    let dan = rig.sign_in("dan", "dan's").await;
    assert_eq!(rig.auth("dan", &dan).await, StatusCode::NO_CONTENT);
    assert!(rig.state_dir().join("sessions.json.unreadable").exists());
}

#[tokio::test]
async fn a_disk_that_fails_keeps_nobody_out() {
    let rig = Rig::new().await;
    std::fs::remove_dir_all(rig.state_dir()).unwrap();
    let dan = rig.sign_in("dan", "dan's").await;
    assert_eq!(rig.auth("dan", &dan).await, StatusCode::NO_CONTENT);
    std::fs::create_dir(rig.state_dir()).unwrap();
    let _another = rig.sign_in("dan", "dan's").await;
    assert!(rig.state_dir().join("sessions.json").exists());
}

#[tokio::test]
async fn an_unused_session_ends() {
    let rig = Rig::new().await;
    let dan = rig.sign_in("dan", "dan's").await;
    rig.say(GatewayEvent::Settings(GatewaySettings {
        session_lifetime_seconds: 0,
    }));
    rig.until("dan to be signed out", async || {
        rig.auth("dan", &dan).await == StatusCode::UNAUTHORIZED
    })
    .await;
}

#[tokio::test]
async fn signing_in_again_replaces_the_session() {
    let rig = Rig::new().await;
    let first = rig.sign_in("dan", "dan's").await;
    let reply = Ask::of("dan").cookie(&first).form("dan's").await_reply(&rig).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert_eq!(rig.auth("dan", &first).await, StatusCode::UNAUTHORIZED);
    let gone = format!("{}=;", first.split('=').next().unwrap());
    assert!(
        reply.cookies().iter().any(|cookie| cookie.starts_with(&gone)),
        "{:?}",
        reply.cookies()
    );
    assert_eq!(
        rig.auth("dan", &pair(reply.cookie().unwrap())).await,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_session_under_the_name_of_an_earlier_version_goes_on() {
    let rig = Rig::new().await;
    let dan = rig.sign_in("dan", "dan's").await;
    let earlier = format!("__Host-csm={}", dan.split('=').nth(1).unwrap());
    assert_eq!(rig.auth("dan", &earlier).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_tunnel_has_a_cookie_of_its_own() {
    let rig = Rig::new().await;
    let through = |workspace| {
        Ask::of(workspace)
            .with("x-csm-tunnel", "1")
            .with("x-csm-origin", "http://localhost:8123")
    };
    let reply = through("dan").form("dan's").await_reply(&rig).await;
    let cookie = reply.cookie().unwrap();
    assert!(cookie.starts_with("csm-dan--"), "{cookie}");
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Priority=High; Max-Age=2592000"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    let status = async |ask: Ask| ask.cookie(cookie).get("/_csm/auth").await_reply(&rig).await.status;
    assert_eq!(status(through("dan")).await, StatusCode::NO_CONTENT);
    assert_eq!(status(through("alice")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(Ask::of("dan")).await, StatusCode::UNAUTHORIZED);
    // Nor under the name that the other has.
    let renamed = cookie.replacen("csm-dan", "__Host-csm", 1);
    assert_eq!(rig.auth("dan", &renamed).await, StatusCode::UNAUTHORIZED);
    let own = rig.sign_in("dan", "dan's").await.replacen("__Host-csm", "csm-dan", 1);
    let reply = through("dan").cookie(&own).get("/_csm/auth").await_reply(&rig).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}
