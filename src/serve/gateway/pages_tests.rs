//! The pages as text: what they say, and that nothing foreign gets out of its place in them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};

use super::*;

fn dan() -> WorkspaceName {
    WorkspaceName::parse("dan").unwrap()
}

async fn text(response: Response) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn main_part(response: Response) -> String {
    let text = text(response).await;
    let (_, rest) = text.split_once("<main>").unwrap();
    rest.split_once("</main>").unwrap().0.replace("><", ">\n<")
}

#[test]
fn the_policy_names_the_style_sheet() {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    assert!(
        POLICY.contains(&format!("style-src 'sha256-{hash}'")),
        "write sha256-{hash} into POLICY"
    );
}

#[tokio::test]
async fn the_style_sheet_is_in_the_page_as_it_is() {
    // An escaped character would change the hash, and the browser would drop the sheet.
    let text = text(not_found()).await;
    assert!(text.contains(&format!("<style>{STYLE}</style>")));
}

#[tokio::test]
async fn the_sign_in_page() {
    insta::assert_snapshot!(main_part(sign_in(&dan(), "/?folder=/x&y=1", &Notice::Wrong)).await, @r#"
    <h1>Sign in to dan</h1>
    <p class="bad" id="problem" role="alert">That password is not right. Please try again.</p>
    <form method="post" action="/_csm/sign-in">
    <input type="hidden" name="next" value="/?folder=/x&amp;y=1">
    <label for="password">Password</label>
    <input id="password" type="password" name="password" autocomplete="current-password" required autofocus aria-describedby="problem" aria-invalid="true">
    <button type="submit">Sign in</button>
    </form>
    "#);
}

#[tokio::test]
async fn what_is_said_with_which_status() {
    let cases = [
        (Notice::None, 200, None, ""),
        (Notice::SignedOut, 200, None, "You are signed out."),
        (Notice::Empty, 401, None, "Please enter the password."),
        (Notice::Wrong, 401, None, "not right"),
        (
            Notice::TooMany(Duration::from_millis(4100)),
            429,
            Some("5"),
            "in 4 seconds",
        ),
        (
            Notice::TooMany(Duration::from_secs(400)),
            429,
            Some("400"),
            "in 7 minutes",
        ),
        (Notice::Busy(Duration::from_secs(2)), 503, Some("2"), "in a few seconds"),
    ];
    for (notice, status, retry, words) in cases {
        let response = sign_in(&dan(), "/", &notice);
        assert_eq!(response.status().as_u16(), status, "{notice:?}");
        assert_eq!(
            response
                .headers()
                .get(header::RETRY_AFTER)
                .map(|value| value.to_str().unwrap()),
            retry,
            "{notice:?}"
        );
        let text = main_part(response).await;
        assert!(text.contains(words), "{notice:?}: {text}");
        assert_eq!(text.contains("role=\"alert\""), status >= 400, "{notice:?}");
    }
}

#[tokio::test]
async fn nothing_breaks_out_of_its_place() {
    let hostile = "</main><script>alert(1)</script>\"' onload=x <!--";
    let text = main_part(away(&dan(), &Away::of(Some(api::State::Failed)), hostile, hostile)).await;
    assert_eq!(text.matches("&lt;script&gt;").count(), 2);
    assert!(
        !text.contains("<script") && !text.contains("<!--") && !text.contains("\"'"),
        "{text}"
    );
    let text = main_part(sign_in(&dan(), hostile, &Notice::None)).await;
    assert!(!text.contains("<script") && !text.contains("\"'"), "{text}");
}

#[tokio::test]
async fn only_what_is_about_to_change_refreshes() {
    use api::State::{Blocked, Disabled, Failed, Ready, Starting, Stopped, Stopping, Suspended};
    let all = [Disabled, Stopped, Starting, Ready, Suspended, Stopping, Failed, Blocked].map(Some);
    for state in all.into_iter().chain([None]) {
        let away_words = Away::of(state);
        let response = away(&dan(), &away_words, "", "/");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let refreshes = text(response).await.contains("http-equiv=\"refresh\"");
        assert_eq!(refreshes, matches!(state, Some(Starting | Stopping)), "{state:?}");
    }
}

#[test]
fn every_answer_is_guarded() {
    for response in [
        not_found(),
        plain(StatusCode::OK, String::new()),
        see_other("/x"),
        sign_out(&dan()),
    ] {
        for name in [
            "content-security-policy",
            "cache-control",
            "x-content-type-options",
            "referrer-policy",
            "x-frame-options",
        ] {
            assert_eq!(response.headers().get_all(name).iter().count(), 1, "{name}");
        }
    }
}

#[test]
fn a_location_is_one_header() {
    assert_eq!(see_other("/x\r\nSet-Cookie: a=b").headers()[header::LOCATION], "/");
}
