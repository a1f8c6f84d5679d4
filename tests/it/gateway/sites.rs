//! What another site, or another workspace's page, can make a signed-in browser do.

use hyper::StatusCode;

use super::rig::{Ask, Rig};

const ALICE: &str = "https://alice.code.example.org";

#[tokio::test]
async fn another_page_can_neither_post_nor_open_a_websocket() {
    let rig = Rig::new().await;
    let cookie = rig.sign_in("dan", "dan's").await;
    let own = || {
        Ask::of("dan")
            .cookie(&cookie)
            .get("/_csm/auth")
            .with("origin", "https://dan.code.example.org")
    };
    let websocket = |ask: Ask| {
        ask.with("x-csm-upgrade", "websocket")
            .with("sec-fetch-mode", "websocket")
    };
    let post = |ask: Ask| ask.with("x-csm-method", "POST").with("sec-fetch-mode", "cors");
    let cases = [
        (own().with("sec-fetch-site", "same-origin"), StatusCode::NO_CONTENT),
        (
            post(own()).with("sec-fetch-site", "same-origin"),
            StatusCode::NO_CONTENT,
        ),
        (
            websocket(own()).with("sec-fetch-site", "same-origin"),
            StatusCode::NO_CONTENT,
        ),
        (
            websocket(own())
                .with("origin", ALICE)
                .with("sec-fetch-site", "same-site"),
            StatusCode::FORBIDDEN,
        ),
        (websocket(own()).with("origin", ALICE), StatusCode::FORBIDDEN),
        (
            websocket(own()).with("origin", "https://dan.code.example.org:8443"),
            StatusCode::FORBIDDEN,
        ),
        (
            post(own()).with("origin", ALICE).with("sec-fetch-site", "same-site"),
            StatusCode::FORBIDDEN,
        ),
        (post(own()).with("origin", "null"), StatusCode::FORBIDDEN),
        (
            post(own()).without("origin").with("sec-fetch-site", "cross-site"),
            StatusCode::FORBIDDEN,
        ),
        (
            own()
                .without("origin")
                .with("sec-fetch-mode", "no-cors")
                .with("sec-fetch-site", "same-site"),
            StatusCode::FORBIDDEN,
        ),
        (
            own()
                .without("origin")
                .navigating()
                .with("sec-fetch-site", "cross-site"),
            StatusCode::NO_CONTENT,
        ),
        (
            own()
                .without("origin")
                .navigating()
                .with("sec-fetch-dest", "iframe")
                .with("sec-fetch-site", "same-site"),
            StatusCode::FORBIDDEN,
        ),
    ];
    for (number, (ask, status)) in cases.into_iter().enumerate() {
        assert_eq!(ask.await_reply(&rig).await.status, status, "case {number}");
    }
}

#[tokio::test]
async fn another_page_can_neither_sign_in_nor_out() {
    let rig = Rig::new().await;
    let cookie = rig.sign_in("dan", "dan's").await;
    let forged = |ask: Ask| {
        [
            ask.clone().with("origin", ALICE),
            ask.clone().with("origin", "null"),
            ask.clone().with("sec-fetch-site", "same-site"),
            ask.clone().without("origin").with("sec-fetch-site", "same-site"),
            ask.without("origin"),
        ]
    };
    for ask in forged(Ask::of("dan").form("dan's")) {
        let reply = ask.await_reply(&rig).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert!(reply.cookie().is_none());
    }
    for ask in forged(Ask::of("dan").cookie(&cookie).post("/_csm/sign-out", String::new())) {
        assert_eq!(ask.await_reply(&rig).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(rig.auth("dan", &cookie).await, StatusCode::NO_CONTENT);
    let ask = Ask::of("dan")
        .form("dan's")
        .without("origin")
        .with("sec-fetch-site", "same-origin");
    assert_eq!(ask.await_reply(&rig).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn nobody_is_led_to_another_host() {
    let rig = Rig::new().await;
    for next in [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/\t/evil.example",
        "/x\r\nSet-Cookie: a=b",
        "/_csm/sign-out",
    ] {
        let reply = Ask::of("dan").form_to("dan's", next).await_reply(&rig).await;
        assert_eq!(
            (reply.status, reply.location()),
            (StatusCode::SEE_OTHER, "/"),
            "{next:?}"
        );
        let ask = Ask::of("dan").navigating().get("/_csm/denied");
        let reply = if next.contains('\n') || next.contains('\t') {
            continue;
        } else {
            ask.with("x-csm-uri", next)
        };
        assert_eq!(
            reply.await_reply(&rig).await.location(),
            "/_csm/sign-in?next=%2F",
            "{next:?}"
        );
    }
}

#[tokio::test]
async fn what_nginx_did_not_set_opens_nothing() {
    let rig = Rig::new().await;
    let cookie = rig.sign_in("dan", "dan's").await;
    for missing in ["x-csm-workspace", "x-csm-origin"] {
        let ask = Ask::of("dan").cookie(&cookie).without(missing);
        assert_eq!(
            ask.clone().get("/_csm/auth").await_reply(&rig).await.status,
            StatusCode::FORBIDDEN,
            "{missing}"
        );
        for path in ["/_csm/denied", "/_csm/away", "/_csm/sign-in", "/_csm/sign-out"] {
            assert_eq!(
                ask.clone().get(path).await_reply(&rig).await.status,
                StatusCode::NOT_FOUND,
                "{missing} {path}"
            );
        }
    }
    for path in ["/", "/_csm/", "/_csm/x", "/_csm/auth/", "/_csm/../_csm/x"] {
        assert_eq!(
            Ask::of("dan").cookie(&cookie).get(path).await_reply(&rig).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}
