//! Connections: whether nginx has so many that no single source can have them all, and ends those that say nothing. What counts
//! before a name is known is set for all of nginx, where none of our files can set it.

use crate::model::doctor::{Finding, seen};
use crate::model::plan::Fact;

/// Twice what one source may have under way at our servers (`nginx/limits.conf`): each request takes one to the visitor and one to
/// the workspace.
const CONNECTIONS: u64 = 16_384;

/// What nginx takes by itself.
const NGINX_CONNECTIONS: u64 = 512;
const NGINX_HEAD_SECONDS: u64 = 60;

/// Long enough for a TLS handshake and a head over a bad line.
const HEAD_SECONDS: u64 = 30;

/// `text`: what nginx -T prints. `unit`: properties of its unit.
pub fn examine(text: &Fact<String>, unit: &Fact<String>) -> Vec<Finding> {
    let text = match seen(text, "nginx-connections", "nginx's worker_connections") {
        Err(finding) => return vec![finding],
        Ok(text) => text,
    };
    vec![connections(text, unit), head(text)]
}

fn connections(text: &str, unit: &Fact<String>) -> Finding {
    let set = first(text, "worker_connections").and_then(|number| number.parse().ok());
    let connections: u64 = set.unwrap_or(NGINX_CONNECTIONS);
    // guard: A25-few
    if connections < CONNECTIONS {
        return Finding::warn(
            "nginx-connections-few",
            format!(
                "nginx has worker_connections {connections}: one visitor can take them all, and nobody else gets in"
            ),
            format!(
                "write worker_connections {CONNECTIONS}; into events {{}} of nginx.conf, then: systemctl reload nginx"
            ),
        );
    }
    let own = first(text, "worker_rlimit_nofile").and_then(|number| number.parse().ok());
    let files = own.or_else(|| unit.known().and_then(|unit| files(unit)));
    match files {
        Some(files) if files < connections => Finding::warn(
            "nginx-connections-few",
            format!(
                "nginx has worker_connections {connections}, and may open {files} files, which a connection is one of"
            ),
            "install nix/units/nginx.service.d, which sets LimitNOFILE=, or write worker_rlimit_nofile 65536; into nginx.conf",
        ),
        _ => Finding::ok(
            "nginx-connections",
            format!("nginx has worker_connections {connections}"),
        ),
    }
}

fn head(text: &str) -> Finding {
    let seconds = first(text, "client_header_timeout").map_or(Some(NGINX_HEAD_SECONDS), seconds);
    match seconds {
        Some(seconds) if seconds <= HEAD_SECONDS => Finding::ok(
            "nginx-head-timeout",
            format!("nginx waits {seconds} s for the head of a request"),
        ),
        seconds => Finding::warn(
            "nginx-head-timeout-long",
            format!(
                "nginx waits {} for the head of a request, so that few visitors who say nothing hold many connections",
                seconds.map_or("too long".to_owned(), |seconds| format!("{seconds} s"))
            ),
            "write client_header_timeout 20s; into http {} of nginx.conf, then: systemctl reload nginx",
        ),
    }
}

/// The soft limit on open files of a unit (`systemctl show`).
fn files(unit: &str) -> Option<u64> {
    let mut lines = unit.lines();
    lines
        .find_map(|line| line.strip_prefix("LimitNOFILESoft="))?
        .parse()
        .ok()
}

/// The value of a directive where it stands first, be it on a line of its own or not.
fn first<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut words = code
        .flat_map(|line| line.split([' ', '\t', ';', '{', '}']))
        .filter(|word| !word.is_empty());
    words.find(|word| *word == name)?;
    words.next()
}

/// nginx's way to write a time, as far as people write this one: `20`, `20s`, `1m`, `500ms`.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "" | "s" => Some(number),
        "ms" => Some(number.div_ceil(1000)),
        "m" => number.checked_mul(60),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::doctor::tests::wrong;

    fn found(text: &str, unit: &str) -> Vec<String> {
        wrong(&examine(&Fact::Known(text.into()), &Fact::Known(unit.into())))
    }

    #[test]
    fn what_nginx_has_is_read_and_what_it_lacks_is_its_default() {
        const FEW: &str = "warn nginx-connections-few";
        const LONG: &str = "warn nginx-head-timeout-long";
        let cases: &[(&str, &[&str])] = &[
            (
                "events {\n\tworker_connections 16384;\n}\nhttp {\n  client_header_timeout 20s;\n}\n",
                &[],
            ),
            (
                "events { worker_connections 20000; } http { client_header_timeout 30; }",
                &[],
            ),
            (
                "events { worker_connections 768; } http { client_header_timeout 1500ms; }",
                &[FEW],
            ),
            ("events { } http { client_header_timeout 20s; }", &[FEW]),
            ("events { worker_connections 16384; } http { }", &[LONG]),
            (
                "events { worker_connections 16384; }\n  # client_header_timeout 5s;\n",
                &[LONG],
            ),
            (
                "events { worker_connections 16384; } http { client_header_timeout 1m; }",
                &[LONG],
            ),
            (
                "events { worker_connections 16384; } http { client_header_timeout 1h; }",
                &[LONG],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(found(text, "LimitNOFILESoft=65536\n"), *expected, "{text}");
        }
        let good = cases[0].0;
        assert_eq!(found(good, "LimitNOFILESoft=1024\n"), [FEW]);
        assert_eq!(found(good, "LimitNOFILESoft=infinity\n"), [""; 0]);
        let own = format!("worker_rlimit_nofile 30000;\n{good}");
        assert_eq!(found(&own, "LimitNOFILESoft=1024\n"), [""; 0]);
        let unseen = examine(&Fact::Unknown("only root may".into()), &Fact::Known(String::new()));
        assert_eq!(wrong(&unseen), ["warn nginx-connections"]);
    }
}
