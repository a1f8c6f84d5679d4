//! Pages for people: plain words, no JavaScript, nothing from elsewhere. Every text that is not a literal goes through
//! maud, which escapes it.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::api;
use crate::model::names::WorkspaceName;

const STYLE: &str = include_str!("style.css");

/// The hash is the style sheet's: a test says so when the sheet has changed.
const POLICY: &str = "default-src 'none'; style-src 'sha256-9KIv2p2++TLGkg+BSo5vE+sG835Om/C+5K0JNXntnro='; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What the sign-in page says above the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    None,
    SignedOut,
    Empty,
    Wrong,
    /// Too many wrong ones; again after this long.
    TooMany(Duration),
    Busy(Duration),
}

impl Notice {
    fn status(self) -> StatusCode {
        match self {
            Self::None | Self::SignedOut => StatusCode::OK,
            Self::Empty | Self::Wrong => StatusCode::UNAUTHORIZED,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn problem(self) -> Option<String> {
        match self {
            Self::None | Self::SignedOut => None,
            Self::Empty => Some("Please enter the password.".to_owned()),
            Self::Wrong => Some("That password is not right. Please try again.".to_owned()),
            Self::TooMany(wait) => Some(format!(
                "There were too many attempts with a wrong password. Please try again in {}.",
                in_words(wait)
            )),
            Self::Busy(_) => {
                Some("Signing in is not possible at the moment. Please try again in a few seconds.".to_owned())
            }
        }
    }
}

pub fn sign_in(workspace: &WorkspaceName, next: &str, notice: &Notice) -> Response {
    let problem = notice.problem();
    let body = html! {
        h1 { "Sign in to " (workspace) }
        @if *notice == Notice::SignedOut {
            p role="status" { "You are signed out." }
        }
        @if let Some(problem) = &problem {
            p #problem .bad role="alert" { (problem) }
        }
        form method="post" action="/_csm/sign-in" {
            input type="hidden" name="next" value=(next);
            label for="password" { "Password" }
            input #password type="password" name="password" autocomplete="current-password" required autofocus
                aria-describedby=[problem.is_some().then_some("problem")]
                aria-invalid=[matches!(notice, Notice::Empty | Notice::Wrong).then_some("true")];
            button type="submit" { "Sign in" }
        }
    };
    let mut response = page(notice.status(), &format!("Sign in to {workspace}"), None, &body);
    if let Notice::TooMany(wait) | Notice::Busy(wait) = notice {
        retry_after(&mut response, *wait);
    }
    response
}

pub fn sign_out(workspace: &WorkspaceName) -> Response {
    let body = html! {
        h1 { "Sign out of " (workspace) "?" }
        p { "What runs in the workspace goes on running, and your files stay as they are." }
        form method="post" action="/_csm/sign-out" {
            button type="submit" { "Sign out" }
        }
        p { a href="/" { "Back to the workspace" } }
    };
    page(StatusCode::OK, &format!("Sign out of {workspace}"), None, &body)
}

/// How the absence of an editor is put.
#[derive(Debug, PartialEq, Eq)]
pub struct Away {
    /// Goes on after the workspace's name.
    pub heading: &'static str,
    text: &'static str,
    /// The page asks again by itself: something is about to change.
    refreshes: bool,
    pub retry_after: Duration,
}

impl Away {
    pub fn of(state: Option<api::State>) -> Self {
        const ASK: &str = "Please ask the person who looks after this machine.";
        let (heading, text, refreshes, seconds) = match state {
            Some(api::State::Starting) => (
                "is starting",
                "This usually takes a few seconds, on a busy machine up to three minutes. The page opens by itself as soon as it is ready.",
                true,
                2,
            ),
            Some(api::State::Stopping) => ("is stopping", "Your files are kept.", true, 5),
            Some(api::State::Ready) => (
                "does not answer",
                "The workspace is running, but its editor does not answer right now. Try again in a moment.",
                false,
                5,
            ),
            Some(api::State::Stopped) => (
                "is stopped",
                "Your files are kept. To have it started, ask the person who looks after this machine.",
                false,
                30,
            ),
            Some(api::State::Suspended) => (
                "is paused",
                "It keeps everything as it was. To have it continued, ask the person who looks after this machine.",
                false,
                30,
            ),
            Some(api::State::Failed) => ("could not start", ASK, false, 30),
            Some(api::State::Blocked) => ("can't start", ASK, false, 30),
            Some(api::State::Disabled) => ("is switched off", ASK, false, 60),
            None => (
                "does not answer",
                "What it is doing is not known right now. Try again in a moment.",
                false,
                5,
            ),
        };
        Self {
            heading,
            text,
            refreshes,
            retry_after: Duration::from_secs(seconds),
        }
    }
}

pub fn away(workspace: &WorkspaceName, away: &Away, message: &str, path: &str) -> Response {
    let title = format!("{workspace} {}", away.heading);
    let body = html! {
        h1 { (title) }
        @if !message.is_empty() {
            p .bad { (message) }
        }
        p role="status" { (away.text) }
        p { a .button href=(path) { "Try again" } }
        p { a href="/_csm/sign-out" { "Sign out" } }
    };
    page(
        StatusCode::SERVICE_UNAVAILABLE,
        &title,
        away.refreshes.then_some(away.retry_after),
        &body,
    )
}

pub fn not_found() -> Response {
    let body = html! {
        h1 { "There is no such page" }
        p { a href="/" { "Go to the workspace" } }
    };
    page(StatusCode::NOT_FOUND, "There is no such page", None, &body)
}

/// A form that was not sent by our own page.
pub fn from_elsewhere() -> Response {
    let body = html! {
        h1 { "This did not come from the sign-in page" }
        p { "For your safety it was not carried out. Please start again from the page itself." }
        p { a .button href="/_csm/sign-in" { "Go to the sign-in page" } }
    };
    page(StatusCode::FORBIDDEN, "Not carried out", None, &body)
}

pub fn unreadable_form(status: StatusCode) -> Response {
    let body = html! {
        h1 { "The form did not arrive in one piece" }
        p { a .button href="/_csm/sign-in" { "Try again" } }
    };
    let mut response = page(status, "Try again", None, &body);
    // The rest of the form may still be on its way.
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// For programs.
pub fn plain(status: StatusCode, text: String) -> Response {
    let mut response = (status, text).into_response();
    guard(&mut response);
    response
}

/// Leads to a path on the same host.
pub fn see_other(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, location);
    guard(&mut response);
    response
}

pub fn retry_after(response: &mut Response, wait: Duration) {
    // Rounded up: who asks a second too early is refused again.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

/// The headers that every answer of ours has.
pub fn guard(response: &mut Response) {
    const GUARDS: [(HeaderName, &str); 5] = [
        // guard: A10-scripts
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not no-referrer: with that, a browser sends `Origin: null` with our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in GUARDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

fn page(status: StatusCode, title: &str, refresh: Option<Duration>, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                @if let Some(wait) = refresh {
                    meta http-equiv="refresh" content=(wait.as_secs());
                }
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    let mut response = (status, Html(page.into_string())).into_response();
    guard(&mut response);
    response
}

fn in_words(wait: Duration) -> String {
    match wait.as_secs() {
        0..=1 => "a second".to_owned(),
        seconds @ 2..=90 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
