//! What the rendered files make a real nginx do, seen from visitors and from workspaces.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

use std::collections::BTreeMap;

use code_server_multi::host::nginx::Proof;
use edge::{DOMAIN, Edge};

mod cookies;
mod edge;
mod publishing;
mod stand_in;

const WEBSOCKET: [&str; 7] = [
    "--http1.1",
    "-H",
    "Connection: Upgrade",
    "-H",
    "Upgrade: websocket",
    "-H",
    "Sec-WebSocket-Key: x",
];
const SIGNED_IN: [&str; 2] = ["-H", "Cookie: a=1; __Host-csm=good; b=2"];

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_as_visitors_and_workspaces_meet_it() {
    let edge = Edge::start().await;
    // dan and alice run, eve doesn't.
    let workspaces = [
        ("dan", Some(edge.tunnels[0])),
        ("alice", Some(edge.tunnels[1])),
        ("eve", None),
    ];
    let generation = edge.generation(&workspaces);
    assert_eq!(edge.publisher.publish(&generation).await.unwrap().proof, Proof::Served);
    assert_eq!(edge.probe().await.body.trim(), generation.digest());
    catch_all(&edge).await;
    signing_in(&edge).await;
    a_gateway_that_is_killed(&edge).await;
    refusals(&edge).await;
    headers(&edge).await;
    cookies::at_a_host(&edge).await;
    hostile_replies(&edge).await;
    upgrades(&edge).await;
    bodies(&edge).await;
    away(&edge).await;
    cookies::through_a_tunnel(&edge).await;
    floods(&edge).await;
    nothing_of_a_request_is_logged(&edge);
    edge.stop().await;
}

async fn catch_all(edge: &Edge) {
    let reply = edge.https("nobody", "/x.js", &[]).await;
    assert_eq!(
        (reply.status, reply.all("content-type")),
        (404, vec!["text/html; charset=utf-8"])
    );
    assert!(
        ["dan", "alice", "eve"].iter().all(|name| !reply.body.contains(name)),
        "{}",
        reply.body
    );

    let to = |host: &str, path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", edge.redirect);
        let host = format!("Host: {host}");
        async move { edge.curl(&[], &url, &["-H", &host]).await }
    };
    let reply = to(&format!("dan.{DOMAIN}"), "/a?b=c").await;
    assert_eq!(reply.status, 308);
    assert_eq!(
        reply.all("location"),
        [format!("https://dan.{DOMAIN}:{}/a?b=c", edge.https.port())]
    );
    for host in [
        "evil.example",
        &format!("evil.example#.{DOMAIN}"),
        &format!("evil.example@dan.{DOMAIN}"),
    ] {
        let reply = to(host, "/").await;
        assert!(reply.status == 404 || reply.status == 400, "{host}: {reply:?}");
        assert!(reply.all("location").is_empty());
    }
}

async fn signing_in(edge: &Edge) {
    // The gateway decides what a visitor without a session sees, and is told what was asked.
    let reply = edge.https("dan", "/a?b=c", &["--head"]).await;
    assert_eq!(reply.status, 401);
    let reply = edge.https("dan", "/a?b=c", &[]).await;
    assert_eq!(reply.status, 401);
    assert_eq!(
        reply.seen_by(),
        ("gateway".to_owned(), "GET /_csm/denied".to_owned(), 0)
    );
    assert_eq!(reply.seen("x-csm-method").as_deref(), Some("GET"));
    assert_eq!(reply.seen("x-csm-uri").as_deref(), Some("/a?b=c"));
    assert_eq!(reply.seen("content-length"), None);

    // Nobody reads what a stranger sends: nginx answers by itself.
    for http in ["--http1.1", "--http2"] {
        let reply = edge.https("dan", "/a?b=c", &["-d", "body", http]).await;
        assert_eq!(
            (reply.status, reply.all("content-type"), reply.all("cache-control")),
            (401, vec!["application/problem+json"], vec!["no-store"])
        );
        let problem: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(
            (&problem["code"], &problem["status"]),
            (&"not-signed-in".into(), &401.into())
        );
        let reply = edge
            .https("dan", "/a?b=c", &["-d", "body", "-H", "Sec-Fetch-Mode: navigate", http])
            .await;
        assert_eq!((reply.status, reply.all("location")), (303, vec!["/_csm/sign-in"]));
    }
    let reply = edge
        .https(
            "dan",
            "/_csm/sign-in",
            &["--http1.1", "-d", "x", "-H", "Transfer-Encoding: chunked"],
        )
        .await;
    assert_eq!(reply.status, 411);

    let reply = edge.https("dan", "/_csm/sign-in?to=%2F", &["-d", "password=x"]).await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.seen_by(),
        ("gateway".to_owned(), "POST /_csm/sign-in?to=%2F".to_owned(), 10)
    );
    assert_eq!(reply.seen("x-csm-workspace").as_deref(), Some("dan"));
    let origin = format!("https://dan.{DOMAIN}:{}", edge.https.port());
    assert_eq!(reply.seen("x-csm-origin"), Some(origin));
    assert_eq!(reply.seen("x-csm-tunnel"), None);

    let reply = edge.https("dan", "/_csm/sign-in", &["-d", &"x".repeat(17_000)]).await;
    assert_eq!(reply.status, 413);

    // A session that the gateway prolongs while answering the question.
    let reply = edge
        .https("dan", "/echo", &["-H", "Cookie: __Host-csm=good-renew"])
        .await;
    assert_eq!(
        (reply.status, reply.all("set-cookie")),
        (200, vec!["__Host-csm=renewed; Path=/; Secure; HttpOnly"])
    );
}

