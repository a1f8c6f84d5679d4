//! A real nginx with the rendered files, on loopback, with stand-ins for gateway and editor. Needs `nginx` (or
//! `CSM_TEST_NGINX=PATH`), `openssl` and `curl`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use code_server_multi::host::nginx::{
    JobResult, Publisher, RUNTIME_DIRECTORY, ReloadError, Reloader, Settings, UnitState,
};
use code_server_multi::model::config::{
    Apply, Config, Gateway, Image, Limits, Nginx, Pull, StartOnBoot, WorkspaceConfig,
};
use code_server_multi::model::names::{AccountName, HostName, ImageRef, WorkspaceName};
use code_server_multi::model::nginx::generation::Generation;
use code_server_multi::model::nginx::render;
use nix::unistd::{Group, getegid};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stand_in;

pub const DOMAIN: &str = "code.example.test";

/// A running nginx, and what publishes files to it.
pub struct Edge {
    pub dir: TempDir,
    pub https: SocketAddr,
    pub redirect: u16,
    /// Ports for tunnels: dan's and alice's.
    pub tunnels: [u16; 2],
    pub publisher: Publisher<Signals>,
    knows_http2: bool,
    nginx: Child,
    _stand_ins: JoinSet<()>,
}

/// Reloads as nginx's unit does on NixOS and Debian: a test of the configuration, then a signal.
pub struct Signals(PathBuf);

impl Reloader for Signals {
    async fn state(&self, _: &str) -> Result<UnitState, ReloadError> {
        Ok(UnitState::Active)
    }

