//! Values of unit properties as D-Bus has them.

use zbus::{OwnedVariant, Variant};

use super::SystemdError;
use crate::model::systemd::{Exec, Value};

/// Names and values as StartTransientUnit and SetUnitProperties take them.
pub(super) fn properties(
    unit: &str,
    list: &[(&'static str, Value)],
) -> Result<Vec<(String, OwnedVariant)>, SystemdError> {
    list.iter()
        .map(|(name, value)| Ok(((*name).to_owned(), owned(unit, name, variant(value))?)))
        .collect()
}

fn variant(value: &Value) -> Variant<'static> {
    match value {
        Value::Text(text) => Variant::from(text.clone()),
        Value::Texts(texts) => Variant::from(texts.clone()),
        Value::Bool(flag) => Variant::from(*flag),
        Value::U64(number) => Variant::from(*number),
        Value::U32(number) => Variant::from(*number),
        Value::I32(number) => Variant::from(*number),
        Value::Execs(execs) => {
            let rows = execs
                .iter()
                .map(|Exec { path, argv }| (path.clone(), argv.clone(), false));
            Variant::from(rows.collect::<Vec<_>>())
        }
        Value::Allowed(words) => choice(true, words),
        Value::Refused(words) => choice(false, words),
        Value::Binds(binds) => {
            let rows = binds.iter().map(|(from, to)| (from.clone(), to.clone(), false, 0_u64));
            Variant::from(rows.collect::<Vec<_>>())
        }
        Value::UdpPorts(ports) => {
            let rows = ports.iter().map(|port| (ANY_FAMILY, IPPROTO_UDP, 1_u16, *port));
            Variant::from(rows.collect::<Vec<_>>())
        }
        Value::Networks(networks) => {
            let rows = networks.iter().map(|(address, prefix)| match address {
                std::net::IpAddr::V4(four) => (libc_family(false), four.octets().to_vec(), *prefix),
                std::net::IpAddr::V6(six) => (libc_family(true), six.octets().to_vec(), *prefix),
            });
            Variant::from(rows.collect::<Vec<_>>())
        }
    }
}

/// SocketBindDeny= over D-Bus (systemd.resource-control(5)): family, protocol, how many ports from which on.
const ANY_FAMILY: i32 = 0;
const IPPROTO_UDP: i32 = 17;

fn choice(allowed: bool, words: &[&'static str]) -> Variant<'static> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Variant::from((allowed, words))
}

/// AF_INET and AF_INET6 as systemd counts them.
fn libc_family(six: bool) -> i32 {
    i32::from(
        if six {
            rustix::net::AddressFamily::INET6
        } else {
            rustix::net::AddressFamily::INET
        }
        .as_raw(),
    )
}

pub(super) fn owned(unit: &str, property: &'static str, value: Variant<'static>) -> Result<OwnedVariant, SystemdError> {
    OwnedVariant::try_from(value).map_err(|_| SystemdError::Property {
        unit: unit.to_owned(),
        property,
    })
}
