//! The grammar of each kind of value: from one TOML value to a checked one, or what is wrong with it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use crate::model::config::document::{Wrong, kind};
use crate::model::config::{Apply, Pull, StartOnBoot};
use crate::model::names::{AccountName, HostName, ImageRef};
use crate::model::size::{self, SizeError};

/// Below this code-server does not get through its start.
pub(super) const MEMORY_LIMIT_MIN: u64 = 256 << 20;
/// Below this the editor is slowed down before anybody opens a file.
pub(super) const MEMORY_SOFT_LIMIT_MIN: u64 = 128 << 20;
const MEMORY_MAX: u64 = 64 << 40;
/// A tenth of a core: with less the editor misses its own time limits.
pub(super) const CPU_MIN_USEC: u64 = size::CORE_USEC / 10;
pub(super) const CPU_MAX_USEC: u64 = 1024 * size::CORE_USEC;
/// code-server with one terminal has about 60 threads.
pub(super) const TASKS_MIN: u64 = 128;
/// Linux's own upper bound of process ids (`proc_sys_kernel(5)`).
pub(super) const TASKS_MAX: u64 = 4_194_304;
pub(super) const CPU_WEIGHT_MAX: u64 = 10_000;
/// A port that an unprivileged server may have.
pub(super) const HIGH_PORT_MIN: u16 = 1024;
const SESSION_MIN: Duration = Duration::from_secs(5 * 60);
const SESSION_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A domain leaves room for the longest label in front of it: 253 - 63 - 1.
pub(super) const DOMAIN_MAX: usize = 189;
pub(super) const PATH_MAX: usize = 1024;
pub(super) const ENVIRONMENT_VALUE_MAX: usize = 32 * 1024;

pub(super) const START_ON_BOOT: [(&str, StartOnBoot); 3] = [
    ("as-it-was", StartOnBoot::AsItWas),
    ("always", StartOnBoot::Always),
    ("never", StartOnBoot::Never),
];
pub(super) const PULL: [(&str, Pull); 2] = [("never", Pull::Never), ("missing", Pull::Missing)];
pub(super) const APPLY: [(&str, Apply); 2] = [("pending", Apply::Pending), ("now", Apply::Now)];

fn text<'v>(value: &'v DeValue<'_>, example: &str) -> Result<&'v str, Wrong> {
    let hint = || format!("write for example \"{example}\"");
    let DeValue::String(text) = value else {
        return Err(Wrong::new(format!("must be text, not {}", kind(value)), hint()));
    };
    if text.chars().any(char::is_control) {
        return Err(Wrong::new("has control characters", hint()));
    }
    Ok(text)
}

fn whole(value: &DeValue<'_>, example: &str) -> Result<u64, Wrong> {
    let DeValue::Integer(number) = value else {
        let hint = format!("write for example {example}, without quotes");
        return Err(Wrong::new(format!("must be a whole number, not {}", kind(value)), hint));
    };
    if number.as_str().starts_with('-') {
        return Err(Wrong::new("below zero", format!("write for example {example}")));
    }
    // What doesn't fit into 64 bits is out of every range here.
    Ok(u64::from_str_radix(number.as_str(), number.radix()).unwrap_or(u64::MAX))
}

fn within(number: u64, least: u64, most: u64, example: &str) -> Result<u64, Wrong> {
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(Wrong::new(
        format!("outside {least} to {most}"),
        format!("write for example {example}"),
    ))
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| {
        Wrong::new(
            format!("must be true or false, not {}", kind(value)),
            "write true or false, without quotes",
        )
    })
}

fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, Wrong> {
    let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let hint = format!("write {}", words.join(" or "));
    value
        .as_str()
        .and_then(|text| choices.iter().find(|(word, _)| *word == text))
        .map(|(_, choice)| *choice)
        .ok_or_else(|| Wrong::new("none of the words known here", hint))
}

pub(super) fn start_on_boot(value: &DeValue<'_>) -> Result<StartOnBoot, Wrong> {
    choice(value, &START_ON_BOOT)
}

pub(super) fn udp_port(value: &DeValue<'_>) -> Result<u16, Wrong> {
    let port = whole(value, "51820")?;
    u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Wrong::new("no port", "write a number from 1 to 65535"))
}

pub(super) fn pull(value: &DeValue<'_>) -> Result<Pull, Wrong> {
    choice(value, &PULL)
}

pub(super) fn apply(value: &DeValue<'_>) -> Result<Apply, Wrong> {
    choice(value, &APPLY)
}