    async fn reload(&self, _: &str) -> Result<JobResult, ReloadError> {
        let test = nginx(&self.0).arg("-t").output().await.unwrap();
        let said = String::from_utf8_lossy(&test.stderr).into_owned();
        if !test.status.success() {
            return Ok(JobResult::Failed("failed".to_owned()));
        }
        assert!(!said.contains("[warn]"), "{said}");
        let pid = std::fs::read_to_string(self.0.join("pid"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
        Ok(JobResult::Done)
    }

    async fn runtime_directories(&self, _: &str) -> Result<Vec<String>, ReloadError> {
        Ok(vec![RUNTIME_DIRECTORY.to_owned()])
    }
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

fn config(dir: &Path, https: SocketAddr, workspaces: &[(&str, Option<u16>)]) -> Config {
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
            group: Group::from_gid(getegid()).unwrap().expect("the group has a name").name,
            listen: vec![https],
            public_port: https.port(),
            plain_http1: true,
            // Everything that is special to nginx inside a quoted string or outside of one.
            certificate: dir.join("a \"c\" 'd' \\e;{}#.pem"),
            certificate_key: dir.join("key.pem"),
        },
        gateway: Gateway {
            session_lifetime: Duration::from_secs(24 * 3600),
        },
        reserved_ports: [].into(),
        workspaces: workspaces.iter().map(|(name, port)| workspace(name, *port)).collect(),
    }
}

/// An admin's http{} that would open everything if a server of ours relied on defaults.
const HTTP: &str = "
    satisfy any;
    allow all;
    ssi on;
    limit_conn_dry_run on;
    client_body_in_file_only on;
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
    include DIR/snippets/current/*.conf;
    server { listen 127.0.0.1:ADMIN; server_name admin.example.test; return 200 admin; }
";

impl Edge {
    /// nginx with an admin's configuration and none of ours, and stand-ins for the gateway and two workspaces.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let [https, redirect, dan, alice, admin] = [(); 5].map(|()| free_port());
        for name in ["snippets", "run/front", "run/gateway", "probe"] {
            std::fs::create_dir_all(path.join(name)).unwrap();
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
            "{user} daemon off; worker_processes 1; pid {0}/pid; error_log {0}/error.log; events {{}} http {{ {http} }}",
            path.display()
        );
        std::fs::write(path.join("nginx.conf"), text).unwrap();

        let mut stand_ins = JoinSet::new();
        stand_ins.spawn(stand_in::gateway(path.join("run/gateway/http.sock")));
        for name in ["dan", "alice"] {
            stand_ins.spawn(stand_in::editor(path.join(format!("run/front/{name}.sock"))));
        }
        let https = SocketAddr::from((Ipv4Addr::LOCALHOST, https));
        let config = config(path, https, &[]);
        certificate(&config).await;
        let mut settings = Settings::new(&config.nginx);
        settings.probe_socket = path.join("probe/probe.sock");
        let edge = Self {
            publisher: Publisher::new(settings, Signals(path.to_owned())),
            knows_http2: knows_http2_directive().await,
            nginx: nginx(path).spawn().expect("nginx is installed (apt install nginx)"),
            dir,
            https,
            redirect,
            tunnels: [dan, alice],
            _stand_ins: stand_ins,
        };
        // The signal handlers are there before the pid file is.
        let started = async {
            while !edge.dir.path().join("pid").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), started)
            .await
            .expect("nginx starts within 20 s");
        edge
    }

    /// The files for workspaces and their tunnels' ports, with paths and port 80 moved to where a test may use them.
    pub fn generation(&self, workspaces: &[(&str, Option<u16>)]) -> Generation {
        let rendered = render(&config(self.dir.path(), self.https, workspaces), true).unwrap();
        let adapt = |(name, text): (&str, String)| {
            let mut text = text
                .replace(rendered.digest(), "@GENERATION@")
                .replace("/run/code-server-multi-nginx", &self.path("probe"))
                .replace("/run/code-server-multi", &self.path("run"))
                .replace("127.0.0.1:80;", &format!("127.0.0.1:{};", self.redirect));
            if !self.knows_http2 {
                text = text.replace("    http2 on;\n", "");
            }
            (name.to_owned(), text)
        };
        Generation::new(rendered.files().map(adapt).collect())
    }

    /// What nginx answers on its probe socket.
    pub async fn probe(&self) -> Reply {
        self.curl(
            &[],
            "http://localhost/",
            &["--unix-socket", &self.path("probe/probe.sock")],
        )
        .await
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A request to a host below the domain over HTTPS.
    pub async fn https(&self, host: &str, path: &str, arguments: &[&str]) -> Reply {
        let resolve = format!("*:{}:127.0.0.1", self.https.port());
        let ca = self.path("a \"c\" 'd' \\e;{}#.pem");
        let url = format!("https://{host}.{DOMAIN}:{}{path}", self.https.port());
        self.curl(&["--resolve", &resolve, "--cacert", &ca], &url, arguments)
            .await
    }

    pub async fn tunnel(&self, path: &str, arguments: &[&str]) -> Reply {
        self.curl(&[], &format!("http://localhost:{}{path}", self.tunnels[0]), arguments)
            .await
    }

    pub async fn curl(&self, first: &[&str], url: &str, arguments: &[&str]) -> Reply {
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

    pub async fn stop(mut self) {
        let pid = Pid::from_raw(self.nginx.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.nginx.wait().await.unwrap();
    }
}

impl Drop for Edge {
    #[expect(clippy::print_stderr, reason = "what nginx said belongs to a failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}",
                std::fs::read_to_string(self.path("error.log")).unwrap_or_default()
            );
        }
        // Not SIGKILL, as a dropped child gets: nginx's workers would outlive it.
        if let Some(pid) = self.nginx.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
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
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
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
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
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

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A header that the stand-in was sent, from the JSON it answers with.
    pub fn seen(&self, name: &str) -> Option<String> {
        let value: serde_json::Value = serde_json::from_str(&self.body).expect(&self.body);
        value["headers"][name].as_str().map(str::to_owned)
    }

    pub fn seen_by(&self) -> (String, String, u64) {
        let value: serde_json::Value = serde_json::from_str(&self.body).expect(&self.body);
        let text = |key: &str| value[key].as_str().unwrap().to_owned();
        (
            text("who"),
            format!("{} {}", text("method"), text("uri")),
            value["length"].as_u64().unwrap(),
        )
    }

    pub fn seen_if_json(&self, key: &str) -> Option<String> {
        let value: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        value[key].as_str().map(str::to_owned)
    }
}
