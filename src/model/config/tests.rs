//! What a configuration may say, what is refused, and in which words.

mod secrets;
mod values;

use super::*;

/// A file with the least that is needed, and `more` after it.
fn with(more: &str) -> String {
    let (top, sections) = more
        .split_once("\n[")
        .map_or((more, String::new()), |(top, rest)| (top, format!("\n[{rest}")));
    let (top, sections) = if more.starts_with('[') {
        ("", more.to_owned())
    } else {
        (top, sections)
    };
    let nginx = "certificate = '/etc/ssl/c.pem'\ncertificate_key = '/etc/ssl/k.pem'\n";
    let sections = match sections.find("[nginx]\n") {
        Some(at) => format!("{}{nginx}{}", &sections[..at + 8], &sections[at + 8..]),
        None => format!("[nginx]\n{nginx}{sections}"),
    };
    let domain = if top.contains("domain") {
        ""
    } else {
        "domain = 'code.example.org'\n"
    };
    format!("{domain}{top}\n{sections}")
}

/// The problems of a file, one a line, as an admin sees them.
fn problems(text: &str) -> String {
    let problems = parse(text).expect_err("the file is right");
    assert!(!problems.is_empty());
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n") + "\n"
}

/// The problems of the least file with `more`, without their hints.
fn complaints(more: &str) -> Vec<String> {
    let text = with(more);
    let Err(problems) = parse(&text) else { return Vec::new() };
    let line = |problem: Problem| match problem.value {
        Some(value) => format!("{} = {value}: {}", problem.key, problem.message),
        None => format!("{}: {}", problem.key, problem.message),
    };
    problems.into_iter().map(line).collect()
}

/// A configuration, a line for each part.
fn summary(config: &Config) -> String {
    let mut lines = vec![
        format!(
            "{:?} {:?} {:?} {:?}",
            config.domain, config.workspace_base, config.start_on_boot, config.reserved_ports
        ),
        format!("{:?}", config.image),
        format!("{:?}", config.nginx),
        format!("{:?}", config.gateway),
    ];
    lines.extend(
        config
            .workspaces
            .iter()
            .map(|(name, workspace)| format!("{name}: {workspace:?}")),
    );
    lines.join("\n")
}

