//! What nginx says about a request, in headers that it sets itself or passes on from the client.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::model::auth::cookies::{self, Kind};
use crate::model::auth::devices::DeviceId;
use crate::model::auth::request::{Asked, Source};
use crate::model::auth::session::{Door, SessionId, Token};
use crate::model::names::WorkspaceName;
use crate::serve::gateway::{Gateway, unix_time};

// Set by nginx, literally or from its own variables; what a client sends under these names is overwritten.
const WORKSPACE: HeaderName = HeaderName::from_static("x-csm-workspace");
const METHOD: HeaderName = HeaderName::from_static("x-csm-method");
const URI: HeaderName = HeaderName::from_static("x-csm-uri");
const UPGRADE: HeaderName = HeaderName::from_static("x-csm-upgrade");
const OWN_ORIGIN: HeaderName = HeaderName::from_static("x-csm-origin");
const TUNNEL: HeaderName = HeaderName::from_static("x-csm-tunnel");
const ADDRESS: HeaderName = HeaderName::from_static("x-real-ip");

// The client's own.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Stands for a header that is there twice or isn't ASCII: no value that anything asks for.
const UNCLEAR: &str = "\u{0}";

pub struct Facts<'a> {
    pub workspace: WorkspaceName,
    pub asked: Asked<'a>,
    /// The path and query that the browser asked for; may be anything.
    pub uri: &'a str,
    /// Plain HTTP to the loopback address, through somebody's SSH tunnel.
    pub tunnel: bool,
    headers: &'a HeaderMap,
}

/// nginx did not say which workspace is meant: not for us, or wired wrongly.
#[derive(Debug, Clone, Copy)]
pub struct NotSaid;

impl<'a> Facts<'a> {
    pub fn read(headers: &'a HeaderMap) -> Result<Self, NotSaid> {
        let text = |name: &HeaderName| text(headers, name);
        let workspace = text(&WORKSPACE)
            .and_then(|name| WorkspaceName::parse(name).ok())
            .ok_or(NotSaid)?;
        let own_origin = text(&OWN_ORIGIN)
            .filter(|origin| *origin != UNCLEAR && !origin.is_empty())
            .ok_or(NotSaid)?;
        let asked = Asked {
            method: text(&METHOD).unwrap_or_default(),
            upgrade: text(&UPGRADE).is_some_and(|protocol| !protocol.is_empty()),
            site: text(&SITE),
            mode: text(&MODE),
            dest: text(&DEST),
            origin: text(&header::ORIGIN),
            own_origin,
            accepts_html: text(&header::ACCEPT).is_some_and(|types| types.contains("text/html")),
        };
        let (uri, tunnel) = (text(&URI).unwrap_or("/"), text(&TUNNEL) == Some("1"));
        Ok(Self {
            workspace,
            asked,
            uri,
            tunnel,
            headers,
        })
    }

    pub fn source(&self) -> Source {
        Source::of(text(self.headers, &ADDRESS), self.tunnel)
    }

    pub fn door(&self) -> Door {
        Door {
            workspace: self.workspace.clone(),
            tunnel: self.tunnel,
        }
    }

    /// What the names of our cookies begin with here. A browser keeps one cookie jar for all ports of a host, so that each tunnel
    /// needs names of its own; and it refuses the `__Host-` prefix without TLS.
    pub fn cookie_base(&self) -> String {
        if self.tunnel {
            format!("csm-{}", self.workspace)
        } else {
            "__Host-csm".to_owned()
        }
    }

    /// The names and tokens that the browser presents, be they good or not.
    pub fn tokens(&self, kind: Kind) -> Vec<(&'a str, Token)> {
        let headers = self.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        cookies::find(headers, &self.cookie_base(), kind)
            .filter_map(|(name, value)| Some((name, Token::parse(value)?)))
            .collect()
    }

    /// What the browser presents as sessions; of several, none or one is a session.
    pub fn session_ids(&self) -> Vec<SessionId> {
        self.tokens(Kind::Session).iter().map(|(_, token)| token.id()).collect()
    }

