//! What the daemon really answers, held against the document: the router on a made-up host, every operation once.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use code_server_multi::host::watch::Watch;
use code_server_multi::serve::admin;
use code_server_multi::serve::app::App;
use code_server_multi::serve::http::Peer;
use code_server_multi::serve::nginx::NginxReport;
use code_server_multi::serve::passwords::Keeper;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::engine::host::{Host, LONG, config, is_root};

/// The media type of an answer, and its body or the first line of it.
async fn ask(router: &axum::Router, method: &str, path: &str, body: &str) -> (StatusCode, String, Value) {
    let request = Request::builder()
        .method(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap())
        .uri(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let kind = response
        .headers()
        .get("content-type")
        .map(|kind| kind.to_str().unwrap().to_owned());
    let status = response.status();
    let mut body = response.into_body();
    let first = if kind.as_deref() == Some("application/x-ndjson") {
        body.frame().await.unwrap().unwrap().into_data().unwrap()
    } else {
        body.collect().await.unwrap().to_bytes()
    };
    let first = first.split(|byte| *byte == b'\n').next().unwrap_or_default();
    (
        status,
        kind.unwrap_or_default(),
        serde_json::from_slice(first).unwrap_or(Value::Null),
    )
}

/// What is wrong with an answer, by what the document says of the operation.
fn complaint(
    document: &Value,
    operation: &Value,
    (status, kind, body): &(StatusCode, String, Value),
) -> Option<String> {
    let responses = &operation["responses"];
    let described = match &responses[status.as_str()] {
        Value::Null if status.is_success() => return Some(format!("{status} is not described")),
        Value::Null => &responses["default"],
        described => described,
    };
    if described.is_null() {
        return Some(format!("{status} is not described"));
    }
    let Some(schema) = described["content"][kind].get("schema") else {
        let empty = described["content"].is_null() && body.is_null();
        return (!empty).then(|| format!("{status} {kind:?} is not described: {body}"));
    };
    let mut root = schema.clone();
    root["components"] = document["components"].clone();
    let validator = jsonschema::draft202012::new(&root).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(body)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    (!errors.is_empty()).then(|| format!("{status}: {errors:?}\n{body}"))
}

#[tokio::test(start_paused = true)]
async fn every_answer_is_as_the_document_says() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let daemon = host.daemon(config("[workspaces.dan]\n[workspaces.alice]\nenabled = false\n"));
    tokio::time::sleep(LONG).await;
    let (token, controller) = (CancellationToken::new(), daemon.controller.clone());
    std::fs::create_dir(host.directory.path().join("passwords")).unwrap();
    let keeper = Keeper::new(host.directory.path().join("passwords"), Arc::new(Watch::new().unwrap())).unwrap();
    let (config, nginx, connected) = (
        watch::Sender::new(controller.config()),
        watch::Sender::new(NginxReport::default()),
        watch::Sender::new(true),
    );
    let app = App::new(
        "/nowhere/config.toml".into(),
        controller,
        Arc::new(keeper),
        nginx.subscribe(),
        config,
        connected.subscribe(),
        token,
    );
    let router = admin::router(Arc::new(app), None).layer(Extension(Peer { uid: 0 }));

    let document = serde_json::to_value(admin::document()).unwrap();
    let mut complaints = Vec::new();
    let (mut good, mut refused) = (0, 0);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for name in ["dan", "alice", "nobody-here"] {
                for body in ["", &json!({ "argon2": "nonsense" }).to_string()] {
                    let answer = ask(&router, method, &path.replace("{name}", name), body).await;
                    if answer.0.is_success() {
                        good += 1;
                    } else {
                        refused += 1;
                    }
                    let complaint = complaint(&document, operation, &answer);
                    complaints.extend(complaint.map(|complaint| format!("{method} {path} ({name}): {complaint}")));
                }
            }
        }
    }
    assert!(good > 20 && refused > 20, "{good} good, {refused} refused");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