#[test]
fn the_least_file_gets_every_default() {
    let mut config = parse(&with("[workspaces.dan]")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        config.image.name.as_str(),
        format!("localhost/code-server-multi/workspace:{version}")
    );
    config.image.name = ImageRef::parse("the-image-of-this-release").unwrap();
    insta::assert_snapshot!(summary(&config), @r#"
    HostName("code.example.org") "/var/lib/vscode" AsItWas {51820}
    Image { name: ImageRef("the-image-of-this-release"), archive: None, pull: Never }
    Nginx { snippet_dir: "/var/lib/code-server-multi/nginx", unit: "nginx.service", group: "nginx", listen: [0.0.0.0:443, [::]:443], public_port: 443, plain_http1: true, certificate: "/etc/ssl/c.pem", certificate_key: "/etc/ssl/k.pem" }
    Gateway { session_lifetime: 86400s }
    dan: WorkspaceConfig { account: AccountName("csm-dan"), password_file: None, port: None, limits: Limits { memory_max: 3221225472, memory_high: 2684354560, memory_low: 0, cpu_quota_usec: 1500000, cpu_weight: 100, tasks_max: 4096 }, environment: {}, secret_environment: {}, apply: Pending, enabled: true }
    "#);
}

#[test]
fn every_key_is_read() {
    let config = parse(include_str!("../../../tests/data/config/full.toml")).unwrap();
    insta::assert_snapshot!(summary(&config), @r#"
    HostName("code.example.org") "/srv/workspaces" Always {51820}
    Image { name: ImageRef("registry.example.org/team/workspace:7"), archive: Some("/var/lib/images/workspace.tar"), pull: Missing }
    Nginx { snippet_dir: "/etc/nginx/code-server-multi", unit: "nginx-edge.service", group: "www-data", listen: [192.0.2.1:8443, [2001:db8::1]:8443, 198.51.100.7:443], public_port: 8443, plain_http1: false, certificate: "/etc/ssl/code.example.org/fullchain.pem", certificate_key: "/run/secrets/code.example.org.key" }
    Gateway { session_lifetime: 5400s }
    alice: WorkspaceConfig { account: AccountName("csm-alice"), password_file: None, port: None, limits: Limits { memory_max: 4294967296, memory_high: 3221225472, memory_low: 268435456, cpu_quota_usec: 2500000, cpu_weight: 200, tasks_max: 2048 }, environment: {VariableName("EDITOR"): "nano", VariableName("LANG"): "de_DE.UTF-8"}, secret_environment: {VariableName("ANTHROPIC_API_KEY"): "/run/secrets/anthropic"}, apply: Now, enabled: true }
    dan: WorkspaceConfig { account: AccountName("dan-workspace"), password_file: Some("/run/secrets/dan-password"), port: Some(9001), limits: Limits { memory_max: 2147483648, memory_high: 1610612736, memory_low: 0, cpu_quota_usec: 1250000, cpu_weight: 50, tasks_max: 512 }, environment: {VariableName("ANTHROPIC_API_KEY"): "none", VariableName("EDITOR"): "vim"}, secret_environment: {VariableName("LANG"): "/run/secrets/lang"}, apply: Pending, enabled: false }
    "#);
}

#[test]
fn an_empty_file_names_all_that_is_needed() {
    insta::assert_snapshot!(problems(""), @r#"
    domain: missing; write, above the first section: domain = "code.example.org"
    nginx.certificate: missing; write, below [nginx]: certificate = "/etc/ssl/code.example.org/fullchain.pem"
    nginx.certificate_key: missing; write, below [nginx]: certificate_key = "/etc/ssl/code.example.org/key.pem"
    "#);
}

#[test]
fn everything_wrong_is_told_at_once() {
    let text = r#"
domain = "Code.Example.org"
workspace_base = "homes"
start_on_boot = "sometimes"
colour = "blue"

[nginx]
certificate = "/etc/ssl/../c.pem"
listen = ["0.0.0.0:443", "everywhere", "0.0.0.0"]
memory_limit = "2G"

[gateway]
session_lifetime = "1s"

[defaults]
cpu_limit = 0
prot = 8000

[workspaces.dan]
memory_limit = "4X"
memory_soft_limit = "2G"
port = 80
enabled = "yes"

[workspaces.dan.environment]
"BAD NAME" = "x"
HOME = "/root"

[workspaces.-rf]
password_file = "hunter2"
"#;
    insta::assert_snapshot!(problems(text), @r#"
    colour: no such key; known here: domain, workspace_base, start_on_boot, reserved_ports, image, nginx, gateway, defaults, workspaces
    domain = "Code.Example.org": a domain is labels of lower-case letters, digits and hyphens, with dots between; write for example "code.example.org"
    workspace_base = "homes": not an absolute path; write an absolute path, for example "/var/lib/vscode"
    start_on_boot = "sometimes": none of the words known here; write "as-it-was" or "always" or "never"
    nginx.memory_limit: no such key; it belongs below [defaults] or below [workspaces.NAME]
    nginx.listen[1] = "everywhere": not an IP address with or without a port; write for example "0.0.0.0:443", "[::]:443" or "192.0.2.1"
    nginx.listen[2] = "0.0.0.0": the same address a second time; leave it out here
    nginx.certificate = "/etc/ssl/../c.pem": has . or .. in it; write an absolute path, for example "/etc/ssl/code.example.org/fullchain.pem"
    nginx.certificate_key: missing; write, below [nginx]: certificate_key = "/etc/ssl/code.example.org/key.pem"
    gateway.session_lifetime = "1s": outside 5 minutes to 30 days; write for example "24h", "90m" or "7d"
    defaults.prot: no such key; known here: memory_limit, memory_soft_limit, memory_low, cpu_limit, cpu_weight, tasks_max, environment, secret_environment, apply
    defaults.cpu_limit = 0: outside 0.1 to 1024 cores; write cores, for example 1.5
    workspaces.-rf: a workspace name is lower-case letters and digits with single hyphens between, starting with a letter; rename it, for example [workspaces.dan]
    workspaces.-rf.password_file: not an absolute path; write an absolute path, for example "/run/secrets/dan-password"
    workspaces.dan.port = 80: outside 1024 to 65535; write for example 8443
    workspaces.dan.memory_limit = "4X": not a size; write a size such as "3G"
    workspaces.dan.environment."BAD NAME": a variable name is letters, digits and _, not starting with a digit; write for example EDITOR = "nano"
    workspaces.dan.environment.HOME: set by the container's layout; leave it out; the home is /home/coder, the user coder
    workspaces.dan.enabled = "yes": must be true or false, not text; write true or false, without quotes
    "#);
}

#[test]
fn a_domain_leaves_room_for_every_name() {
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(61)].join(".");
    assert_eq!(long.len(), 189);
    assert_eq!(complaints(&format!("domain = '{long}'")), Vec::<String>::new());
    let longer = complaints(&format!("domain = '{long}d'"));
    assert!(longer[0].ends_with("would not fit into a host name"), "{longer:?}");
}

#[test]
fn hostile_workspace_names_are_refused() {
    let long = "a".repeat(64);
    for name in [
        "..",
        ".",
        "-rf",
        "a.b",
        "a--b",
        "a-",
        "A",
        "dän",
        "а",
        "xn--dn-via",
        "root;",
        "a b",
        "a\\nb",
        "a/b",
        "a%",
        "a@b",
        "\\\\x2d",
        "www",
        "admin",
        "portal",
        "api",
        "auth",
        "",
        "1a",
        &long,
    ] {
        let found = complaints(&format!("[workspaces.\"{name}\"]"));
        assert_eq!(found.len(), 1, "{name:?}: {found:?}");
        assert!(!found[0].contains('\n'), "{found:?}");
    }
}

#[test]
fn defaults_and_workspaces_are_weighed_together() {
    // The soft limit of the defaults belongs to the hard limit there.
    let config = parse(&with(
        "[defaults]\nmemory_soft_limit = '2G'\n[workspaces.a]\n[workspaces.b]\nmemory_limit = '12G'",
    ))
    .unwrap();
    let high: Vec<u64> = config
        .workspaces
        .values()
        .map(|workspace| workspace.limits.memory_high)
        .collect();
    assert_eq!(high, [2 << 30, 10 << 30]);
    for (more, complaint) in [
        (
            "[defaults]\nmemory_limit = '1G'\n[workspaces.a]\nmemory_soft_limit = '2G'",
            "workspaces.a.memory_soft_limit = '2G': above the hard limit, 1G",
        ),
        (
            "[defaults]\nmemory_low = '2G'\n[workspaces.a]\nmemory_limit = '1G'",
            "workspaces.a.memory_limit = '1G': below the memory_low of [defaults], 2G",
        ),
        // Told once, not again in each workspace that has the default.
        (
            "[defaults]\nmemory_soft_limit = '4G'\n[workspaces.a]\n[workspaces.b]",
            "defaults.memory_soft_limit = '4G': above the hard limit, 3G",
        ),
        (
            "[defaults]\nmemory_limit = 'x'\n[workspaces.a]\nmemory_soft_limit = '9G'",
            "defaults.memory_limit = 'x': not a size",
        ),
    ] {
        assert_eq!(complaints(more), [complaint], "{more}");
    }
}

#[test]
fn the_soft_limit_is_five_sixths_in_whole_pages() {
    for (hard, soft) in [("3G", 2_684_354_560_u64), ("256M", 223_694_848), ("1G", 894_783_488)] {
        let config = parse(&with(&format!("[workspaces.dan]\nmemory_limit = '{hard}'"))).unwrap();
        let limits = &config.workspaces.values().next().unwrap().limits;
        assert_eq!(limits.memory_high, soft);
        assert_eq!(limits.memory_high % 4096, 0);
        assert!(limits.memory_max * 5 / 6 - limits.memory_high < 4096);
    }
}

#[test]
fn syntax_errors_name_line_and_column() {
    let places: Vec<String> = [
        "domain = 'a",
        "domain = 'a'\ndomain = 'b'\n",
        "\n\n[nginx\n",
        "domain = 'ä' x",
        "a = \"\u{0}\"",
        "\u{feff}domain = 'a'",
    ]
    .map(problems)
    .into();
    insta::assert_snapshot!(places.concat(), @r#"
    line 1, column 12: invalid literal string, expected `'`; check quotes, brackets and repeated keys around this place; https://toml.io/ has the format
    line 2, column 1: duplicate key; check quotes, brackets and repeated keys around this place; https://toml.io/ has the format
    line 3, column 7: unclosed table, expected `]`; check quotes, brackets and repeated keys around this place; https://toml.io/ has the format
    line 1, column 14: unexpected key or value, expected newline, `#`; check quotes, brackets and repeated keys around this place; https://toml.io/ has the format
    line 1, column 6: invalid basic string, expected non-double-quote visible characters, `\`; check quotes, brackets and repeated keys around this place; https://toml.io/ has the format
    line 1, column 1: the file begins with a byte order mark; save the file as UTF-8 without one
    "#);
}

#[test]
fn what_is_no_text_or_too_much_of_it_is_refused() {
    let refused = |bytes: &[u8]| parse_bytes(bytes).unwrap_err()[0].to_string();
    assert_eq!(
        refused(b"a = 1\nb = '\xff'"),
        "line 2, column 6: not UTF-8; save the file as UTF-8"
    );
    let huge = "#".repeat(SIZE_MAX + 1);
    assert!(refused(huge.as_bytes()).starts_with("line 1, column 1: the file has 1048577 bytes, more than 1048576;"));
    assert_eq!(parse(&huge), parse_bytes(huge.as_bytes()));
}

#[test]
fn deep_nesting_and_floods_of_problems_end_well() {
    for deep in [
        "a = ".to_owned() + &"[".repeat(500_000),
        "a.".repeat(500_000) + "a = 1",
        "a = ".to_owned() + &"{a=".repeat(300_000),
    ] {
        assert_eq!(parse(&deep).unwrap_err().len(), 1);
    }
    let flood: Vec<String> = (0..5000).map(|n| format!("k{n} = 1")).collect();
    let problems = parse(&flood.join("\n")).unwrap_err();
    assert_eq!(problems.len(), 501);
    assert_eq!(problems[500].message, "4503 more problems");
    let long = parse(&format!("{} = 1", "k".repeat(100_000))).unwrap_err();
    assert!(long[0].to_string().len() < 300);
}

#[test]
fn a_thousand_workspaces_are_read() {
    let many: Vec<String> = (0..1000)
        .map(|n| format!("[workspaces.user{n}]\nmemory_limit = '2G'"))
        .collect();
    assert_eq!(parse(&with(&many.join("\n"))).unwrap().workspaces.len(), 1000);
}

#[test]
fn unknown_keys_come_with_a_suggestion() {
    for (more, hint) in [
        ("domian = 'x'", "did you mean domain?"),
        ("users = 1", "did you mean workspaces?"),
        ("[workspaces.dan]\npassword = 'x'", "did you mean password_file?"),
        ("[workspaces.dan]\nmem_limit = 1", "did you mean memory_limit?"),
        ("[workspaces.dan]\nmemory = 1", "did you mean memory_limit?"),
        ("[defaults]\nport = 9000", "it belongs below [workspaces.NAME]"),
        ("[nginx]\nstart_on_boot = 'never'", "it belongs above the first section"),
        (
            "memory_limit = 1",
            "it belongs below [defaults] or below [workspaces.NAME]",
        ),
        ("[image]\nzzz = 1", "known here: name, archive, pull"),
    ] {
        let problems = parse(&with(more)).unwrap_err();
        assert_eq!((problems.len(), problems[0].hint.as_str()), (1, hint), "{more}");
    }
}

#[test]
fn terminals_are_safe_from_what_is_shown() {
    let found = problems(&with("start_on_boot = '\u{202e}evil'\n\"\\u001b[2J\" = 1"));
    assert!(!found.contains('\u{1b}') && !found.contains('\u{202e}'), "{found:?}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|\n|\\[|\\]|=|\"|'|\\.|workspaces|nginx|defaults|listen|port){0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_makes_it_panic(key in proptest::sample::select(keys::SECTIONS[5].1), value in "'[^'\r\n]{0,20}'|-?[0-9]{1,25}|-?[0-9]{1,4}\\.[0-9]{1,9}|\\[\\]|\\{\\}|nan|inf|true|1979-05-27") {
        if let Ok(config) = parse(&with(&format!("[workspaces.dan]\n{key} = {value}"))) {
            let limits = &config.workspaces.values().next().unwrap().limits;
            proptest::prop_assert!(limits.memory_high <= limits.memory_max && limits.memory_low <= limits.memory_max);
            proptest::prop_assert!(limits.cpu_quota_usec >= 100_000);
        }
    }
}
