//! Who may do what with a request, case by case.

use proptest::prelude::*;

use super::*;

const OWN: &str = "https://dan.code.example.org";

fn asked<'a>(method: &'a str, headers: &[&'a str]) -> Asked<'a> {
    let mut asked = Asked {
        method,
        own_origin: OWN,
        ..Asked::default()
    };
    for header in headers {
        match header.split_once('=').unwrap() {
            ("site", value) => asked.site = Some(value),
            ("mode", value) => asked.mode = Some(value),
            ("dest", value) => asked.dest = Some(value),
            ("origin", value) => asked.origin = Some(value),
            ("upgrade", _) => asked.upgrade = true,
            ("html", _) => asked.accepts_html = true,
            (other, _) => panic!("{other}"),
        }
    }
    asked
}

#[test]
fn the_same_site_rule() {
    let cases: &[(&str, &[&str], bool)] = &[
        // A program without any of these headers, with the cookie: not a page's doing.
        ("GET", &[], true),
        ("POST", &[], true),
        // The editor's own requests.
        ("GET", &["site=same-origin", "mode=cors"], true),
        (
            "POST",
            &["site=same-origin", "mode=cors", "origin=https://dan.code.example.org"],
            true,
        ),
        (
            "GET",
            &[
                "upgrade=1",
                "mode=websocket",
                "site=same-origin",
                "origin=https://dan.code.example.org",
            ],
            true,
        ),
        ("GET", &["upgrade=1", "origin=https://dan.code.example.org"], true),
        ("GET", &["site=same-origin", "mode=navigate", "dest=iframe"], true),
        // Typed address, bookmark, link from anywhere.
        ("GET", &["site=none", "mode=navigate", "dest=document"], true),
        ("GET", &["site=same-site", "mode=navigate", "dest=document"], true),
        ("GET", &["site=cross-site", "mode=navigate", "dest=document"], true),
        ("HEAD", &["site=cross-site", "mode=navigate"], true),
        // A page on alice's host, or on any other.
        (
            "POST",
            &[
                "site=same-site",
                "mode=navigate",
                "dest=document",
                "origin=https://alice.code.example.org",
            ],
            false,
        ),
        ("POST", &["site=same-site", "mode=no-cors"], false),
        ("GET", &["site=same-site", "mode=no-cors", "dest=image"], false),
        ("GET", &["site=cross-site", "mode=cors"], false),
        ("GET", &["site=same-site", "mode=navigate", "dest=iframe"], false),
        (
            "GET",
            &[
                "upgrade=1",
                "mode=websocket",
                "site=same-site",
                "origin=https://alice.code.example.org",
            ],
            false,
        ),
        ("GET", &["upgrade=1", "mode=navigate", "site=cross-site"], false),
        ("GET", &["upgrade=1", "origin=https://alice.code.example.org"], false),
        ("POST", &["origin=https://alice.code.example.org"], false),
        // Nearly ours.
        ("POST", &["origin=null"], false),
        ("POST", &["origin="], false),
        ("POST", &["origin=http://dan.code.example.org"], false),
        ("POST", &["origin=https://dan.code.example.org:8443"], false),
        ("POST", &["origin=https://dan.code.example.org.evil.example"], false),
        ("POST", &["origin=https://DAN.code.example.org"], false),
        (
            "POST",
            &["site=same-origin", "origin=https://alice.code.example.org"],
            false,
        ),
        (
            "POST",
            &["site=same-site", "origin=https://dan.code.example.org"],
            false,
        ),
        ("GET", &["site=another-galaxy", "mode=cors"], false),
        ("DELETE", &["site=cross-site", "mode=navigate"], false),
    ];
    for (method, headers, allowed) in cases {
        assert_eq!(
            asked(method, headers).may_use_session(),
            *allowed,
            "{method} {headers:?}"
        );
    }
    let unwired = Asked {
        method: "POST",
        origin: Some(""),
        ..Asked::default()
    };
    assert!(!unwired.may_use_session(), "an empty own origin must match nothing");
}

#[test]
fn posts_to_our_pages_come_from_our_pages() {
    let cases: &[(&[&str], bool)] = &[
        (&["origin=https://dan.code.example.org"], true),
        (
            &[
                "origin=https://dan.code.example.org",
                "site=same-origin",
                "mode=navigate",
            ],
            true,
        ),
        (&["site=same-origin"], true),
        (&["site=none"], true),
        (&[], false),
        (&["site=same-site"], false),
        (&["origin=null", "site=same-origin"], false),
        (&["origin=https://alice.code.example.org", "site=same-origin"], false),
        (&["origin=https://dan.code.example.org", "site=same-site"], false),
    ];
    for (headers, allowed) in cases {
        assert_eq!(asked("POST", headers).may_post(), *allowed, "{headers:?}");
    }
}

#[test]
fn who_gets_the_sign_in_page() {
    let cases: &[(&str, &[&str], bool)] = &[
        ("GET", &["mode=navigate"], true),
        ("POST", &["mode=navigate"], true),
        ("GET", &["html=1"], true),
        ("GET", &[], false),
        ("POST", &["html=1"], false),
        ("GET", &["mode=cors", "html=1"], false),
        ("GET", &["site=same-origin", "html=1"], false),
        ("GET", &["mode=navigate", "upgrade=1"], false),
        ("GET", &["upgrade=1", "html=1"], false),
    ];
    for (method, headers, page) in cases {
        assert_eq!(asked(method, headers).wants_page(), *page, "{method} {headers:?}");
    }
}

#[test]
fn return_paths() {
    let kept = [
        "/",
        "/?folder=/home/coder/project",
        "/proxy/3000/",
        "/a%20b?x=//y",
        "/.//x",
        "/_csmx",
    ];
    for next in kept {
        assert_eq!(return_path(next), next);
    }
    let refused = [
        "",
        "x",
        "//evil.example",
        "/\\evil.example",
        "/x\\y",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/x\r\nSet-Cookie: a=b",
        "/ x",
        "/é",
        "/\u{7f}",
        "/_csm",
        "/_csm/sign-out",
        "/_csm?x",
    ];
    for next in refused {
        assert_eq!(return_path(next), "/", "{next:?}");
    }
    assert_eq!(return_path(&format!("/{}", "x".repeat(RETURN_PATH_MAX))), "/");
}

#[test]
fn sources() {
    let cases = [
        (Some("192.0.2.7"), false, "192.0.2.7"),
        (Some("::ffff:192.0.2.7"), false, "192.0.2.7"),
        (Some("2001:db8:1:2:3:4:5:6"), false, "2001:db8:1:2::/64"),
        (Some("2001:db8:1:2::9"), false, "2001:db8:1:2::/64"),
        (Some("::1"), false, "::/64"),
        (Some("unix:"), false, "unknown"),
        (None, false, "unknown"),
        (Some("127.0.0.1"), true, "tunnel"),
    ];
    for (address, tunnel, text) in cases {
        let source = Source::of(address, tunnel);
        assert_eq!(source.as_str(), text);
    }
}

proptest! {
    /// What comes out is written into a `Location` header and resolved by a browser against our own origin.
    #[test]
    fn a_return_path_stays_on_the_host(next in "[/\\\\a.:@?#%\t\r\n _-]{0,12}|\\PC{0,20}") {
        let path = return_path(&next);
        prop_assert!(path.starts_with('/'));
        prop_assert!(!path[1..].starts_with(['/', '\\']));
        prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