/// Its restart meets requests that it has taken already: they are asked again, whatever their method.
async fn a_gateway_that_is_killed(edge: &Edge) {
    let reply = edge
        .https("dan", "/echo", &["-H", "Cookie: __Host-csm=good-crash"])
        .await;
    assert_eq!((reply.status, reply.seen_by().0.as_str()), (200, "editor"));
    let reply = edge.https("dan", "/_csm/sign-in?crash", &["-d", "password=x"]).await;
    assert_eq!((reply.status, reply.seen_by().2), (200, 10));
}

async fn refusals(edge: &Edge) {
    for path in [
        "/_csm/auth",
        "/_csm/denied",
        "/_csm/away",
        "/_csm",
        "/_csm%2fauth",
        "/x/../_csm/auth",
        "//_csm/auth",
    ] {
        let reply = edge.https("dan", path, &SIGNED_IN).await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
        assert!(!reply.body.contains("\"who\""), "{path}: {reply:?}");
    }
    let reply = edge.https("dan", "/", &["-H", "Cookie: __Host-csm=forbidden"]).await;
    assert_eq!(
        (reply.status, reply.all("content-type")),
        (403, vec!["text/html; charset=utf-8"])
    );
    assert!(reply.body.contains("refused"));

    // A gateway that fails is never a way in.
    let reply = edge.https("dan", "/", &["-H", "Cookie: __Host-csm=broken"]).await;
    assert_eq!((reply.status, reply.body.contains("doesn't answer")), (503, true));

    // The workspace's own refusals stay its own.
    for status in [401, 403, 404, 500, 502, 504] {
        let reply = edge.https("dan", &format!("/status/{status}"), &SIGNED_IN).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.seen_by().0, "editor");
    }
}

async fn headers(edge: &Edge) {
    let spoofed = [
        "Forwarded: host=evil;for=1.2.3.4",
        "X-Forwarded-Host: evil",
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Proto: gopher",
        "X-Real-IP: 1.2.3.4",
        "X-Forwarded-User: root",
        "X_Forwarded_User: root",
        "Remote-User: root",
        "X-Auth-Request-Email: root@localhost",
        "X-Csm-Workspace: alice",
        "X-Csm-Origin: https://evil",
        "X-Csm-Tunnel: 1",
        "X-Csm-Method: GET",
        "X-Csm-Uri: /",
        "X-Csm-Upgrade: websocket",
        "X-Accel-Redirect: /",
        "Proxy: http://evil",
        "Authorization: Bearer own",
    ];
    let mut arguments: Vec<&str> = SIGNED_IN.to_vec();
    arguments.extend(spoofed.iter().flat_map(|header| ["-H", header]));
    let host = format!("dan.{DOMAIN}:{}", edge.https.port());
    for http in ["--http1.1", "--http2"] {
        let mut arguments = arguments.clone();
        arguments.push(http);
        for path in ["/echo", "/_csm/style.css"] {
            let reply = edge.https("dan", path, &arguments).await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.seen("host").as_deref(), Some(host.as_str()));
            assert_eq!(reply.seen("x-real-ip").as_deref(), Some("127.0.0.1"));
            assert_eq!(reply.seen("x-forwarded-for").as_deref(), Some("127.0.0.1"));
            assert_eq!(reply.seen("x-forwarded-proto").as_deref(), Some("https"));
            let gone = [
                "forwarded",
                "x-forwarded-host",
                "x-forwarded-user",
                "x_forwarded_user",
                "remote-user",
            ];
            let also = [
                "x-auth-request-email",
                "x-accel-redirect",
                "proxy",
                "x-csm-tunnel",
                "x-csm-upgrade",
            ];
            for name in gone.into_iter().chain(also) {
                assert_eq!(reply.seen(name), None, "{path}: {name}");
            }
        }
        let reply = edge.https("dan", "/echo", &arguments).await;
        assert!(!reply.body.contains("x-csm-"), "{}", reply.body);
        assert_eq!(reply.seen("authorization").as_deref(), Some("Bearer own"));
        let reply = edge.https("dan", "/_csm/style.css", &arguments).await;
        assert_eq!(reply.seen("x-csm-workspace").as_deref(), Some("dan"));
        assert_eq!(reply.seen("x-csm-uri").as_deref(), Some("/_csm/style.css"));
    }
    // What the question to the gateway carried is what the gateway's stand-in let through: see its checks.
    let reply = edge
        .https(
            "dan",
            "/echo",
            &["-H", "Cookie: __Host-csm=good", "-H", "Host: nobody.example"],
        )
        .await;
    assert_ne!(reply.seen_if_json("who").as_deref(), Some("gateway"));
}

