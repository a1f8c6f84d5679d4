//! NGINX: Config -> the files that nginx includes; the only place with nginx syntax and its escaping.
//! The texts are beside this file (`nginx/*.conf`), with `@KEY@` where a value goes. Called by the daemon, which hands
//! the generation to `host::nginx`; what the headers mean to the gateway is in docs/nginx.md.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::model::config::{Config, WorkspaceConfig};
use crate::model::names::WorkspaceName;

pub mod generation;

use generation::{BASE_FILE, Generation};

/// Where nginx says which generation it serves. The directory is made by a drop-in for nginx's unit.
pub const PROBE_SOCKET: &str = "/run/code-server-multi-nginx/probe.sock";

const GATEWAY_SOCKET: &str = "/run/code-server-multi/gateway/http.sock";
const FRONT_DIR: &str = "/run/code-server-multi/front";

/// What is under way at once, at each server that answers over HTTP/2.
const LIMITS: &str = include_str!("nginx/limits.conf");

/// A program that sent a body without being signed in is told what the gateway tells it without one.
const SIGNED_OUT: &str = r#"{"code":"not-signed-in","title":"Not signed in","status":401,"detail":"The workspace needs a sign-in.","remediation":"Open the workspace in a browser tab and sign in.","problems":[]}"#;

/// Request headers that some software takes for who the visitor is or how he came; a client's are never passed on.
const CLEARED: [&str; 36] = [
    "Forwarded",
    "Proxy",
    "Remote-Email",
    "Remote-Groups",
    "Remote-Name",
    "Remote-User",
    "True-Client-IP",
    "X-Accel-Redirect",
    "X-Auth-Request-Access-Token",
    "X-Auth-Request-Email",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Preferred-Username",
    "X-Auth-Request-Redirect",
    "X-Auth-Request-User",
    "X-Authenticated-User",
    "X-Client-IP",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Host",
    "X-Forwarded-Method",
    "X-Forwarded-Port",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Prefix",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Uri",
    "X-Forwarded-User",
    "X-Original-URL",
    "X-Remote-Group",
    "X-Remote-User",
    "X-Rewrite-URL",
    "X-User",
    "X-Webauth-Email",
    "X-Webauth-User",
];

/// Headers of ours, towards the gateway only.
const OWN: [&str; 6] = [
    "X-Csm-Workspace",
    "X-Csm-Origin",
    "X-Csm-Tunnel",
    "X-Csm-Method",
    "X-Csm-Uri",
    "X-Csm-Upgrade",
];

/// A value that nginx's syntax can't carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nginx.{key} can't be written into an nginx file")]
pub struct RenderError {
    pub key: &'static str,
}

impl RenderError {
    /// Stable code and what to do.
    pub fn remediation(&self) -> (&'static str, String) {
        let Self { key } = self;
        (
            "nginx-path",
            format!("name a path for nginx.{key} that is UTF-8 without $ and control characters"),
        )
    }
}

/// The files for a configuration. `probe`: nginx's unit has the drop-in that makes the directory of [`PROBE_SOCKET`].
pub fn render(config: &Config, probe: bool) -> Result<Generation, RenderError> {
    let certificate = path(&config.nginx.certificate, "certificate")?;
    let certificate_key = path(&config.nginx.certificate_key, "certificate_key")?;
    let site = Site {
        config,
        listen: listen(&config.nginx.listen),
        certificate,
        certificate_key,
    };
    let mut files = BTreeMap::from([(BASE_FILE.to_owned(), site.base(probe))]);
    for (name, workspace) in &config.workspaces {
        files.insert(format!("{name}.conf"), site.workspace(name, workspace));
    }
    Ok(Generation::new(files))
}

/// The `server_names_hash_bucket_size` that nginx needs for the longest name: below it nginx refuses to start
/// (`ngx_hash_init`: pointer, length and name of the one element, and the end mark).
pub fn names_hash_bucket_size(config: &Config) -> usize {
    let longest = config
        .workspaces
        .keys()
        .map(|name| host(name, config).len())
        .max()
        .unwrap_or(0);
    (16 + (longest + 2).next_multiple_of(8)).next_power_of_two().max(64)
}

