//! What is answered where on the socket that nginx asks on.

use std::sync::Arc;

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::serve::gateway::{Gateway, answers, pages, sign_in};
use crate::serve::http;

/// nginx takes heads of 32 KiB (`large_client_header_buffers`), and names the path twice.
const HEAD_MAX: usize = 64 * 1024;

const SOON: Duration = Duration::from_secs(2);

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
    let pages = Router::new()
        .route("/_csm/denied", any(answers::denied))
        .route("/_csm/away", any(answers::away))
        .route("/_csm/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/_csm/sign-out", get(sign_in::show_out).post(sign_in::submit_out))
        .fallback(answers::not_found)
        .layer(from_fn_with_state(gateway.clone(), in_their_share));
    Router::new()
        .route("/_csm/auth", any(answers::auth))
        .merge(pages)
        .with_state(gateway)
}

/// Pages wait for a disk, a check or the daemon, and strangers may ask for them: whatever they do, what is asked about each request
/// of who is signed in finds a connection.
async fn in_their_share(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = gateway.pages.try_acquire() else {
        let mut response = pages::plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too much is asked at once.\n".to_owned(),
        );
        pages::retry_after(&mut response, SOON);
        return response;
    };
    next.run(request).await
}
