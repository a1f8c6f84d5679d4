//! What the daemon really answers, held against the document: the router on a made-up host, every operation. What takes a
//! real host to succeed is refused here ([`ONLY_ON_A_HOST`]); of its answers samples are held against the document.

use std::collections::BTreeSet;

use axum::Extension;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use code_server_multi::api;
use code_server_multi::serve::admin;
use code_server_multi::serve::http::Peer;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::engine::host::{Daemon, Host, LONG, TOP, config};

/// These need processes, a journal or a disk.
const ONLY_ON_A_HOST: [&str; 5] = [
    "get /v1/events",
    "get /v1/workspaces/{name}/disk",
    "post /v1/workspaces/{name}/exec",
    "get /v1/workspaces/{name}/logs",
    "post /v1/workspaces/{name}/test",
];

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

/// The router of a daemon on a made-up host, for root.
fn router(host: &Host, daemon: &Daemon) -> axum::Router {
    let file = host.directory.path().join("config.toml");
    admin::router(host.app(daemon, file), None).layer(Extension(Peer { uid: 0 }))
}

#[tokio::test(start_paused = true)]
async fn every_answer_is_as_the_document_says() {
    let host = Host::new();
    let sections = "[workspaces.dan]\n[workspaces.alice]\nenabled = false\n";
    let daemon = host.daemon(config(sections));
    let file = host.directory.path().join("config.toml");
    std::fs::write(file, format!("{TOP}{sections}")).unwrap();
    tokio::time::sleep(LONG).await;
    let router = router(&host, &daemon);

    let document = serde_json::to_value(admin::document()).unwrap();
    let mut complaints = Vec::new();
    let (mut good, mut refused) = (BTreeSet::new(), 0);
    let password =
        json!({ "argon2": "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$RGlnZXN0T2ZTb21lMzJCeXRlc0luQmFzZTY0ISE" });
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for name in ["dan", "alice", "nobody-here"] {
                for body in ["", &json!({ "argon2": "nonsense" }).to_string(), &password.to_string()] {
                    let answer = ask(&router, method, &path.replace("{name}", name), body).await;
                    if answer.0.is_success() {
                        good.insert(format!("{method} {path}"));
                    } else {
                        refused += 1;
                    }
                    let complaint = complaint(&document, operation, &answer);
                    complaints.extend(complaint.map(|complaint| format!("{method} {path} ({name}): {complaint}")));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let all = document["paths"].as_object().unwrap().iter();
    let all = all.flat_map(|(path, operations)| {
        operations
            .as_object()
            .unwrap()
            .keys()
            .map(move |method| format!("{method} {path}"))
    });
    let never: Vec<String> = all.filter(|operation| !good.contains(operation)).collect();
    assert_eq!(never, ONLY_ON_A_HOST);
    assert!(refused > 20, "{refused} refused");
}

#[test]
fn what_only_a_host_answers_is_as_the_document_says() {
    let document = serde_json::to_value(admin::document()).unwrap();
    let text = || "text".to_owned();
    let event = |workspace: Option<String>, count| api::Event {
        id: text(),
        at: text(),
        kind: text(),
        code: workspace.clone(),
        by: workspace.clone(),
        why: workspace.clone(),
        workspace,
        count,
        message: text(),
    };
    let line = api::LogLine {
        at: text(),
        from: text(),
        message: text(),
    };
    let report = api::TestReport {
        checks: vec![api::Check {
            name: text(),
            ok: false,
            detail: text(),
        }],
    };
    for (name, sample) in [
        ("Event", serde_json::to_value(event(None, None)).unwrap()),
        ("Event", serde_json::to_value(event(Some(text()), Some(3))).unwrap()),
        ("LogLine", serde_json::to_value(line).unwrap()),
        (
            "DiskUse",
            serde_json::to_value(api::DiskUse { bytes: u64::MAX }).unwrap(),
        ),
        ("TestReport", serde_json::to_value(report).unwrap()),
        (
            "ExecStarted",
            serde_json::to_value(api::ExecStarted { unit: text() }).unwrap(),
        ),
    ] {
        let mut root = json!({ "$ref": format!("#/components/schemas/{name}") });
        root["components"] = document["components"].clone();
        let validator = jsonschema::draft202012::new(&root).unwrap();
        assert!(validator.is_valid(&sample), "{name}: {sample}");
        assert!(!validator.is_valid(&json!({ "nothing": "of it" })), "{name}");
    }
}

/// Who let somebody in was recorded nowhere.
#[tokio::test(start_paused = true)]
async fn who_changed_a_password_is_told() {
    let host = Host::new();
    let daemon = host.daemon(config("[workspaces.dan]\n"));
    tokio::time::sleep(LONG).await;
    let router = router(&host, &daemon);
    let mut events = daemon.controller.events().follow();
    let argon2 = code_server_multi::model::auth::hash_password(b"a password", &[7; 16]).unwrap();
    let path = "/v1/workspaces/dan/password";
    let answer = ask(&router, "put", path, &json!({ "argon2": argon2 }).to_string()).await;
    assert_eq!(answer.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&router, "delete", path, "").await.0, StatusCode::NO_CONTENT);
    let refused = ask(&router, "put", path, &json!({ "argon2": "nonsense" }).to_string()).await;
    assert_eq!(refused.0, StatusCode::UNPROCESSABLE_ENTITY);
    let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok())
        .map(|event| event.message)
        .collect();
    assert_eq!(
        told,
        [
            "another password: csm password by root",
            "another password: csm password --remove by root"
        ]
    );
}
