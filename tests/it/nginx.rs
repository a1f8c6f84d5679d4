//! What the rendered files make a real nginx do: started on a loopback address of its own, with stand-ins for gateway and
//! editor that answer with what they were sent. Needs `nginx`, `openssl` and `curl` (or `CSM_TEST_NGINX=PATH`).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use code_server_multi::model::config::{
    Apply, Config, Gateway, Image, Limits, Nginx, Pull, StartOnBoot, WorkspaceConfig,
};
use code_server_multi::model::names::{AccountName, HostName, ImageRef, WorkspaceName};
use code_server_multi::model::nginx::render;
use tokio::process::{Child, Command};

mod stand_in;

const DOMAIN: &str = "code.example.test";

/// A running nginx with the files of three workspaces: dan (tunnel, runs), alice (tunnel, runs), eve (doesn't run).
struct Edge {
    dir: tempfile::TempDir,
    nginx: Child,
    https: SocketAddr,
    redirect: u16,
    tunnel: u16,
    generation: String,
    _stand_ins: tokio::task::JoinSet<()>,
}

fn nginx_program() -> PathBuf {
    std::env::var_os("CSM_TEST_NGINX").map_or_else(|| "/usr/sbin/nginx".into(), PathBuf::from)
}

/// `http2 on;` came with 1.25.1; an older nginx reads everything else.
async fn knows_http2_directive() -> bool {
    let out = Command::new(nginx_program())
        .arg("-v")
        .output()
        .await
        .expect("nginx is installed (apt install nginx)");
    let text = String::from_utf8(out.stderr).unwrap();
    let version = text.trim().rsplit_once('/').expect("nginx version: nginx/1.2.3").1;
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next()) >= (1, 25, 1)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn workspace(name: &str, port: Option<u16>) -> (WorkspaceName, WorkspaceConfig) {
    let config = WorkspaceConfig {
        account: AccountName::parse(&format!("csm-{name}")).unwrap(),
        password_file: None,
        port,
        limits: Limits {
            memory_max: 1,
            memory_high: 1,
            memory_low: 0,
            cpu_quota_usec: 1,
            cpu_weight: 1,
            tasks_max: 1,
        },
        environment: BTreeMap::new(),
        secret_environment: BTreeMap::new(),
        apply: Apply::Pending,
        enabled: true,
    };
    (WorkspaceName::parse(name).unwrap(), config)
}

fn config(dir: &Path, https: SocketAddr, tunnels: [u16; 2]) -> Config {
    Config {
        domain: HostName::parse(DOMAIN).unwrap(),
        workspace_base: "/var/lib/vscode".into(),
        start_on_boot: StartOnBoot::AsItWas,
        image: Image {
            name: ImageRef::parse("image").unwrap(),
            archive: None,
            pull: Pull::Never,
        },
        nginx: Nginx {
            snippet_dir: dir.join("snippets"),
            unit: "nginx.service".to_owned(),
            group: "root".to_owned(),
            listen: vec![https],
            public_port: https.port(),
            // Everything that is special to nginx inside a quoted string or outside of one.
            certificate: dir.join("a \"c\" 'd' \\e;{}#.pem"),
            certificate_key: dir.join("key.pem"),
        },
        gateway: Gateway {
            session_lifetime: Duration::from_hours(24),
        },
        workspaces: [
            workspace("dan", Some(tunnels[0])),
            workspace("alice", Some(tunnels[1])),
            workspace("eve", None),
        ]
        .into(),
    }
}

