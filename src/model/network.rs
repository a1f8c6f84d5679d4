//! NETWORK: which addresses a workspace is kept from, and where it asks for names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a workspace asks for names. pasta hands what is sent there to the resolver that the host itself asks first, its
/// loopback's too (pasta(1), --dns-forward). Nobody is ever at these addresses, so nothing else is reached by them: one stands
/// for no host at all (RFC 7600), the other's network swallows all (RFC 6666). Both, since pasta doesn't hand a question from
/// one family on to a resolver in the other.
// guard: A41-forwarder
pub const FORWARDERS: [&str; 2] = ["192.0.0.8", "100::8"];

/// The resolver that the host asks first, and by way of pasta its workspaces (resolv.conf(5)).
pub fn first_resolver(resolv_conf: &str) -> Option<IpAddr> {
    resolv_conf.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        // fe80::1%eth0
        address.split('%').next()?.parse().ok()
    })
}

/// Whether one of these networks holds the address.
pub fn is_denied(address: IpAddr, denied: &[(IpAddr, u32)]) -> bool {
    denied.iter().any(|network| covers(*network, address))
}

/// What reaches this host without being its address: groups, to which services of its own may belong, and everybody on a wire.
const EVERYBODYS: &[(IpAddr, u32)] = &[
    // guard: A44-groups
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    // guard: A44-groups-of-six
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

/// Where clouds answer whoever asks from this machine with its credentials, beside what is link-local: Alibaba, Oracle's older one, Azure
/// (which resolves names there too: docs/operations.md); Amazon, Google, Akamai and Scaleway.
const CLOUDS: &[IpAddr] = &[
    // guard: A44-clouds
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // guard: A2-not-link-local
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

/// Every network that a workspace is kept from: link-local ranges and others where clouds answer with credentials, what is sent to
/// everybody, and this host's `own` addresses, its networks' broadcast and anycast addresses among them. Loopback is not in it: pasta
/// forwards nothing to it but questions for names, and the host's resolver may listen there.
pub fn denied(own: &[IpAddr]) -> Vec<(IpAddr, u32)> {
    let alone = |address: &IpAddr| (*address, if address.is_ipv4() { 32 } else { 128 });
    let mut networks: Vec<(IpAddr, u32)> = vec![
        // guard: A2-link-local
        (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
        (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    ];
    networks.extend(EVERYBODYS);
    networks.extend(CLOUDS.iter().map(alone));
    // guard: A1-own-addresses
    networks.extend(own.iter().map(alone));
    // systemd keeps no network that lies within another, so neither does what it is compared with.
    let within =
        |inner: &(IpAddr, u32), outer: &(IpAddr, u32)| inner != outer && inner.1 >= outer.1 && covers(*outer, inner.0);
    let all = networks.clone();
    networks.retain(|network| !all.iter().any(|other| within(network, other)));
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// Whether a network holds an address.
fn covers((network, prefix): (IpAddr, u32), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let shift = 32 - prefix.min(32);
            shift == 32 || network.to_bits() >> shift == address.to_bits() >> shift
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let shift = 128 - prefix.min(128);
            shift == 128 || network.to_bits() >> shift == address.to_bits() >> shift
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_resolver_is_found_as_the_host_finds_it() {
        for (text, expected) in [
            (
                "nameserver 127.0.0.53\nnameserver 192.0.2.1\noptions edns0\n",
                Some("127.0.0.53"),
            ),
            (
                "# nameserver 192.0.2.1\nsearch example.org\nnameserver\t192.0.2.2\n",
                Some("192.0.2.2"),
            ),
            ("nameserver fe80::1%eth0\n", Some("fe80::1")),
            ("nameserver nonsense\nnameserver ::1\n", Some("::1")),
            ("nameservers 192.0.2.1\n", None),
            ("", None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(first_resolver(text), expected, "{text:?}");
        }
    }

    /// Else no question would ever arrive there.
    #[test]
    fn where_workspaces_ask_is_not_denied() {
        let denied = denied(&["192.0.2.7".parse().unwrap()]);
        for forwarder in FORWARDERS {
            assert!(!is_denied(forwarder.parse().unwrap(), &denied), "{forwarder}");
        }
        assert!(is_denied("169.254.1.1".parse().unwrap(), &denied));
        assert!(is_denied("192.0.2.7".parse().unwrap(), &denied));
    }
}