async fn hostile_replies(edge: &Edge) {
    for target in ["/_csm/auth", "@csm_wake", "@ide", "/nowhere"] {
        let reply = edge.https("dan", &format!("/accel?{target}"), &SIGNED_IN).await;
        assert_eq!((reply.status, reply.seen_by().0.as_str()), (200, "editor"), "{target}");
        assert!(reply.all("x-accel-redirect").is_empty());
    }
    for (path, status) in [
        ("/worker.js", 403),
        ("/worker.js?x=/y/", 403),
        ("/x/worker.js", 200),
        ("/x/", 200),
    ] {
        let reply = edge
            .https(
                "dan",
                path,
                &[&SIGNED_IN[..], &["-H", "Service-Worker: script"]].concat(),
            )
            .await;
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(edge.https("dan", path, &SIGNED_IN).await.status, 200, "{path}");
    }
    let reply = edge.https("dan", "/cookies", &SIGNED_IN).await;
    assert_eq!(reply.all("service-worker-allowed"), Vec::<&str>::new());
    // Without Secure no browser takes a cookie of that prefix (RFC 6265bis, section 5.7).
    let seen = [
        "__Host-csm=evil; Path=/",
        "__host-CSM=; Path=/; Max-Age=0",
        "csm-dan=evil; Path=/",
        "app=1; Path=/; Secure",
    ];
    assert_eq!(reply.all("set-cookie"), seen);
    assert_eq!(reply.all("clear-site-data"), Vec::<&str>::new());
    assert_eq!(reply.all("strict-transport-security"), Vec::<&str>::new());
    // The admin's cache for all sites holds nothing of a workspace.
    let one = edge.https("dan", "/count", &SIGNED_IN).await.body;
    assert_ne!(one, edge.https("dan", "/count", &SIGNED_IN).await.body);
}

async fn upgrades(edge: &Edge) {
    let with = |cookie: &'static [&'static str]| [&WEBSOCKET, cookie].concat();
    let reply = edge.https("dan", "/ws", &with(&SIGNED_IN)).await;
    assert_eq!((reply.status, reply.body.as_str()), (101, "cookie=a=1; b=2"));
    let reply = edge.https("dan", "/ws", &with(&[])).await;
    assert_eq!(
        (reply.status, reply.seen("x-csm-upgrade").as_deref()),
        (401, Some("websocket"))
    );
    let mut h2c = with(&SIGNED_IN);
    h2c[4] = "Upgrade: h2c";
    let reply = edge.https("dan", "/echo", &h2c).await;
    assert_eq!(
        (reply.seen("upgrade"), reply.seen("connection").as_deref()),
        (None, Some("close"))
    );
}

async fn bodies(edge: &Edge) {
    let big = edge.path("big");
    std::fs::File::create(&big).unwrap().set_len(50 << 20).unwrap();
    let data = format!("@{big}");
    for extra in [
        &["--http1.1"][..],
        &["--http2"],
        &["--http1.1", "-H", "Transfer-Encoding: chunked"],
    ] {
        let mut arguments = SIGNED_IN.to_vec();
        arguments.extend(["--data-binary", &data, "-H", "Expect:"]);
        arguments.extend(extra);
        let reply = edge.https("dan", "/upload", &arguments).await;
        assert_eq!((reply.status, reply.seen_by().2), (200, 50 << 20), "{extra:?}");
        // And refused without being read: the gateway's connections stay in step.
        arguments.drain(..2);
        let reply = edge.https("dan", "/upload", &arguments).await;
        assert_eq!(reply.status, 401, "{extra:?}");
        assert!(reply.body.contains("not-signed-in"), "{extra:?}");
    }
}

