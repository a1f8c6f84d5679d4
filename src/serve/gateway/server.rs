//! What is answered where on the socket that nginx asks on.

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::serve::gateway::{Gateway, answers, sign_in};
use crate::serve::http;

/// nginx takes heads of 32 KiB (`large_client_header_buffers`), and names the path twice.
const HEAD_MAX: usize = 64 * 1024;

/// Answers until `shutdown`; returns when the last answer is out, or its time is up.
pub async fn run(gateway: &Arc<Gateway>, listener: UnixListener, shutdown: &CancellationToken) {
    let bounds = http::Bounds {
        connections: gateway.bounds.connections,
        head: gateway.bounds.head,
        head_bytes: HEAD_MAX,
        grace: gateway.bounds.grace,
        descriptors: false,
        way_out: "",
    };
    // The socket's mode lets in nginx's group alone; under which account nginx runs is the host's business.
    http::serve(listener, router(gateway.clone()), |_| true, bounds, shutdown.clone()).await;
}

fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/_csm/auth", any(answers::auth))
        .route("/_csm/denied", any(answers::denied))
        .route("/_csm/away", any(answers::away))
        .route("/_csm/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/_csm/sign-out", get(sign_in::show_out).post(sign_in::submit_out))
        .fallback(answers::not_found)
        .with_state(gateway)
}