/// An admin's http{} that would open everything if a server of ours relied on defaults.
const HTTP: &str = "
    satisfy any;
    allow all;
    underscores_in_headers on;
    proxy_intercept_errors on;
    proxy_cache_path DIR/cache keys_zone=admin:1m;
    proxy_cache admin;
    proxy_cache_valid any 1h;
    proxy_set_header X-Forwarded-User admin;
    map $http_upgrade $connection_upgrade { default upgrade; '' close; }
    client_body_temp_path DIR/body;
    proxy_temp_path DIR/proxy;
    fastcgi_temp_path DIR/fastcgi;
    uwsgi_temp_path DIR/uwsgi;
    scgi_temp_path DIR/scgi;
    access_log off;
    include DIR/current/*.conf;
    server { listen 127.0.0.1:ADMIN; server_name admin.example.test; return 200 admin; }
";

impl Edge {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let [https, redirect, tunnel, other_tunnel, admin] = [(); 5].map(|()| free_port());
        let https = SocketAddr::from((Ipv4Addr::LOCALHOST, https));
        let config = config(path, https, [tunnel, other_tunnel]);
        certificate(&config).await;
        for name in ["current", "run/front", "run/gateway", "probe"] {
            std::fs::create_dir_all(path.join(name)).unwrap();
        }

        let generation = render(&config, true).unwrap();
        let keep_http2 = knows_http2_directive().await;
        for (name, text) in generation.files() {
            let mut text = text
                .replace("/run/code-server-multi-nginx", path.join("probe").to_str().unwrap())
                .replace("/run/code-server-multi", path.join("run").to_str().unwrap())
                .replace("127.0.0.1:80;", &format!("127.0.0.1:{redirect};"));
            if !keep_http2 {
                text = text.replace("    http2 on;\n", "");
            }
            std::fs::write(path.join("current").join(name), text).unwrap();
        }
        let user = if rustix::process::geteuid().is_root() {
            "user root root;"
        } else {
            ""
        };
        let http = HTTP
            .replace("DIR", path.to_str().unwrap())
            .replace("ADMIN", &admin.to_string());
        let text = format!(
            "{user} daemon off; worker_processes 2; pid {0}/pid; error_log {0}/error.log; events {{}} http {{ {http} }}",
            path.display()
        );
        std::fs::write(path.join("nginx.conf"), text).unwrap();

        let mut stand_ins = tokio::task::JoinSet::new();
        stand_ins.spawn(stand_in::gateway(path.join("run/gateway/http.sock")));
        for name in ["dan", "alice"] {
            stand_ins.spawn(stand_in::editor(path.join(format!("run/front/{name}.sock"))));
        }
        let test = nginx(path).arg("-t").output().await.unwrap();
        let said = String::from_utf8_lossy(&test.stderr).into_owned();
        assert!(test.status.success(), "{said}");
        assert!(!said.contains("[warn]"), "{said}");
        let nginx = nginx(path).kill_on_drop(true).spawn().unwrap();
        let edge = Self {
            dir,
            nginx,
            https,
            redirect,
            tunnel,
            generation: generation.digest().to_owned(),
            _stand_ins: stand_ins,
        };
        let answers = async {
            while edge
                .curl(
                    &[],
                    "http://localhost/",
                    &["--unix-socket", &edge.path("probe/probe.sock")],
                )
                .await
                .status
                == 0
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), answers)
            .await
            .expect("nginx answers within 20 s");
        edge
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A request to a host below the domain over HTTPS.
    async fn https(&self, host: &str, path: &str, arguments: &[&str]) -> Reply {
        let resolve = format!("*:{}:127.0.0.1", self.https.port());
        let ca = self.path("a \"c\" 'd' \\e;{}#.pem");
        let url = format!("https://{host}.{DOMAIN}:{}{path}", self.https.port());
        self.curl(&["--resolve", &resolve, "--cacert", &ca], &url, arguments)
            .await
    }

    async fn tunnel(&self, path: &str, arguments: &[&str]) -> Reply {
        self.curl(&[], &format!("http://localhost:{}{path}", self.tunnel), arguments)
            .await
    }

    async fn curl(&self, first: &[&str], url: &str, arguments: &[&str]) -> Reply {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--include",
            "--path-as-is",
            "--max-time",
            "30",
            "--noproxy",
            "*",
        ]);
        let out = command
            .args(first)
            .args(arguments)
            .arg(url)
            .output()
            .await
            .expect("curl is installed");
        Reply::parse(&String::from_utf8_lossy(&out.stdout))
    }

    async fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(self.nginx.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.nginx.wait().await.unwrap();
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.path("error.log")).unwrap_or_default());
        }
    }
}

fn nginx(dir: &Path) -> Command {
    let mut command = Command::new(nginx_program());
    command
        .arg("-p")
        .arg(dir)
        .arg("-e")
        .arg(dir.join("error.log"))
        .arg("-c")
        .arg(dir.join("nginx.conf"));
    command.stdin(Stdio::null());
    command
}

async fn certificate(config: &Config) {
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    command.args([
        "-subj",
        "/CN=test",
        "-addext",
        &format!("subjectAltName=DNS:*.{DOMAIN},DNS:{DOMAIN}"),
    ]);
    command
        .arg("-out")
        .arg(&config.nginx.certificate)
        .arg("-keyout")
        .arg(&config.nginx.certificate_key);
    let out = command.output().await.expect("openssl is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// An answer: status 0 where there was none.
#[derive(Debug, Default)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Reply {
    fn parse(text: &str) -> Self {
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Self::default();
        };
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        if status == 100 {
            return Self::parse(body);
        }
        let header = |line: &str| {
            line.split_once(": ")
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        };
        Self {
            status,
            headers: lines.filter_map(header).collect(),
            body: body.to_owned(),
        }
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A header that the stand-in was sent, from the JSON it answers with.
    fn seen(&self, name: &str) -> Option<String> {
        let value: serde_json::Value = serde_json::from_str(&self.body).expect(&self.body);
        value["headers"][name].as_str().map(str::to_owned)
    }

    fn seen_by(&self) -> (String, String, u64) {
        let value: serde_json::Value = serde_json::from_str(&self.body).expect(&self.body);
        let text = |key: &str| value[key].as_str().unwrap().to_owned();
        (
            text("who"),
            format!("{} {}", text("method"), text("uri")),
            value["length"].as_u64().unwrap(),
        )
    }
}

const SIGNED_IN: [&str; 2] = ["-H", "Cookie: a=1; __Host-csm=good; b=2"];

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_as_visitors_and_workspaces_meet_it() {
    let edge = Edge::start().await;
    probe_and_catch_all(&edge).await;
    signing_in(&edge).await;
    refusals(&edge).await;
    headers(&edge).await;
    cookies(&edge).await;
    hostile_replies(&edge).await;
    upgrades(&edge).await;
    bodies(&edge).await;
    away(&edge).await;
    tunnel(&edge).await;
    floods(&edge).await;
    edge.stop().await;
}

async fn probe_and_catch_all(edge: &Edge) {
    let reply = edge
        .curl(
            &[],
            "http://localhost/",
            &["--unix-socket", &edge.path("probe/probe.sock")],
        )
        .await;
    assert_eq!((reply.status, reply.body.trim()), (200, edge.generation.as_str()));

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
    let reply = edge.https("dan", "/a?b=c", &["-X", "POST", "-d", "body"]).await;
    assert_eq!(reply.status, 401);
    assert_eq!(
        reply.seen_by(),
        ("gateway".to_owned(), "GET /_csm/denied".to_owned(), 0)
    );
    assert_eq!(reply.seen("x-csm-method").as_deref(), Some("POST"));
    assert_eq!(reply.seen("x-csm-uri").as_deref(), Some("/a?b=c"));
    assert_eq!(reply.seen("content-length"), None);

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

impl Reply {
    fn seen_if_json(&self, key: &str) -> Option<String> {
        let value: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        value[key].as_str().map(str::to_owned)
    }
}

async fn cookies(edge: &Edge) {
    let cases = [
        ("__Host-csm=good", None),
        ("__Host-csm=good; a=1", Some("a=1")),
        ("a=1; __Host-csm=good", Some("a=1")),
        ("a=1; __Host-csm=good; b=2", Some("a=1; b=2")),
        ("a=1;__Host-csm=good;b=2", Some("a=1;b=2")),
        ("__Host-csm=good; __Host-csm=good", None),
        ("a=1; __Host-csm=good; b=2; __Host-csm=other; c=3", None),
        (
            "x__Host-csmx=1; __Host-csm=good; csm-dan=kept",
            Some("x__Host-csmx=1; csm-dan=kept"),
        ),
    ];
    for (sent, seen) in cases {
        for http in ["--http1.1", "--http2"] {
            let reply = edge
                .https("dan", "/echo", &["-H", &format!("Cookie: {sent}"), http])
                .await;
            assert_eq!(reply.status, 200, "{sent}");
            assert_eq!(reply.seen("cookie").as_deref(), seen, "{sent}");
        }
    }
    let reply = edge
        .https(
            "dan",
            "/echo",
            &["-H", "Cookie: a=1", "-H", "Cookie: __Host-csm=good", "--http1.1"],
        )
        .await;
    assert_eq!((reply.status, reply.seen("cookie").as_deref()), (200, Some("a=1")));
}

async fn hostile_replies(edge: &Edge) {
    for target in ["/_csm/auth", "@csm_wake", "@ide", "/nowhere"] {
        let reply = edge.https("dan", &format!("/accel?{target}"), &SIGNED_IN).await;
        assert_eq!((reply.status, reply.seen_by().0.as_str()), (200, "editor"), "{target}");
        assert!(reply.all("x-accel-redirect").is_empty());
    }
    let reply = edge.https("dan", "/cookies", &SIGNED_IN).await;
    // Without Secure no browser takes a cookie of that prefix (RFC 6265bis, section 5.7).
    let seen = ["__Host-csm=evil; Path=/", "__host-CSM=; Path=/; Max-Age=0", "csm-dan=evil; Path=/", "app=1; Path=/; Secure"];
    assert_eq!(reply.all("set-cookie"), seen);
    assert_eq!(reply.all("clear-site-data"), Vec::<&str>::new());
    assert_eq!(reply.all("strict-transport-security"), Vec::<&str>::new());
    // The admin's cache for all sites holds nothing of a workspace.
    let one = edge.https("dan", "/count", &SIGNED_IN).await.body;
    assert_ne!(one, edge.https("dan", "/count", &SIGNED_IN).await.body);
}

async fn upgrades(edge: &Edge) {
    let websocket = [
        "--http1.1",
        "-H",
        "Connection: Upgrade",
        "-H",
        "Upgrade: websocket",
        "-H",
        "Sec-WebSocket-Key: x",
    ];
    let with = |cookie: &'static [&'static str]| [&websocket, cookie].concat();
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
        assert_eq!((reply.status, reply.seen_by().2), (401, 0), "{extra:?}");
    }
}

async fn away(edge: &Edge) {
    let reply = edge.https("eve", "/a?b", &SIGNED_IN).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.seen_by(), ("gateway".to_owned(), "GET /_csm/away".to_owned(), 0));
    assert_eq!(reply.seen("x-csm-uri").as_deref(), Some("/a?b"));
    let reply = edge.https("eve", "/a?b", &[]).await;
    assert_eq!(reply.seen_by().1, "GET /_csm/denied");

    // Woken by the gateway: the request goes on as it was.
    let mut woken = tokio::task::JoinSet::new();
    woken.spawn(stand_in::editor(
        Path::new(&edge.path("run/front/eve.sock.later")).to_owned(),
    ));
    for arguments in [vec![], vec!["-d", "small body"], vec!["-d", "x", "-X", "DELETE"]] {
        let link = edge.path("run/front/eve.sock");
        let _ = std::fs::remove_file(&link);
        let mut all = vec!["-H", "Cookie: __Host-csm=good; wake=1"];
        all.extend(&arguments);
        let reply = edge.https("eve", "/echo?c=d", &all).await;
        let method = if arguments.contains(&"-X") {
            "DELETE"
        } else if arguments.is_empty() {
            "GET"
        } else {
            "POST"
        };
        let length = arguments.get(1).map_or(0, |body| body.len() as u64);
        assert_eq!(
            reply.seen_by(),
            ("editor".to_owned(), format!("{method} /echo?c=d"), length),
            "{reply:?}"
        );
    }
}

async fn tunnel(edge: &Edge) {
    let signed_in = ["-H", "Cookie: csm-alice=s1; csm-dan=good; a=1; csm-old=s2"];
    let reply = edge.tunnel("/echo", &signed_in).await;
    assert_eq!(reply.status, 200);
    let host = format!("localhost:{}", edge.tunnel);
    assert_eq!(reply.seen("host"), Some(host.clone()));
    // Two tunnels are configured, so two sessions are cut; a third left from earlier drops the cookies altogether.
    assert_eq!(reply.seen("cookie"), None);
    let reply = edge
        .tunnel("/echo", &["-H", "Cookie: csm-alice=s1; csm-dan=good; a=1"])
        .await;
    assert_eq!(reply.seen("cookie").as_deref(), Some("a=1"));

    let reply = edge.tunnel("/", &[]).await;
    assert_eq!((reply.status, reply.seen("x-csm-tunnel").as_deref()), (401, Some("1")));
    assert_eq!(reply.seen("x-csm-origin"), Some(format!("http://{host}")));
    for host in ["evil.example", "dan.code.example.test", "localhost.evil.example", ""] {
        let reply = edge
            .tunnel("/", &[&signed_in[..], &["-H", &format!("Host: {host}")]].concat())
            .await;
        assert!(
            reply.status == 421 || host.is_empty() && reply.status == 400,
            "{host}: {reply:?}"
        );
    }
    let reply = edge.tunnel("/cookies", &["-H", "Cookie: csm-dan=good"]).await;
    let own: Vec<&str> = reply
        .all("set-cookie")
        .into_iter()
        .filter(|cookie| cookie.starts_with("csm-"))
        .collect();
    assert_eq!(own, ["csm-dan=evil; Path=/; SameSite=None"]);
}

async fn floods(edge: &Edge) {
    let mut seen = BTreeMap::new();
    for _ in 0..40 {
        let reply = edge.https("alice", "/_csm/sign-in", &["-d", "x"]).await;
        *seen.entry(reply.status).or_insert(0) += 1;
    }
    assert!(seen[&200] >= 10 && seen[&429] >= 10, "{seen:?}");
    // Looking at the page and using a session are not limited.
    assert_eq!(edge.https("alice", "/_csm/sign-in", &[]).await.status, 200);
    assert_eq!(edge.https("dan", "/echo", &SIGNED_IN).await.status, 200);
}
