//! What nginx asks on behalf of a request: may it pass, what is said when it may not, and what when nobody is at home.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::ProblemDetails;
use crate::model::auth::request::return_path;
use crate::serve::gateway::facts::{Facts, NotSaid};
use crate::serve::gateway::{Gateway, pages};

/// `auth_request`: 204 lets the request through, 401 asks for a sign-in, 403 refuses it for where it comes from.
pub async fn auth(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> StatusCode {
    let Ok(facts) = Facts::read(&headers) else {
        tracing::warn!("nginx asks without saying for which workspace");
        return StatusCode::FORBIDDEN;
    };
    if !facts.asked.may_use_session() {
        tracing::debug!(workspace = %facts.workspace, "a request from another site was refused");
        return StatusCode::FORBIDDEN;
    }
    if facts.is_signed_in(&gateway).await {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::UNAUTHORIZED
    }
}

/// In the place of what was refused with 401: a person is led to the sign-in page, a program is told.
pub async fn denied(headers: HeaderMap) -> Result<Response, NotSaid> {
    Ok(deny(&Facts::read(&headers)?))
}

/// In the place of an editor that does not answer: says in which state the workspace is, to those who are signed in.
pub async fn away(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Result<Response, NotSaid> {
    let facts = Facts::read(&headers)?;
    // nginx has asked already, but this address can also be asked for by its own name.
    if !facts.asked.may_use_session() || !facts.is_signed_in(&gateway).await {
        return Ok(deny(&facts));
    }
    let (state, message) = match gateway.state().workspace(&facts.workspace) {
        Some(workspace) => (Some(workspace.state), workspace.message.clone()),
        None => (None, String::new()),
    };
    let away = pages::Away::of(state);
    let mut response = if facts.asked.wants_page() {
        pages::away(&facts.workspace, &away, &message, return_path(facts.uri))
    } else {
        let text = format!("The workspace {} {}.\n", facts.workspace, away.heading);
        pages::plain(StatusCode::SERVICE_UNAVAILABLE, text)
    };
    pages::retry_after(&mut response, away.retry_after);
    Ok(response)
}

pub async fn not_found() -> Response {
    pages::not_found()
}

impl IntoResponse for NotSaid {
    fn into_response(self) -> Response {
        pages::not_found()
    }
}

fn deny(facts: &Facts) -> Response {
    if facts.asked.wants_page() {
        let path = if facts.asked.is_read() {
            return_path(facts.uri)
        } else {
            "/"
        };
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("next", path)
            .finish();
        return pages::see_other(&format!("/_csm/sign-in?{query}"));
    }
    let problem = ProblemDetails {
        code: "not-signed-in".to_owned(),
        title: "Not signed in".to_owned(),
        status: StatusCode::UNAUTHORIZED.as_u16(),
        detail: format!("The workspace {} needs a sign-in.", facts.workspace),
        remediation: "Open the workspace in a browser tab and sign in.".to_owned(),
        problems: Vec::new(),
    };
    let mut response = (StatusCode::UNAUTHORIZED, axum::Json(problem)).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/problem+json"),
    );
    pages::guard(&mut response);
    response
}
