//! What a browser's request tells about where it comes from, and what follows: the same-site rule, the path
//! to go back to, the source that sign-in limits count by. Called by the gateway on every request.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Longest path that a sign-in leads back to; longer ones lead to `/`.
const RETURN_PATH_MAX: usize = 2048;

const TUNNEL: &str = "tunnel";

/// Where a request comes from, as the browser (which a page can't make lie here) says it: Fetch Metadata and Origin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    pub method: &'a str,
    /// The request asks for another protocol (a websocket).
    pub upgrade: bool,
    /// `Sec-Fetch-Site`.
    pub site: Option<&'a str>,
    /// `Sec-Fetch-Mode`.
    pub mode: Option<&'a str>,
    /// `Sec-Fetch-Dest`.
    pub dest: Option<&'a str>,
    pub origin: Option<&'a str>,
    /// The one origin that is ours, such as `https://dan.code.example.org`.
    pub own_origin: &'a str,
    pub accepts_html: bool,
}

impl Asked<'_> {
    /// Whether the same-site rule lets the request use a session.
    ///
    /// All workspaces are one site, so that the cookie's `SameSite` does not keep alice's page from dan's editor, and the
    /// editor does not look at the origin of plain HTTP. Links from elsewhere still work: they are navigations.
    pub fn may_use_session(&self) -> bool {
        self.is_top_navigation()
            || (self.is_ours_by_site()
                // guard: A8-origin
                && self.origin.is_none_or(|origin| self.is_ours(origin)))
    }

    /// Whether the request may change something on our own pages: it must prove that it comes from them.
    pub fn may_post(&self) -> bool {
        match self.origin {
            // guard: A10-form
            Some(origin) => self.is_ours(origin) && self.is_ours_by_site(),
            None => matches!(self.site, Some("same-origin" | "none")),
        }
    }

    /// Whether a person waits for a page, so that the sign-in page is a better answer than an error.
    pub fn wants_page(&self) -> bool {
        !self.upgrade
            && match self.mode {
                Some(mode) => mode == "navigate",
                None => self.site.is_none() && self.accepts_html && self.is_read(),
            }
    }

    pub fn is_read(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }

    /// A page in a frame of another site is no navigation of the person's: it could be clicked on without being seen.
    fn is_top_navigation(&self) -> bool {
        self.is_read()
            && !self.upgrade
            && self.mode == Some("navigate")
            && matches!(self.dest, None | Some("document" | "empty"))
    }

    /// Values that don't exist yet count as another site's.
    fn is_ours_by_site(&self) -> bool {
        matches!(self.site, None | Some("same-origin" | "none"))
    }

    fn is_ours(&self, origin: &str) -> bool {
        !self.own_origin.is_empty() && origin == self.own_origin
    }
}

/// The path to lead back to after signing in: a path on the same host, else `/`.
///
/// A browser takes `//x` and `/\x` for another host and drops tabs and newlines inside; our own pages are left out, so
/// that a sign-in never ends on the sign-out page.
pub fn return_path(next: &str) -> &str {
    let fits = next.len() <= RETURN_PATH_MAX
        && next.starts_with('/')
        // guard: A10-same-host
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !is_own_page(next);
    if fits { next } else { "/" }
}

fn is_own_page(path: &str) -> bool {
    path == "/_csm" || path.starts_with("/_csm/") || path.starts_with("/_csm?")
}

/// Who attempts to sign in, as far as limits go: an IPv4 address, or the /64 of an IPv6 address (one subscriber has at
/// least that many addresses).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(String);

impl Source {
    /// From what nginx says of its client. All users of SSH tunnels look like 127.0.0.1; [`limit`](super::limit) tells
    /// them apart by the workspace.
    pub fn of(address: Option<&str>, tunnel: bool) -> Self {
        if tunnel {
            return Self(TUNNEL.to_owned());
        }
        match address
            .and_then(|text| text.parse::<IpAddr>().ok())
            .map(|address| address.to_canonical())
        {
            Some(IpAddr::V4(v4)) => Self(v4.to_string()),
            Some(IpAddr::V6(v6)) => Self(format!("{}/64", Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)))),
            None => Self("unknown".to_owned()),
        }
    }

    pub fn is_tunnel(&self) -> bool {
        self.0 == TUNNEL
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
