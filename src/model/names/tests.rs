//! What each kind of name takes, and that nothing hostile gets through any of them.

use super::*;
use proptest::prelude::*;

/// No kind of name takes these, whatever it ends up in: a path, a unit, a host name, a command line.
const HOSTILE: [&str; 22] = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "-rf",
    "--privileged",
    " ",
    "a b",
    "a\n",
    "a\0",
    "a\tb",
    "a;b",
    "$(id)",
    "`id`",
    "a\"b",
    "a'b",
    "a\\x2db",
    "%n",
    "ａ",
    "а",
    "a\u{202e}b",
];

#[test]
fn no_name_takes_what_breaks_out() {
    for text in HOSTILE {
        assert!(WorkspaceName::parse(text).is_err(), "{text:?}");
        assert!(AccountName::parse(text).is_err(), "{text:?}");
        assert!(HostName::parse(text).is_err(), "{text:?}");
        assert!(VariableName::parse(text).is_err(), "{text:?}");
        assert!(ImageId::parse(text).is_err(), "{text:?}");
        // A path is part of an image's name, so a slash inside is.
        assert!(ImageRef::parse(text).is_err() || text == "a/b", "{text:?}");
    }
}

#[test]
fn workspace_names_are_one_label_that_no_app_host_can_meet() {
    for text in ["dan", "a", "a1", "dan-2", "a-b-c", &"a".repeat(27)] {
        assert_eq!(WorkspaceName::parse(text).unwrap().as_str(), text);
    }
    for text in [
        "Dan",
        "1a",
        "a-",
        "-a",
        "a--b",
        "xn--dn-via",
        "a.b",
        "a_b",
        "a@b",
        "a:b",
        "www",
        "admin",
        "portal",
        "api",
        "auth",
        "dän",
        &"a".repeat(28),
        &"a".repeat(64),
    ] {
        assert!(WorkspaceName::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn accounts_of_root_and_of_ours_are_refused() {
    for text in ["csm-dan", "dan", "_dan", "dan_2", &"a".repeat(31)] {
        assert_eq!(AccountName::parse(text).unwrap().as_str(), text);
    }
    for text in [
        "root",
        "nobody",
        "csm-admin",
        "code-server-multi",
        "code-server-multi-images",
        "1000",
        "Dan",
        "dan$",
        "dan.x",
        "dan:x",
        &"a".repeat(32),
    ] {
        assert!(AccountName::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn host_names_are_names_and_not_addresses() {
    for text in ["localhost", "code.example.org", "xn--bcher-kva.example", "1.example"] {
        assert_eq!(HostName::parse(text).unwrap().as_str(), text);
    }
    for text in [
        "Code.example.org",
        "code.example.org.",
        ".org",
        "a..b",
        "*.example.org",
        "a_b.org",
        "192.0.2.1",
        "::1",
        "a:443",
        "-a.org",
    ] {
        assert!(HostName::parse(text).is_err(), "{text:?}");
    }
    assert!(HostName::parse(&"a".repeat(64)).is_err());
    assert!(HostName::parse(&["a"; 127].join(".")).is_ok());
    assert!(HostName::parse(&["a"; 128].join(".")).is_err());
}

#[test]
fn variables_are_posix_names() {
    for text in ["A", "_", "a_B9", &"A".repeat(128)] {
        assert!(VariableName::parse(text).is_ok(), "{text:?}");
    }
    for text in ["1A", "A-B", "A=B", "A.B", "Ä", &"A".repeat(129)] {
        assert!(VariableName::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn images_are_references_and_not_transports() {
    for text in [
        "alpine",
        "docker.io/codercom/code-server:4.99.1",
        "localhost:5000/a/b:c",
        "localhost/code-server-multi/workspace:0.1.0",
        "r.example/a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ] {
        assert_eq!(ImageRef::parse(text).unwrap().as_str(), text);
    }
    for text in [
        "docker://alpine",
        "dir:/etc",
        "oci-archive:/tmp/x",
        "/etc/passwd",
        "a//b",
        "a:",
        "a/",
        "a,b",
        "@a",
        &"a".repeat(256),
    ] {
        assert!(ImageRef::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn image_ids_are_full_digests() {
    assert!(ImageId::parse(&"0123456789abcdef".repeat(4)).is_ok());
    for text in [
        &"0123456789ABCDEF".repeat(4),
        &"a".repeat(63),
        &"a".repeat(65),
        &"g".repeat(64),
    ] {
        assert!(ImageId::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_refusal_states_the_rule_and_not_the_value() {
    assert_eq!(
        WorkspaceName::parse("CANARY").unwrap_err().to_string().find("CANARY"),
        None
    );
}

#[test]
fn a_secret_is_never_printed() {
    let secret = Secret::new(b"CANARY".to_vec());
    assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(..) Some(Secret(..))");
    assert_eq!(secret.expose(), b"CANARY");
}

proptest! {
    #[test]
    fn a_workspace_name_is_safe_wherever_it_goes(text in "\\PC{0,40}|[a-z0-9-]{0,30}") {
        let Ok(name) = WorkspaceName::parse(&text) else { return Ok(()) };
        let (account, host) = (format!("csm-{name}"), format!("{name}.example.org"));
        prop_assert!(AccountName::parse(&account).is_ok());
        prop_assert!(HostName::parse(&host).is_ok());
        prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    }

    #[test]
    fn a_name_is_taken_as_it_is_or_not_at_all(text in "\\PC{0,20}|[a-z0-9._/:-]{0,40}") {
        if let Ok(name) = HostName::parse(&text) { prop_assert_eq!(name.as_str(), &text); }
        if let Ok(name) = ImageRef::parse(&text) { prop_assert_eq!(name.as_str(), &text); }
        if let Ok(name) = AccountName::parse(&text) { prop_assert!(!name.as_str().contains(['/', '.', ':'])); }
    }
}