struct Site<'a> {
    config: &'a Config,
    listen: String,
    certificate: String,
    certificate_key: String,
}

impl Site<'_> {
    fn base(&self, probe: bool) -> String {
        let domain = self.config.domain.as_str();
        let port = port_suffix(self.config.nginx.public_port);
        let redirects =
            redirect_addresses(&self.config.nginx.listen)
                .into_iter()
                .fold(String::new(), |text, address| {
                    let address = socket(address);
                    let values = [("LISTEN", address.as_str()), ("DOMAIN", domain), ("PORT", &port)];
                    text + &fill(include_str!("nginx/redirect.conf"), &values)
                });
        let probe = if probe {
            fill(
                include_str!("nginx/probe.conf"),
                &[("PROBE_SOCKET", PROBE_SOCKET), ("GENERATION", "@GENERATION@")],
            )
        } else {
            String::new()
        };
        let nobody = page(
            "No workspace here",
            "There is no workspace at this address. Check the name in the address bar.",
        );
        fill(
            include_str!("nginx/base.conf"),
            &[
                ("COOKIES", &self.cookies()),
                ("LIMITS", LIMITS),
                ("GATEWAY_SOCKET", GATEWAY_SOCKET),
                ("LISTEN", &self.listen),
                ("DOMAIN", domain),
                ("DOMAIN_REGEX", &domain.replace('.', "\\.")),
                ("CERTIFICATE", &self.certificate),
                ("CERTIFICATE_KEY", &self.certificate_key),
                ("NOBODY_PAGE", &nobody),
                ("REDIRECTS", &redirects),
                ("PROBE", &probe),
            ],
        )
    }

    /// The cookies that workspaces get. A browser shows a session and its mark, and for a while those of an earlier version. All
    /// ports of localhost share their cookies, so a workspace's tunnel is sent the others' too.
    fn cookies(&self) -> String {
        const FOR_EARLIER: usize = 2;
        let workspaces = self.config.workspaces.values();
        let tunnels = workspaces.filter(|workspace| workspace.port.is_some()).count();
        let mut text = "# Our cookies stay between browser and gateway, however they are spelled. A request that still shows one after the \
                        cuts\n# sends no cookie at all.\n"
            .to_owned();
        text += &cuts("csm_cookie", "csm_cut", "__Host-csm", 2 + FOR_EARLIER);
        if tunnels > 0 {
            text += "\n# All ports of localhost share their cookies.\n";
            text += &cuts("csm_tunnel_cookie", "csm_tun", "csm-", 2 * tunnels + FOR_EARLIER);
        }
        text
    }

    fn workspace(&self, name: &WorkspaceName, workspace: &WorkspaceConfig) -> String {
        let host = host(name, self.config);
        let port = self.config.nginx.public_port;
        let authority = format!("{host}{}", port_suffix(port));
        // HSTS makes browsers go to port 443 by themselves, which would cut the way over the redirect to another port.
        let hsts = if port == 443 {
            "add_header Strict-Transport-Security max-age=31536000 always;\n"
        } else {
            ""
        };
        let https = Vhost {
            origin: format!("https://{authority}"),
            authority,
            proto: "https",
            tunnel: "",
            cookie: "csm_cookie",
            session_cookies: "~__Host-csm nosecure",
            hsts,
            plain_http1: self.config.nginx.plain_http1,
        };
        let mut text = fill(
            include_str!("nginx/https.conf"),
            &[
                ("WORKSPACE", name.as_str()),
                ("LISTEN", &self.listen),
                ("HOST", &host),
                ("CERTIFICATE", &self.certificate),
                ("CERTIFICATE_KEY", &self.certificate_key),
                ("HSTS", &indent(hsts, 4)),
                ("COMMON", &https.common(name)),
            ],
        );
        if let Some(port) = workspace.port {
            let tunnel = Vhost {
                origin: format!("http://$host:{port}"),
                authority: format!("$host:{port}"),
                proto: "http",
                tunnel: "1",
                cookie: "csm_tunnel_cookie",
                session_cookies: "~csm- nosecure samesite=none",
                hsts: "",
                // There is no other without TLS.
                plain_http1: true,
            };
            let values = [("PORT", port.to_string()), ("COMMON", tunnel.common(name))];
            text += &fill(
                include_str!("nginx/tunnel.conf"),
                &values.each_ref().map(|(key, value)| (*key, value.as_str())),
            );
        }
        first_comment_alone(&text)
    }
}