fn bytes(value: &DeValue<'_>, least: u64, example: &str) -> Result<u64, Wrong> {
    let hint = |why: &str| format!("write a size such as \"{example}\"{why}");
    let bytes = match value {
        DeValue::Integer(_) => whole(value, &format!("\"{example}\""))?,
        DeValue::String(text) => size::parse_bytes(text).map_err(|error| {
            let why = if error == SizeError::AmbiguousUnit {
                ", which is 1024-based as with systemd"
            } else {
                ""
            };
            Wrong::new(error.to_string(), hint(why))
        })?,
        _ => return Err(Wrong::new(format!("must be a size, not {}", kind(value)), hint(""))),
    };
    if bytes < least {
        let limit = size::format_bytes(least);
        return Err(Wrong::new(
            format!("below the least that works, {limit}"),
            hint("; a number without unit is bytes"),
        ));
    }
    if bytes > MEMORY_MAX {
        return Err(Wrong::new(SizeError::TooLarge.to_string(), hint("")));
    }
    Ok(bytes)
}

pub(super) fn memory_limit(value: &DeValue<'_>) -> Result<u64, Wrong> {
    bytes(value, MEMORY_LIMIT_MIN, "3G")
}

pub(super) fn memory_soft_limit(value: &DeValue<'_>) -> Result<u64, Wrong> {
    bytes(value, MEMORY_SOFT_LIMIT_MIN, "2560M")
}

pub(super) fn memory_low(value: &DeValue<'_>) -> Result<u64, Wrong> {
    bytes(value, 0, "512M")
}

/// Cores as a number or as text, to microseconds of processor time a second.
pub(super) fn cores(value: &DeValue<'_>) -> Result<u64, Wrong> {
    let hint = "write cores, for example 1.5";
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(_) => whole(value, "1.5")?.to_string(),
        // The shortest decimal text of the float is what was meant: 1.5e0 is 1.5, and nan stays no number.
        DeValue::Float(float) => float
            .as_str()
            .parse::<f64>()
            .map_or_else(|_| String::new(), |cores| cores.to_string()),
        _ => {
            return Err(Wrong::new(
                format!("must be a number of cores, not {}", kind(value)),
                hint,
            ));
        }
    };
    let usec = size::parse_cores(&text).map_err(|error| Wrong::new(error.to_string(), hint))?;
    if !(CPU_MIN_USEC..=CPU_MAX_USEC).contains(&usec) {
        return Err(Wrong::new("outside 0.1 to 1024 cores", hint));
    }
    Ok(usec)
}

pub(super) fn cpu_weight(value: &DeValue<'_>) -> Result<u64, Wrong> {
    within(
        whole(value, "100")?,
        1,
        CPU_WEIGHT_MAX,
        "100, which is everybody's share",
    )
}

pub(super) fn tasks_max(value: &DeValue<'_>) -> Result<u64, Wrong> {
    within(whole(value, "4096")?, TASKS_MIN, TASKS_MAX, "4096")
}

pub(super) fn high_port(value: &DeValue<'_>) -> Result<u16, Wrong> {
    port(value, HIGH_PORT_MIN, "8443")
}

pub(super) fn public_port(value: &DeValue<'_>) -> Result<u16, Wrong> {
    let port = port(value, 1, "443")?;
    if port == 80 {
        Err(Wrong::new("port 80 only redirects to HTTPS", "write for example 443"))
    } else {
        Ok(port)
    }
}

fn port(value: &DeValue<'_>, least: u16, example: &str) -> Result<u16, Wrong> {
    let number = within(whole(value, example)?, least.into(), u16::MAX.into(), example)?;
    u16::try_from(number).map_err(|_| Wrong::new("not a port", format!("write for example {example}")))
}

pub(super) fn domain(value: &DeValue<'_>) -> Result<HostName, Wrong> {
    let example = "code.example.org";
    let domain = HostName::parse(text(value, example)?)
        .map_err(|error| Wrong::new(error.rule, format!("write for example \"{example}\"")))?;
    if domain.as_str().len() > DOMAIN_MAX {
        let message =
            format!("longer than {DOMAIN_MAX} characters, so that NAME.DOMAIN would not fit into a host name");
        return Err(Wrong::new(message, "take a shorter domain"));
    }
    Ok(domain)
}

pub(super) fn account(value: &DeValue<'_>) -> Result<AccountName, Wrong> {
    AccountName::parse(text(value, "csm-dan")?).map_err(|error| {
        Wrong::new(
            error.rule,
            "write for example \"csm-dan\", or leave it out for csm-NAME",
        )
    })
}

