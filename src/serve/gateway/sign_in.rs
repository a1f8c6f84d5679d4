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
use crate::model::auth::cookies::{self, Kind};
use crate::model::auth::devices::{DeviceId, KNOWN_FOR};
use crate::model::auth::request::return_path;
use crate::model::auth::session::{AGE_MAX, Stamp, Token};
use crate::model::names::Secret;
use crate::serve::gateway::checker::Busy;
use crate::serve::gateway::facts::{Facts, NotSaid};
use crate::serve::gateway::pages::{self, Notice};
use crate::serve::gateway::{Gateway, unix_time};

// guard: A6-form
const FORM_MAX: usize = 8 * 1024;

/// Of the cookies that are named like a session and are none any more, so many are taken out of the browser at once.
const EXPIRED_MAX: usize = 16;

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
        Ok(cookies) => {
            let mut response = pages::see_other(&form.next);
            set(&mut response, cookies);
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
    let presented = facts.session_ids();
    let ended = {
        let mut state = gateway.state();
        presented.iter().filter(|id| state.sessions.end(id)).count()
    };
    if ended > 0 {
        gateway.saver.save().await;
        tracing::info!(workspace = %facts.workspace, "signed out");
    }
    let mut response = pages::see_other("/_csm/sign-in?signed-out");
    set(&mut response, expired(&facts));
    Ok(response)
}

/// Checks a password within all limits; on success the session is written down and its cookies come back.
async fn attempt(gateway: &Gateway, facts: &Facts<'_>, password: Secret) -> Result<Vec<HeaderValue>, Notice> {
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
    let known = facts.known_device(gateway);
    let (paid, string) = {
        let device = known.as_ref().map(|(_, _, device)| *device);
        let mut state = gateway.state();
        let paid = state.limiter.take(workspace, &source, device, gateway.uptime());
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
    let random = |Busy| Notice::Busy(SOON);
    let (session, session_name) = (
        new_token().map_err(random)?,
        new_name(facts, Kind::Session).map_err(random)?,
    );
    // A browser that is known stays the one that it was.
    let (device, device_name) = match known {
        Some((name, token, _)) => (token, name.to_owned()),
        None => (
            new_token().map_err(random)?,
            new_name(facts, Kind::Device).map_err(random)?,
        ),
    };
    let mut cookies = expired(facts);
    cookies.extend(cookie(facts, &session_name, &session.encode(), AGE_MAX));
    cookies.extend(cookie(facts, &device_name, &device.encode(), KNOWN_FOR));
    let presented = facts.session_ids();
    {
        let mut state = gateway.state();
        for old in &presented {
            state.sessions.end(old);
        }
        state.sessions.create(session.id(), facts.door(), stamp, unix_time());
        state
            .known_devices
            .remember(workspace, DeviceId::of(&device), unix_time());
    }
    gateway.saver.save().await;
    tracing::info!(workspace = %workspace, source = %source, "signed in");
    Ok(cookies)
}

fn set(response: &mut Response, cookies: Vec<HeaderValue>) {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

fn new_token() -> Result<Token, Busy> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut_slice()).map_err(|error| {
        tracing::error!(%error, "no random numbers");
        Busy
    })?;
    Ok(Token::new(*random))
}

fn new_name(facts: &Facts, kind: Kind) -> Result<String, Busy> {
    let mut end = [0; cookies::END_BYTES];
    getrandom::fill(&mut end).map_err(|error| {
        tracing::error!(%error, "no random numbers");
        Busy
    })?;
    Ok(cookies::name(&facts.cookie_base(), kind, end))
}

/// What takes the sessions that the browser presents away from it.
fn expired(facts: &Facts) -> Vec<HeaderValue> {
    let presented = facts.tokens(Kind::Session);
    let gone = presented.iter().take(EXPIRED_MAX);
    gone.filter_map(|(name, _)| cookie(facts, name, "", Duration::ZERO))
        .collect()
}

/// The browser keeps it for as long as it can be good at most; when it really ends is decided here. Browsers that know priorities
/// throw out others first when a domain has too many.
fn cookie(facts: &Facts, name: &str, value: &str, age: Duration) -> Option<HeaderValue> {
    let secure = if facts.tunnel { "" } else { " Secure;" };
    let text = format!(
        "{name}={value}; Path=/;{secure} HttpOnly; SameSite=Lax; Priority=High; Max-Age={}",
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
