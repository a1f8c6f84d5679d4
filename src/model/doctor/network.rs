//! The network as workspaces see it: who resolves names for them.

use crate::model::doctor::{Finding, seen};
use crate::model::network::{denied, first_resolver, is_denied};
use crate::model::plan::Fact;

#[derive(Debug, Clone)]
pub struct Facts {
    /// `/etc/resolv.conf`; empty where there is none.
    pub resolv_conf: Fact<String>,
    /// Whether the first resolver that it names is at an address of this host.
    pub resolver_is_own: bool,
}

pub fn examine(facts: &Facts) -> Vec<Finding> {
    vec![resolver(facts)]
}

fn resolver(facts: &Facts) -> Finding {
    let text = match seen(&facts.resolv_conf, "resolver", "/etc/resolv.conf") {
        Err(finding) => return finding,
        Ok(text) => text,
    };
    let Some(address) = first_resolver(text) else {
        return Finding::warn(
            "resolver",
            "/etc/resolv.conf names no resolver, so workspaces resolve no names either",
            "name one there, then: csm restart each workspace",
        );
    };
    let own = facts.resolver_is_own && !address.is_loopback();
    if own || is_denied(address, &denied(&[])) {
        return Finding::warn(
            "resolver",
            format!("workspaces don't reach the resolver that /etc/resolv.conf names first, {address}"),
            "have it listen on 127.0.0.1 as well and name that first, or name another one; then: csm restart each workspace",
        );
    }
    Finding::ok("resolver", format!("workspaces ask this host's resolver, {address}"))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::doctor::tests::wrong;

    pub fn good() -> Facts {
        Facts {
            resolv_conf: Fact::Known("nameserver 127.0.0.53\noptions edns0\n".into()),
            resolver_is_own: true,
        }
    }

    #[test]
    fn a_resolver_has_to_be_where_workspaces_may_go() {
        assert_eq!(wrong(&examine(&good())), [""; 0]);
        let known = |text: &str, resolver_is_own| Facts {
            resolv_conf: Fact::Known(text.into()),
            resolver_is_own,
        };
        for (facts, expected) in [
            (known("nameserver 192.0.2.1\n", false), None),
            (known("nameserver ::1\n", true), None),
            (known("nameserver 192.0.2.1\n", true), Some("warn resolver")),
            (known("nameserver fe80::1%eth0\n", false), Some("warn resolver")),
            (known("nameserver 169.254.169.253\n", false), Some("warn resolver")),
            (known("search example.org\n", false), Some("warn resolver")),
            (
                Facts {
                    resolv_conf: Fact::Unknown("only root may".into()),
                    resolver_is_own: false,
                },
                Some("warn resolver"),
            ),
        ] {
            assert_eq!(
                wrong(&examine(&facts)),
                expected.into_iter().collect::<Vec<_>>(),
                "{facts:?}"
            );
        }
    }
}
