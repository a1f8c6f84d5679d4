//! The rendered texts, and what no value can do to them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::generation::{BASE_FILE, Generation, workspace_of};
use super::{names_hash_bucket_size, render};
use crate::model::config::{Apply, Config, Gateway, Image, Limits, Nginx, Pull, StartOnBoot, WorkspaceConfig};
use crate::model::names::{AccountName, HostName, ImageRef, WorkspaceName};

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
        environment: [].into(),
        secret_environment: [].into(),
        apply: Apply::Pending,
        enabled: true,
    };
    (WorkspaceName::parse(name).unwrap(), config)
}

pub(crate) fn config(names: &[(&str, Option<u16>)]) -> Config {
    Config {
        domain: HostName::parse("code.example.org").unwrap(),
        workspace_base: "/var/lib/vscode".into(),
        start_on_boot: StartOnBoot::AsItWas,
        image: Image {
            name: ImageRef::parse("image").unwrap(),
            archive: None,
            pull: Pull::Never,
        },
        nginx: Nginx {
            snippet_dir: "/var/lib/code-server-multi/nginx".into(),
            unit: "nginx.service".to_owned(),
            group: "nginx".to_owned(),
            listen: vec!["0.0.0.0:443".parse().unwrap(), "[::]:443".parse().unwrap()],
            public_port: 443,
            plain_http1: true,
            certificate: "/etc/cert/fullchain.pem".into(),
            certificate_key: "/etc/cert/key.pem".into(),
        },
        gateway: Gateway {
            session_lifetime: Duration::from_secs(24 * 3600),
        },
        reserved_ports: [].into(),
        workspaces: names.iter().map(|(name, port)| workspace(name, *port)).collect(),
    }
}

fn text(generation: &Generation, file: &str) -> String {
    generation.files().find(|(name, _)| *name == file).unwrap().1
}

/// Too long to stand between tests: `tests/data/nginx/NAME.snap`.
fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../../tests/data/nginx");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| assert_snapshot!(name, text));
}

#[test]
fn base_file() {
    let generation = render(&config(&[("dan", None)]), true).unwrap();
    snapshot("base", &text(&generation, BASE_FILE));
}

#[test]
fn file_of_a_workspace_with_a_tunnel() {
    let mut config = config(&[("dan", Some(8090))]);
    config.nginx.public_port = 8443;
    let generation = render(&config, true).unwrap();
    snapshot("workspace", &text(&generation, "dan.conf"));
}

/// They mean nothing to who looks after an nginx.
#[test]
fn no_mark_of_a_guard_is_in_a_file() {
    let mut config = config(&[("dan", Some(8090))]);
    config.nginx.public_port = 443;
    for (file, text) in render(&config, true).unwrap().files() {
        assert!(!text.contains("guard:"), "{file}");
        let comments = text.lines().filter(|line| line.trim_start().starts_with('#')).count();
        assert!(
            if file == BASE_FILE {
                comments > 10
            } else {
                comments == 1
            },
            "{file}: {comments}"
        );
    }
}

#[test]
fn strict_transport_security_only_where_the_port_is_the_one_browsers_go_to() {
    let mut config = config(&[("dan", None)]);
    let header = "add_header Strict-Transport-Security max-age=31536000 always;";
    // Once for the server, once in each location with add_header of its own.
    assert_eq!(
        text(&render(&config, true).unwrap(), "dan.conf")
            .matches(header)
            .count(),
        3
    );
    config.nginx.public_port = 8443;
    assert_eq!(
        text(&render(&config, true).unwrap(), "dan.conf")
            .matches("Strict-Transport-Security m")
            .count(),
        0
    );
}

#[test]
fn every_location_that_proxies_sets_the_whole_list_of_headers() {
    let text = text(&render(&config(&[("dan", Some(8090))]), true).unwrap(), "dan.conf");
    // Server level (questions to the gateway), pages, editor, editor after waking; for both servers.
    for header in [
        "X-Forwarded-User \"\"",
        "X-Csm-Workspace",
        "Forwarded \"\"",
        "X-Real-IP $remote_addr",
        "Host ",
    ] {
        assert_eq!(
            text.matches(&format!("proxy_set_header {header}")).count(),
            8,
            "{header}"
        );
    }
}