/// There is one such text for each workspace, and the daemon and nginx hold all of them: what the lines are for is said once, in
/// docs/nginx.md.
fn first_comment_alone(text: &str) -> String {
    let lines = text.split_inclusive('\n').enumerate();
    lines
        .filter(|(number, line)| *number == 0 || !line.trim_start().starts_with('#'))
        .map(|(_, line)| line)
        .collect()
}

/// What differs between a workspace's two servers.
struct Vhost {
    origin: String,
    /// The `Host` that editor and gateway see; code-server compares it with `Origin` on every websocket.
    authority: String,
    proto: &'static str,
    tunnel: &'static str,
    /// The variable with the visitor's cookies but ours.
    cookie: &'static str,
    session_cookies: &'static str,
    hsts: &'static str,
    /// Whether requests over HTTP/1.1 that are no websockets reach the workspace.
    plain_http1: bool,
}

impl Vhost {
    fn common(&self, name: &WorkspaceName) -> String {
        let gateway = self.gateway_headers(name);
        let forwarded = indent(
            &(self.forwarded_headers()
                // guard: A5-own-headers
                + &headers(&OWN.map(|name| (name, "")))),
            8,
        );
        let workspace = fill(
            include_str!("nginx/workspace.conf"),
            &[
                ("FRONT", &format!("{FRONT_DIR}/{name}.sock")),
                ("HSTS", &indent(self.hsts, 8)),
                ("SESSION_COOKIES", self.session_cookies),
                ("COOKIE", self.cookie),
                ("FORWARDED", forwarded.trim_end()),
            ],
        );
        fill(
            include_str!("nginx/common.conf"),
            &[
                ("LIMITS", LIMITS),
                ("GATEWAY_HEADERS", &indent(&gateway, 4)),
                ("PAGE_HEADERS", &indent(&gateway, 8)),
                (
                    "PLAIN_HTTP1",
                    // guard: A34-refused
                    if self.plain_http1 {
                        ""
                    } else {
                        include_str!("nginx/plain-http1.conf")
                    },
                ),
                ("PROXY_WORKSPACE", &workspace),
                ("ORIGIN", &self.origin),
                ("SIGNED_OUT", &quote(SIGNED_OUT)),
                (
                    "REFUSED_PAGE",
                    &page(
                        "Refused",
                        "This request came from another site or isn't yours to make, so it was refused.",
                    ),
                ),
                (
                    "UNAVAILABLE_PAGE",
                    &page(
                        "One moment",
                        "The service that signs you in doesn't answer right now. Reload this page in a few seconds.",
                    ),
                ),
            ],
        )
    }

    fn gateway_headers(&self, name: &WorkspaceName) -> String {
        let own = [
            ("Connection", ""),
            // Several Cookie lines of a client arrive as one.
            ("Cookie", "$http_cookie"),
            ("X-Csm-Workspace", name.as_str()),
            ("X-Csm-Origin", &self.origin),
            // guard: A5-tunnel
            ("X-Csm-Tunnel", self.tunnel),
            // guard: A5-asked-for
            ("X-Csm-Method", "$request_method"),
            ("X-Csm-Uri", "$request_uri"),
            ("X-Csm-Upgrade", "$http_upgrade"),
        ];
        headers(&own) + &self.forwarded_headers()
    }

