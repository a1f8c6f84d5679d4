//! The least versions that the product works with, each with the reason.

use crate::model::doctor::{Finding, seen};
use crate::model::plan::Fact;

/// What a program must have at least, and why.
pub struct Least {
    code: &'static str,
    name: &'static str,
    version: &'static [u32],
    reason: &'static str,
    fix: &'static str,
}

pub const KERNEL: Least = Least {
    code: "kernel",
    name: "Linux",
    // Idmapped mounts themselves are of 5.12, nosymfollow of 5.10.
    version: &[5, 19],
    reason: "containers lie on idmapped layers of the shared image",
    fix: "install a newer kernel and boot it",
};
pub const SYSTEMD: Least = Least {
    code: "systemd",
    name: "systemd",
    // Type=notify-reload is of 253.
    version: &[255],
    reason: "before, a filter of system calls keeps the container's ids from being mapped",
    fix: "upgrade the distribution: Debian 13 and NixOS 24.05 have it",
};
pub const UTIL_LINUX: Least = Least {
    code: "util-linux",
    name: "util-linux",
    version: &[2, 39],
    reason: "its mount has X-mount.idmap",
    fix: "upgrade the distribution: Debian 13 and NixOS 23.11 have it",
};
pub const PODMAN: Least = Least {
    code: "podman",
    name: "Podman",
    version: &[5],
    reason: "networks of workspaces are made by pasta",
    fix: "install it (Debian: apt-get install podman), or upgrade the distribution: Debian 13 has 5.4",
};
pub const NGINX: Least = Least {
    code: "nginx",
    name: "nginx",
    version: &[1, 25, 1],
    reason: "snippets say http2 on",
    fix: "install it (Debian: apt-get install nginx-light), or upgrade the distribution: Debian 13 has 1.26",
};

impl Least {
    pub fn check(&self, fact: &Fact<Option<String>>) -> Finding {
        let text = match seen(fact, self.code, &format!("the version of {}", self.name)) {
            Ok(Some(text)) => text,
            Ok(None) => return Finding::fail(self.code, format!("{} is not installed", self.name), self.fix),
            Err(finding) => return finding,
        };
        let least = dotted(self.version);
        let Some(found) = version(text) else {
            return Finding::warn(
                self.code,
                format!("{} says no version that can be read", self.name),
                format!("make sure that it is {least} or newer"),
            );
        };
        // Component by component: 5 is at least 5, and 5.4 as well.
        if found.as_slice() >= self.version {
            return Finding::ok(self.code, format!("{} {}", self.name, dotted(&found)));
        }
        let what = format!(
            "{} {} is older than {least}: {}",
            self.name,
            dotted(&found),
            self.reason
        );
        Finding::fail(self.code, what, self.fix)
    }
}

fn dotted(version: &[u32]) -> String {
    version.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

/// The first number with dots in a text.
fn version(text: &str) -> Option<Vec<u32>> {
    let text = &text[text.find(|c: char| c.is_ascii_digit())?..];
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text[..end]
        .split('.')
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (text, found) in [
            ("6.12.43+deb13-amd64", Some(vec![6, 12, 43])),
            ("systemd 257.8 (257.8-1)", Some(vec![257, 8])),
            ("nginx version: nginx/1.9.10", Some(vec![1, 9, 10])),
            ("v2.", Some(vec![2])),
            ("none", None),
            ("99999999999", None),
        ] {
            assert_eq!(version(text), found, "{text}");
        }
        let check = |text: &str| KERNEL.check(&Fact::Known(Some(text.to_owned()))).severity.word();
        assert_eq!(
            (check("5.9"), check("5.19"), check("5.100"), check("6")),
            ("fail", "ok", "ok", "ok")
        );
    }
}