#[test]
fn cuts_for_the_cookies_of_each_tunnel() {
    let base = |config: &Config| text(&render(config, true).unwrap(), BASE_FILE);
    let one = base(&config(&[("dan", None)]));
    assert!(one.contains("map $csm_cut4 $csm_cookie {") && !one.contains("csm_tunnel"));
    let two = base(&config(&[("alice", Some(8091)), ("dan", Some(8090)), ("eve", None)]));
    assert!(two.contains("map $csm_tun1 $csm_tun2 {"));
    assert!(two.contains("map $csm_tun6 $csm_tunnel_cookie {"));
}

#[test]
fn redirects_once_for_each_address_and_not_where_port_80_is_taken() {
    let mut config = config(&[]);
    config.nginx.listen = [
        "192.0.2.1:443",
        "192.0.2.1:8443",
        "[2001:db8::1]:443",
        "198.51.100.1:80",
    ]
    .map(|address| address.parse::<SocketAddr>().unwrap())
    .to_vec();
    let base = text(&render(&config, true).unwrap(), BASE_FILE);
    let listens: Vec<&str> = base
        .lines()
        .filter(|line| line.contains("listen ") && line.contains(":80;"))
        .collect();
    assert_eq!(listens, ["    listen 192.0.2.1:80;", "    listen [2001:db8::1]:80;"]);
}

#[test]
fn digest_is_of_the_texts_and_is_told_by_the_probe() {
    let one = render(&config(&[("dan", None)]), true).unwrap();
    assert_eq!(one, render(&config(&[("dan", None)]), true).unwrap());
    assert_eq!(one.digest().len(), 16);
    assert!(text(&one, BASE_FILE).contains(&format!("return 200 \"{}\\n\";", one.digest())));
    for other in [
        render(&config(&[("dan", None)]), false).unwrap(),
        render(&config(&[("dan", Some(8090))]), true).unwrap(),
        render(&config(&[("dan", None), ("eve", None)]), true).unwrap(),
    ] {
        assert_ne!(one.digest(), other.digest());
    }
    assert!(!render(&config(&[]), false).unwrap().has_probe());
}

#[test]
fn what_was_written_is_known_again_and_a_changed_text_is_not() {
    let one = render(&config(&[("dan", None)]), true).unwrap();
    let mut files: std::collections::BTreeMap<_, _> = one.files().map(|(name, text)| (name.to_owned(), text)).collect();
    assert_eq!(Generation::from_written(one.digest(), files.clone()), Some(one.clone()));
    files.get_mut("dan.conf").unwrap().push('#');
    assert_eq!(Generation::from_written(one.digest(), files), None);
}

#[test]
fn parts_of_two_generations_together() {
    let old = render(&config(&[("dan", None), ("eve", None), ("gone", None)]), true).unwrap();
    let new = render(&config(&[("dan", Some(8090)), ("eve", None), ("fay", None)]), true).unwrap();
    assert_eq!(new.changed_since(&old), [BASE_FILE, "dan.conf", "fay.conf"]);
    let mixed = new.on_top_of(&old, &["fay.conf".to_owned()]);
    let names: Vec<&str> = mixed.files().map(|(name, _)| name).collect();
    assert_eq!(names, [BASE_FILE, "dan.conf", "eve.conf", "fay.conf"]);
    assert_eq!(mixed.changed_since(&old), ["fay.conf"]);
    assert_eq!(new.on_top_of(&old, &new.changed_since(&old)), new);
}

#[test]
fn ports_that_files_need() {
    let generation = render(&config(&[("dan", Some(8090)), ("eve", None)]), true).unwrap();
    let ports = [BASE_FILE, "dan.conf", "eve.conf", "fay.conf"].map(|file| generation.tunnel_port(file));
    assert_eq!(ports, [None, Some(8090), None, None]);
}

