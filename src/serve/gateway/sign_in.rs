//! Signing in with a password, and signing out.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use zeroize::{Zeroize, Zeroizing};

use crate::model::auth::PASSWORD_MAX;
use crate::model::auth::request::return_path;
use crate::model::auth::session::{AGE_MAX, Stamp, Token};
use crate::model::names::Secret;
use crate::serve::gateway::checker::Busy;
use crate::serve::gateway::facts::{Facts, NotSaid};
use crate::serve::gateway::pages::{self, Notice};
use crate::serve::gateway::{Gateway, unix_time};

// guard: A6-form
const FORM_MAX: usize = 8 * 1024;

/// When there is nothing better to say than "a moment later".
const SOON: Duration = Duration::from_secs(2);

/// The page with the form. Who is signed in already goes on at once.
pub async fn show(State(gateway): State<Arc<Gateway>>, uri: Uri, headers: HeaderMap) -> Result<Response, NotSaid> {
    let facts = Facts::read(&headers)?;
    let query = uri.query().unwrap_or_default();
    let mut next = "/".to_owned();
    let mut signed_out = false;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "next" => return_path(&value).clone_into(&mut next),
            "signed-out" => signed_out = true,
            _ => {}
        }
    }
    if facts.asked.may_use_session() && facts.is_signed_in(&gateway).await {
        return Ok(pages::see_other(&next));
    }
    let notice = if signed_out { Notice::SignedOut } else { Notice::None };
    Ok(pages::sign_in(&facts.workspace, &next, &notice))
}

/// The form comes in.
pub async fn submit(State(gateway): State<Arc<Gateway>>, request: Request<Body>) -> Result<Response, NotSaid> {
    let (head, body) = request.into_parts();
    let facts = Facts::read(&head.headers)?;
    if !facts.asked.may_post() {
        tracing::info!(workspace = %facts.workspace, source = %facts.source(), "a sign-in from another site was refused");
        gateway.refused(&facts.workspace, facts.source(), "it came from another site");
        // guard: A26-origin
        return Ok(pages::from_elsewhere());
    }
    let form = match Form::read(body, gateway.bounds.body).await {
        Ok(form) => form,
        Err(refused) => return Ok(refused),
    };
    match attempt(&gateway, &facts, form.password).await {
        Ok(cookie) => {
            let mut response = pages::see_other(&form.next);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            Ok(response)
        }
        Err(notice) => Ok(pages::sign_in(&facts.workspace, &form.next, &notice)),
    }
}

/// The page that asks whether to sign out: a link must not be enough.
pub async fn show_out(headers: HeaderMap) -> Result<Response, NotSaid> {
    Ok(pages::sign_out(&Facts::read(&headers)?.workspace))
}

pub async fn submit_out(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Result<Response, NotSaid> {
    let facts = Facts::read(&headers)?;
    if !facts.asked.may_post() {
        return Ok(pages::from_elsewhere());
    }
    if let Some(id) = facts.session_id() {
        let ended = gateway.state().sessions.end(&id);
        if ended {
            gateway.saver.save().await;
            tracing::info!(workspace = %facts.workspace, "signed out");
        }
    }
    let mut response = pages::see_other("/_csm/sign-in?signed-out");
    if let Some(cookie) = cookie(&facts, "", Duration::ZERO) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Checks a password within all limits; on success the session is written down and its cookie comes back.
async fn attempt(gateway: &Gateway, facts: &Facts<'_>, password: Secret) -> Result<HeaderValue, Notice> {
    let workspace = &facts.workspace;
    if !gateway.first_sync().await {
        tracing::warn!(workspace = %workspace, "nobody can sign in before the daemon was heard of");
        return Err(Notice::Busy(SOON));
    }
    match password.expose().len() {
        0 => return Err(Notice::Empty),
        length if length > PASSWORD_MAX => return Err(Notice::Wrong),
        _ => {}
    }
    let source = facts.source();
    let (paid, string) = {
        let mut state = gateway.state();
        let known = state.known_sources.knows(workspace, &source, unix_time());
        let paid = state.limiter.take(workspace, &source, known, gateway.uptime());
        (paid, state.password(workspace))
    };
    let paid = paid.map_err(|wait| {
        gateway.refused(workspace, source.clone(), "too many attempts");
        Notice::TooMany(wait)
    })?;
    let stamp = string.as_ref().map(|string| Stamp::of(string.as_str()));
    let checked = gateway.checker.check(password, string, gateway.bounds.check).await;
    if checked == Ok(false) {
        tracing::info!(workspace = %workspace, source = %source, "wrong password");
        gateway.refused(workspace, source, "wrong password");
        return Err(Notice::Wrong);
    }
    gateway.state().limiter.give_back(&paid);
    let (Ok(true), Some(stamp)) = (checked, stamp) else {
        tracing::warn!(workspace = %workspace, source = %source, "too many sign-ins at once");
        return Err(Notice::Busy(SOON));
    };
    let token = new_token().map_err(|Busy| Notice::Busy(SOON))?;
    let cookie = cookie(facts, &token.encode(), AGE_MAX).ok_or(Notice::Busy(SOON))?;
    {
        let mut state = gateway.state();
        if let Some(old) = facts.session_id() {
            state.sessions.end(&old);
        }
        state.sessions.create(token.id(), workspace.clone(), stamp, unix_time());
        state.known_sources.remember(workspace, source.clone(), unix_time());
    }
    gateway.saver.save().await;
    tracing::info!(workspace = %workspace, source = %source, "signed in");
    Ok(cookie)
}

fn new_token() -> Result<Token, Busy> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut_slice()).map_err(|error| {
        tracing::error!(%error, "no random numbers");
        Busy
    })?;
    Ok(Token::new(*random))
}

/// The browser keeps it as long as a session can last at most; when it really ends is decided here.
fn cookie(facts: &Facts, value: &str, age: Duration) -> Option<HeaderValue> {
    let secure = if facts.tunnel { "" } else { " Secure;" };
    let name = facts.cookie_name();
    let text = format!(
        "{name}={value}; Path=/;{secure} HttpOnly; SameSite=Lax; Max-Age={}",
        age.as_secs()
    );
    let mut cookie = HeaderValue::from_str(&text).ok()?;
    cookie.set_sensitive(true);
    Some(cookie)
}

struct Form {
    password: Secret,
    next: String,
}

impl Form {
    async fn read(body: Body, within: Duration) -> Result<Self, Response> {
        let bytes = match tokio::time::timeout(within, Limited::new(body, FORM_MAX).collect()).await {
            Err(_) => return Err(pages::unreadable_form(StatusCode::REQUEST_TIMEOUT)),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(pages::unreadable_form(StatusCode::PAYLOAD_TOO_LARGE));
            }
            Ok(Err(_)) => return Err(pages::unreadable_form(StatusCode::BAD_REQUEST)),
            Ok(Ok(body)) => body.to_bytes(),
        };
        // Wiped after use; what the HTTP library read it into is out of reach.
        let text = Zeroizing::new(bytes.to_vec());
        if let Ok(mut buffer) = bytes.try_into_mut() {
            buffer.as_mut().zeroize();
        }
        let mut form = Self {
            password: Secret::new(Vec::new()),
            next: "/".to_owned(),
        };
        for (key, value) in form_urlencoded::parse(&text) {
            match key.as_ref() {
                "password" => form.password = Secret::new(value.into_owned().into_bytes()),
                "next" => return_path(&value).clone_into(&mut form.next),
                _ => {}
            }
        }
        Ok(form)
    }
}