    fn forwarded_headers(&self) -> String {
        let set = [
            ("Host", self.authority.as_str()),
            ("X-Real-IP", "$remote_addr"),
            // guard: A5-address
            ("X-Forwarded-For", "$remote_addr"),
            ("X-Forwarded-Proto", self.proto),
        ];
        headers(&set)
            // guard: A5-claims
            + &headers(&CLEARED.map(|name| (name, "")))
    }
}

/// Maps that cut so many cookies whose names begin with `names`, one after the other, into the variable `to`. Those in between are
/// called `step` and a number: nginx has room for few long names.
fn cuts(to: &str, step: &str, names: &str, times: usize) -> String {
    let mut text = String::new();
    let mut from = "http_cookie".to_owned();
    for number in 1..=times {
        let next = format!("{step}{number}");
        // guard: A37-cut
        let values = [("FROM", from.as_str()), ("TO", &next), ("NAMES", names)];
        text += &fill(include_str!("nginx/cookie-cut.conf"), &values);
        from = next;
    }
    // guard: A37-left
    let left = format!("map ${from} ${to} {{\n    default ${from};\n    \"~*(?:^|;)[ \\t]*{names}\" \"\";\n}}\n");
    text + &left
}

fn headers(pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(String::new(), |text, (name, value)| {
        let value = if value.is_empty() { "\"\"" } else { value };
        text + &format!("proxy_set_header {name} {value};\n")
    })
}

fn host(name: &WorkspaceName, config: &Config) -> String {
    format!("{name}.{}", config.domain)
}

fn port_suffix(port: u16) -> String {
    if port == 443 { String::new() } else { format!(":{port}") }
}

fn listen(addresses: &[SocketAddr]) -> String {
    let lines: Vec<String> = addresses
        .iter()
        .map(|address| format!("    listen {} ssl;", socket(*address)))
        .collect();
    lines.join("\n")
}

/// Port 80 of each address, once.
fn redirect_addresses(addresses: &[SocketAddr]) -> BTreeSet<SocketAddr> {
    let plain = addresses.iter().map(|address| SocketAddr::new(address.ip(), 80));
    plain.filter(|address| !addresses.contains(address)).collect()
}

/// An address as nginx's `listen` takes it: its parser knows no scope id.
fn socket(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("{ip}:{}", address.port()),
        IpAddr::V6(ip) => format!("[{ip}]:{}", address.port()),
    }
}

/// A small page that needs nothing else, as an nginx string.
fn page(title: &str, text: &str) -> String {
    quote(&format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>{title}</title><style>:root{{color-scheme:light dark}}\
         body{{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem}}</style>\
         <main><h1>{title}</h1><p>{text}</p></main></html>\n"
    ))
}

/// nginx has no escape for `$` where variables are allowed, and certificates are such a place.
fn path(path: &Path, key: &'static str) -> Result<String, RenderError> {
    let text = path
        .to_str()
        .filter(|text| !text.contains('$') && !text.contains(char::is_control));
    text.map(quote).ok_or(RenderError { key })
}

/// A quoted string (`ngx_conf_read_token`): only the quote and the backslash are special in it.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn indent(text: &str, columns: usize) -> String {
    text.lines()
        .fold(String::new(), |out, line| out + &format!("{:columns$}{line}\n", ""))
}

/// Puts values in place of `@KEY@`, in one pass: a value is never looked at again. Leaves out the marks of guards
/// (tests/guards), which are for readers of the source.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(start) = rest.find('@') {
        let after = &rest[start + 1..];
        let hit = values
            .iter()
            .find(|(key, _)| after.strip_prefix(key).is_some_and(|tail| tail.starts_with('@')));
        let Some((key, value)) = hit else {
            out.push_str(&rest[..=start]);
            rest = after;
            continue;
        };
        out.push_str(&rest[..start]);
        out.push_str(value);
        rest = &after[key.len() + 1..];
    }
    out += rest;
    // At the end, since a value may be a part that was never filled itself.
    out.split_inclusive('\n')
        .filter(|line| !line.trim_start().starts_with("# guard: "))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
