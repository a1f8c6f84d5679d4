//! This host's own addresses (getifaddrs(3)), and hearing of their changes (rtnetlink(7)).

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, socket};
use tokio::net::UnixDatagram;

/// RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of rtnetlink(7).
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;

/// Every address but loopback's, sorted, and what else leads here: the broadcast addresses of IPv4 networks, and of IPv6 networks
/// the address of no host in particular, which is ours where this host forwards for others (RFC 4291, 2.6.1).
pub fn own() -> nix::Result<Vec<IpAddr>> {
    let address = |storage: SockaddrStorage| {
        let four = storage.as_sockaddr_in().map(|own| IpAddr::from(own.ip()));
        four.or_else(|| storage.as_sockaddr_in6().map(|own| IpAddr::from(own.ip())))
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let own = interface.address.and_then(address);
        addresses.extend(own);
        // guard: A44-broadcast
        addresses.extend(interface.broadcast.and_then(address));
        // guard: A44-anycast
        addresses.extend(own.zip(interface.netmask.and_then(address)).and_then(anycast));
    }
    addresses.retain(|address| !address.is_loopback() && !address.is_unspecified());
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// The first address of an IPv6 network.
fn anycast((own, mask): (IpAddr, IpAddr)) -> Option<IpAddr> {
    match (own, mask) {
        (IpAddr::V6(own), IpAddr::V6(mask)) => Some(Ipv6Addr::from_bits(own.to_bits() & mask.to_bits()).into()),
        _ => None,
    }
}

/// A socket on which the kernel says that an address came or went. Held as a datagram socket of another family, since
/// that is the type that waits without unsafe code; recv(2) is the same for both.
pub struct Changes(UnixDatagram);

impl Changes {
    pub fn subscribe() -> std::io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, ADDRESS_GROUPS))?;
        Ok(Self(UnixDatagram::from_std(std::os::unix::net::UnixDatagram::from(
            fd,
        ))?))
    }

    /// Returns when there was a change. What it was is for [`own`] to tell; a queue that overflowed is one too.
    pub async fn next(&self) -> std::io::Result<()> {
        self.0.readable().await?;
        let mut buffer = [0_u8; 4096];
        while self.0.try_recv(&mut buffer).is_ok() {}
        Ok(())
    }
}