#[test]
fn file_names_lead_back_to_workspaces() {
    assert_eq!(workspace_of("dan.conf"), Some(WorkspaceName::parse("dan").unwrap()));
    assert_eq!(workspace_of(BASE_FILE), None);
}

#[test]
fn long_names_need_larger_hash_buckets() {
    let mut config = config(&[("dan", None)]);
    assert_eq!(names_hash_bucket_size(&config), 64);
    // 46 characters are the most that fit 64 bytes.
    config.domain = HostName::parse(&format!("{}.org", "a".repeat(38))).unwrap();
    assert_eq!(names_hash_bucket_size(&config), 64);
    config.domain = HostName::parse(&format!("{}.org", "a".repeat(39))).unwrap();
    assert_eq!(names_hash_bucket_size(&config), 128);
}

#[test]
fn refuses_paths_that_nginx_would_expand() {
    for path in ["/a/$host.pem", "/a/b\nc", "/a/\u{7f}"] {
        let mut config = config(&[]);
        config.nginx.certificate_key = path.into();
        let error = render(&config, true).unwrap_err();
        assert_eq!(error.key, "certificate_key");
        assert_eq!(error.remediation().0, "nginx-path");
    }
}

/// nginx's own reading of a configuration (`ngx_conf_read_token`): words, with `;`, `{` and `}` as words of their own.
fn tokens(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            ';' | '{' | '}' => out.push(c.to_string()),
            '"' | '\'' => {
                let mut word = String::new();
                loop {
                    match chars.next().expect("a string ends") {
                        '\\' => word.push(chars.next().expect("an escape ends")),
                        end if end == c => break,
                        other => word.push(other),
                    }
                }
                out.push(word);
            }
            first => {
                let mut word = first.to_string();
                while let Some(c) = chars.next_if(|c| !" \t\r\n;{".contains(*c)) {
                    word.push(c);
                }
                out.push(word);
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn no_path_breaks_out_of_its_string(name in r#"[a-zA-Z0-9 "'\\;{}#@*?\[\]é~-]{0,40}"#) {
        let mut hostile = config(&[("dan", Some(8090))]);
        let plain = render(&hostile, true).unwrap();
        let path = format!("/x/{name}");
        hostile.nginx.certificate = PathBuf::from(&path);
        let hostile = render(&hostile, true).unwrap();
        for file in [BASE_FILE, "dan.conf"] {
            let digests = [plain.digest(), hostile.digest()];
            let same = |(a, b): (&String, &String)| {
                a == b || (a == "/etc/cert/fullchain.pem" && *b == path) || digests.iter().any(|digest| a.contains(digest))
            };
            let (plain, hostile) = (tokens(&text(&plain, file)), tokens(&text(&hostile, file)));
            prop_assert_eq!(plain.len(), hostile.len());
            prop_assert!(plain.iter().zip(&hostile).all(same));
        }
    }

    #[test]
    fn no_key_is_left_and_braces_match(
        names in proptest::collection::btree_map("[a-d][a-z0-9]{0,8}(-[a-z0-9]{1,6}){0,2}", proptest::option::of(1024u16..), 0..5),
        probe: bool,
        public_port in 1u16..,
    ) {
        let names: Vec<(&str, Option<u16>)> = names.iter().map(|(name, port)| (name.as_str(), *port)).collect();
        prop_assume!(names.iter().all(|(name, _)| WorkspaceName::parse(name).is_ok()));
        let mut config = config(&names);
        config.nginx.public_port = public_port;
        let generation = render(&config, probe).unwrap();
        prop_assert_eq!(generation.files().count(), names.len() + 1);
        for (file, text) in generation.files() {
            let key = text.split('@').find(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
            prop_assert_eq!(key, None, "{}", file);
            let tokens = tokens(&text);
            let count = |token: &str| tokens.iter().filter(|word| *word == token).count();
            prop_assert_eq!(count("{"), count("}"));
        }
    }
}