pub(super) fn image(value: &DeValue<'_>) -> Result<ImageRef, Wrong> {
    let example = "localhost/code-server-multi/workspace:1";
    ImageRef::parse(text(value, example)?)
        .map_err(|error| Wrong::new(error.rule, format!("write for example \"{example}\"")))
}

/// An absolute path without surprises for the texts it gets into (nginx, Podman, unit properties).
pub(super) fn path(value: &DeValue<'_>, example: &str) -> Result<PathBuf, Wrong> {
    let text = text(value, example)?;
    let wrong = |message: &str| Wrong::new(message, format!("write an absolute path, for example \"{example}\""));
    if !text.starts_with('/') {
        return Err(wrong("not an absolute path"));
    }
    if text.split('/').any(|part| part == ".." || part == ".") {
        return Err(wrong("has . or .. in it"));
    }
    if text.len() > PATH_MAX {
        return Err(wrong("too long for a path"));
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/._-+=@~".contains(&b))
    {
        return Err(wrong("a path here is ASCII letters, digits and . _ - + = @ ~"));
    }
    // Drops doubled and trailing slashes.
    Ok(Path::new(text).components().collect())
}

/// A systemd service that is not one of ours (systemd.unit(5)).
pub(super) fn unit(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = text(value, "nginx.service")?;
    let hint = "write for example \"nginx.service\"";
    let name = text
        .strip_suffix(".service")
        .ok_or_else(|| Wrong::new("not the name of a service unit", hint))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":_.@-".contains(&b);
    if name.is_empty()
        || text.len() > 255
        || !name.bytes().all(plain)
        || name.starts_with(['-', '.', '@'])
        || name.ends_with('@')
    {
        return Err(Wrong::new("not the name of a service unit", hint));
    }
    if name.starts_with("csm-") || name.starts_with("code-server-multi") {
        return Err(Wrong::new("a unit of this service itself", hint));
    }
    Ok(text.to_owned())
}

/// A Linux group (groupadd(8)).
pub(super) fn group(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = text(value, "nginx")?;
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !starts
        || text.len() > 31
        || !text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    {
        return Err(Wrong::new(
            "a group is lower-case letters, digits, _ and -, starting with a letter or _, at most 31 characters",
            "write nginx's group, for example \"www-data\"",
        ));
    }
    Ok(text.to_owned())
}

/// `0.0.0.0`, `192.0.2.1:8443`, `::`, `[::1]` or `[::]:443`; 443 where no port is named.
pub(super) fn listen(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    let text = text(value, "0.0.0.0:443")?;
    let wrong = |message: &str| {
        Wrong::new(
            message,
            "write for example \"0.0.0.0:443\", \"[::]:443\" or \"192.0.2.1\"",
        )
    };
    let unbracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let address = match unbracketed.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, 443),
        Err(_) => text
            .parse()
            .map_err(|_| wrong("not an IP address with or without a port"))?,
    };
    if matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0) || text.contains('%') {
        return Err(wrong("nginx can't listen on an address with a zone"));
    }
    if address.ip().is_multicast() {
        return Err(wrong("a multicast address can't be listened on"));
    }
    match address.port() {
        0 => Err(wrong("port 0 is none")),
        80 => Err(wrong("port 80 of each address is the redirect's")),
        _ => Ok(address),
    }
}

pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, Wrong> {
    let hint = "write for example \"24h\", \"90m\" or \"7d\"";
    let text = text(value, "24h")?;
    let duration = text
        .parse::<jiff::Span>()
        .and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()))
        .and_then(Duration::try_from)
        .map_err(|_| Wrong::new("not a length of time", hint))?;
    if duration < SESSION_MIN || duration > SESSION_MAX {
        return Err(Wrong::new("outside 5 minutes to 30 days", hint));
    }
    Ok(duration)
}

/// The value of an environment variable: it passes through unit properties and an argv, so no control characters.
pub(super) fn environment(value: &DeValue<'_>) -> Result<String, Wrong> {
    let hint = "write text on one line; what has more lines goes into a file named under secret_environment";
    let DeValue::String(text) = value else {
        return Err(Wrong::new(format!("must be text, not {}", kind(value)), hint));
    };
    if text.chars().any(char::is_control) {
        return Err(Wrong::new("has control characters", hint));
    }
    if text.len() > ENVIRONMENT_VALUE_MAX {
        return Err(Wrong::new(
            "longer than 32 KiB",
            "put it into a file in the workspace's home and name that file",
        ));
    }
    Ok(text.to_string())
}