async fn away(edge: &Edge) {
    let reply = edge.https("eve", "/a?b", &SIGNED_IN).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.seen_by(), ("gateway".to_owned(), "GET /_csm/away".to_owned(), 0));
    assert_eq!(reply.seen("x-csm-uri").as_deref(), Some("/a?b"));
    let reply = edge.https("eve", "/a?b", &[]).await;
    assert_eq!(reply.seen_by().1, "GET /_csm/denied");

    // Neither editor nor gateway.
    let reply = edge.https("eve", "/", &["-H", "Cookie: __Host-csm=good; gone=1"]).await;
    assert_eq!(
        (reply.status, reply.body.contains("doesn't answer")),
        (503, true),
        "{reply:?}"
    );

    // Woken by the gateway: what has no body goes on as it was, the rest is sent again by the browser.
    let mut woken = tokio::task::JoinSet::new();
    woken.spawn(stand_in::editor(edge.dir.path().join("run/front/eve.sock.later")));
    let big = format!("@{}", edge.path("big"));
    let again = format!("https://eve.{DOMAIN}:{}/echo?c=d", edge.https.port());
    let requests: [(&str, &[&str]); 6] = [
        ("GET", &[]),
        ("HEAD", &["--head"]),
        ("POST", &["-d", "body"]),
        ("DELETE", &["-X", "DELETE"]),
        ("PUT", &["-X", "PUT", "--data-binary", &big]),
        ("POST", &["-d", "body", "-H", "Transfer-Encoding: chunked", "--http1.1"]),
    ];
    for (method, arguments) in requests {
        for http in ["--http1.1", "--http2"] {
            let _ = std::fs::remove_file(edge.path("run/front/eve.sock"));
            let all = [&["-H", "Cookie: __Host-csm=good; wake=1", http], arguments].concat();
            let reply = edge.https("eve", "/echo?c=d", &all).await;
            if ["GET", "HEAD"].contains(&method) {
                assert_eq!(reply.status, 200, "{method} {http}: {reply:?}");
            } else {
                assert_eq!(
                    (reply.status, reply.all("location")),
                    (307, vec![again.as_str()]),
                    "{method} {http}: {reply:?}"
                );
                let reply = edge.https("eve", "/echo?c=d", &all).await;
                assert_eq!(
                    (reply.status, reply.seen_by().1.as_str()),
                    (200, &*format!("{method} /echo?c=d"))
                );
            }
        }
    }
    let _ = std::fs::remove_file(edge.path("run/front/eve.sock"));
    let reply = edge
        .https("eve", "/echo?c=d", &["-H", "Cookie: a=1; __Host-csm=good; wake=1"])
        .await;
    assert_eq!(reply.seen_by(), ("editor".to_owned(), "GET /echo?c=d".to_owned(), 0));
    assert_eq!(reply.seen("cookie").as_deref(), Some("a=1; wake=1"));
    // A websocket too.
    let _ = std::fs::remove_file(edge.path("run/front/eve.sock"));
    let reply = edge
        .https(
            "eve",
            "/ws",
            &[&WEBSOCKET[..], &["-H", "Cookie: __Host-csm=good; wake=1"]].concat(),
        )
        .await;
    assert_eq!((reply.status, reply.body.as_str()), (101, "cookie=wake=1"));
}

async fn floods(edge: &Edge) {
    // How often somebody may try is the gateway's to say: nginx can't tell who it is, or from which page.
    let mut seen = BTreeMap::new();
    for _ in 0..40 {
        let reply = edge.https("alice", "/_csm/sign-in", &["-d", "x"]).await;
        *seen.entry(reply.status).or_insert(0) += 1;
    }
    assert_eq!(seen, BTreeMap::from([(200, 40)]));
    assert_eq!(edge.https("dan", "/echo", &SIGNED_IN).await.status, 200);
}

/// A gateway that was killed, an editor that was away and sources that asked too often are errors, and with each nginx
/// would write down what was asked for.
fn nothing_of_a_request_is_logged(edge: &Edge) {
    let log = std::fs::read_to_string(edge.path("error.log")).unwrap();
    assert!(!log.contains("request: "), "{log}");
}
