//! What is said in the place of an editor.

use code_server_multi::api::{GatewayEvent, GatewayWorkspace, State};
use hyper::StatusCode;

use super::rig::{Ask, Rig, cheap, workspace};

#[tokio::test]
async fn strangers_are_asked_to_sign_in() {
    let rig = Rig::new().await;
    for path in ["/_csm/denied", "/_csm/away"] {
        let ask = Ask::of("dan").get(path).with("x-csm-uri", "/proxy/3000/?a=b&c=d");
        let reply = ask.clone().navigating().await_reply(&rig).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER);
        assert_eq!(
            reply.location(),
            "/_csm/sign-in?next=%2Fproxy%2F3000%2F%3Fa%3Db%26c%3Dd"
        );
        let reply = Ask::of("dan")
            .navigating()
            .get(reply.location())
            .await_reply(&rig)
            .await;
        assert!(
            reply.body.contains("value=\"/proxy/3000/?a=b&amp;c=d\""),
            "{}",
            reply.body
        );
        let reply = ask.clone().with("accept", "text/html,*/*").await_reply(&rig).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "a browser without Fetch Metadata");

        for ask in [
            ask.clone(),
            ask.clone().with("sec-fetch-mode", "cors"),
            ask.clone().with("x-csm-upgrade", "websocket"),
            ask.clone().with("x-csm-method", "POST").with("accept", "text/html"),
        ] {
            let reply = ask.await_reply(&rig).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
            assert_eq!(reply.headers["content-type"], "application/problem+json");
            assert!(reply.body.contains("\"code\":\"not-signed-in\""), "{}", reply.body);
            assert_eq!(reply.headers["cache-control"], "no-store");
        }
    }
}

#[tokio::test]
async fn an_absent_workspace_says_its_state() {
    let rig = Rig::new().await;
    let cookie = rig.sign_in("dan", "dan's").await;
    let ask = || Ask::of("dan").cookie(&cookie).get("/_csm/away").with("x-csm-uri", "/x");
    let cases = [
        (State::Stopped, "dan is stopped", false),
        (State::Starting, "dan is starting", true),
        (State::Suspended, "dan is paused", false),
        (State::Stopping, "dan is stopping", true),
        (State::Failed, "dan could not start", false),
        (State::Blocked, "dan can't start", false),
        (State::Ready, "dan does not answer", false),
    ];
    for (state, words, refreshes) in cases {
        rig.say(workspace("dan", state, Some("dan's")));
        rig.until(words, async || {
            ask().navigating().await_reply(&rig).await.body.contains(words)
        })
        .await;
        let reply = ask().navigating().await_reply(&rig).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(reply.headers.contains_key("retry-after"));
        assert!(
            reply.headers["content-security-policy"]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'; style-src 'sha256-")
        );
        assert_eq!(reply.body.contains("http-equiv=\"refresh\""), refreshes, "{words}");
        assert!(reply.body.contains("href=\"/x\""));
        let reply = ask().with("sec-fetch-mode", "cors").await_reply(&rig).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.body, format!("The workspace {words}.\n"));
        assert!(reply.headers.contains_key("retry-after"));
    }
}

#[tokio::test]
async fn why_it_failed_is_said_and_escaped() {
    let rig = Rig::new().await;
    let cookie = rig.sign_in("dan", "dan's").await;
    rig.say(GatewayEvent::Workspace(GatewayWorkspace {
        name: "dan".to_owned(),
        host: "dan.code.example.org".to_owned(),
        state: State::Failed,
        message: "The image <b>is</b> missing.".to_owned(),
        password: Some(cheap("dan's")),
    }));
    let ask = || Ask::of("dan").cookie(&cookie).navigating().get("/_csm/away");
    rig.until("the message", async || {
        ask()
            .await_reply(&rig)
            .await
            .body
            .contains("The image &lt;b&gt;is&lt;/b&gt; missing.")
    })
    .await;
    let reply = Ask::of("dan").navigating().get("/_csm/away").await_reply(&rig).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "a stranger is told nothing");
}