    /// The browser's mark, its cookie's name and token included, if the workspace knows it.
    pub fn known_device(&self, gateway: &Gateway) -> Option<(&'a str, Token, DeviceId)> {
        let state = gateway.state();
        let known = |device: &DeviceId| state.known_devices.knows(&self.workspace, device, unix_time());
        self.tokens(Kind::Device).into_iter().find_map(|(name, token)| {
            let device = DeviceId::of(&token);
            known(&device).then_some((name, token, device))
        })
    }

    /// Whether the browser is signed in to this workspace.
    pub async fn is_signed_in(&self, gateway: &Gateway) -> bool {
        let ids = self.session_ids();
        if ids.is_empty() {
            return false;
        }
        gateway.first_sync().await;
        let (door, now) = (self.door(), unix_time());
        let mut state = gateway.state();
        ids.iter().any(|id| state.use_session(id, &door, now))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    // guard: A6-twice
    match values.next() {
        None => Some(first.to_str().unwrap_or(UNCLEAR)),
        Some(_) => Some(UNCLEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    const WIRED: [(&str, &str); 3] = [
        ("x-csm-workspace", "dan"),
        ("x-csm-origin", "https://dan.code.example.org"),
        ("x-csm-method", "GET"),
    ];

    #[test]
    fn what_nginx_must_say() {
        let cases: &[(&[(&'static str, &str)], bool)] = &[
            (&WIRED, true),
            (&[("x-csm-workspace", "dan")], false),
            (&[("x-csm-workspace", "dan"), ("x-csm-origin", "")], false),
            (&[("x-csm-workspace", "../dan"), ("x-csm-origin", "https://x")], false),
            (
                &[
                    ("x-csm-workspace", "dan"),
                    ("x-csm-workspace", "alice"),
                    ("x-csm-origin", "https://x"),
                ],
                false,
            ),
            (
                &[
                    ("x-csm-workspace", "dan"),
                    ("x-csm-origin", "https://x"),
                    ("x-csm-origin", "https://y"),
                ],
                false,
            ),
            (&[("x-csm-workspace", "dan"), ("x-csm-origin", "https://é")], false),
        ];
        for (lines, readable) in cases {
            assert_eq!(Facts::read(&headers(lines)).is_ok(), *readable, "{lines:?}");
        }
    }

    #[test]
    fn a_header_that_is_there_twice_is_never_the_good_one() {
        let cases: &[(&'static str, &str, &str)] = &[
            ("origin", "https://dan.code.example.org", "https://dan.code.example.org"),
            ("origin", "https://dan.code.example.org", "https://evil.example"),
            ("sec-fetch-site", "same-origin", "same-origin"),
            ("sec-fetch-site", "same-origin", "cross-site"),
        ];
        for (name, first, second) in cases {
            let mut lines = WIRED.to_vec();
            lines.push((name, first));
            assert!(
                Facts::read(&headers(&lines)).unwrap().asked.may_use_session(),
                "{name} once"
            );
            lines.push((name, second));
            assert!(
                !Facts::read(&headers(&lines)).unwrap().asked.may_use_session(),
                "{name} twice"
            );
        }
    }

    #[test]
    fn each_door_has_cookies_of_its_own() {
        let token = Token::new([7; 32]).encode();
        let ends = ["", "--0123456789abcdef"];
        let cookies = |base: &str| ends.map(|end| format!("{base}{end}={}", token.as_str())).join("; ");
        let count = |lines: &[(&'static str, &str)]| Facts::read(&headers(lines)).unwrap().session_ids().len();
        let all = format!(
            "{}; {}; {}",
            cookies("__Host-csm"),
            cookies("csm-alice"),
            cookies("csm-dan-x")
        );
        let mut lines = WIRED.to_vec();
        lines.push(("cookie", &all));
        assert_eq!(count(&lines), 2);
        lines.push(("x-csm-tunnel", "1"));
        assert_eq!(count(&lines), 0);
        let own = cookies("csm-dan");
        lines.push(("cookie", &own));
        assert_eq!(count(&lines), 2);
        let device = format!("csm-dan--device-0123456789abcdef={}", token.as_str());
        lines.push(("cookie", &device));
        let read = headers(&lines);
        let facts = Facts::read(&read).unwrap();
        assert_eq!((facts.session_ids().len(), facts.tokens(Kind::Device).len()), (2, 1));
    }
}
