//! Units as values: what `StartTransientUnit` takes, without D-Bus (org.freedesktop.systemd1(5), systemd.unit(5)).

use std::fmt::Write as _;
use std::path::Path;

/// One command of ExecStart= and the like: path and arguments, the first being the program's own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    pub path: String,
    pub argv: Vec<String>,
}

/// A property's value, by its D-Bus signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `b`
    Bool(bool),
    /// `t`
    U64(u64),
    /// `u`
    U32(u32),
    /// `i`
    I32(i32),
    /// `a(sasb)`, failure of the command counting
    Execs(Vec<Exec>),
    /// `(bas)`: nothing but these
    Allowed(Vec<&'static str>),
    /// `(bas)`: all but these
    Refused(Vec<&'static str>),
    /// `a(ssbt)`: what is to be seen where, not below it, and it has to be there
    Binds(Vec<(String, String)>),
    /// `a(iiqq)`: these UDP ports, of whatever family
    UdpPorts(std::collections::BTreeSet<u16>),
    /// `a(iayu)`: address family is told by the address
    Networks(Vec<(std::net::IpAddr, u32)>),
}

/// A transient unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSpec {
    pub name: String,
    pub properties: Vec<(&'static str, Value)>,
}

/// Of every unit of ours: what a process prints is a message, whatever it begins with. By default journald takes `<0>` at the
/// beginning of a line for how urgent it is (sd-daemon(3)), and writes what is most urgent to the terminals of everybody who is
/// logged in, byte for byte.
// guard: A40-prefix
pub const ANY_LINE: (&str, Value) = ("SyslogLevelPrefix", Value::Bool(false));

/// Escapes a path as systemd-escape(1) --path does, and adds the suffix.
pub fn path_unit_name(path: &Path, suffix: &str) -> String {
    use std::os::unix::ffi::OsStrExt;
    let trimmed: Vec<&[u8]> = path
        .as_os_str()
        .as_bytes()
        .split(|b| *b == b'/')
        .filter(|part| !part.is_empty())
        .collect();
    let mut name = String::new();
    for (index, byte) in trimmed.join(&b'/').into_iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            b'.' | b'_' | b':' => name.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            _ => {
                // Writing to a String can't fail.
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    if name.is_empty() {
        name.push('-');
    }
    format!("{name}{suffix}")
}

/// In unit settings that systemd expands, `%` starts a specifier (systemd.unit(5)); transient properties aren't expanded,
/// but Exec arguments see `$` of the environment unless it is doubled (systemd.service(5), "Command lines").
pub fn exec(path: &str, arguments: Vec<String>) -> Exec {
    let mut argv = vec![path.to_owned()];
    // guard: A19-expands
    argv.extend(arguments.into_iter().map(|argument| argument.replace('$', "$$")));
    Exec {
        path: path.to_owned(),
        argv,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_escaped_as_systemd_escape_does() {
        for (path, name) in [
            ("/run/views/a-b/home", "run-views-a\\x2db-home.mount"),
            ("/srv//x/", "srv-x.mount"),
            ("/.hidden", "\\x2ehidden.mount"),
            ("/", "-.mount"),
            ("/ü", "\\xc3\\xbc.mount"),
        ] {
            assert_eq!(path_unit_name(Path::new(path), ".mount"), name);
        }
    }

    /// What systemd-escape(1) --unescape --path does.
    fn unescaped(name: &str) -> Vec<u8> {
        let mut path = vec![b'/'];
        let mut left = name;
        while let Some(first) = left.chars().next() {
            if let Some(digits) = left.strip_prefix("\\x") {
                path.push(u8::from_str_radix(&digits[..2], 16).expect("two digits"));
                left = &digits[2..];
                continue;
            }
            path.push(if first == '-' {
                b'/'
            } else {
                u8::try_from(first).expect("ASCII")
            });
            left = &left[1..];
        }
        path
    }

    proptest! {
        #[test]
        fn an_escaped_path_leads_back(parts in prop::collection::vec(prop::collection::vec(1..=255_u8, 1..9), 1..5)) {
            use std::os::unix::ffi::OsStrExt as _;
            let parts: Vec<Vec<u8>> = parts.into_iter().map(|part| part.into_iter().filter(|b| *b != b'/').collect()).collect();
            let mut path = Vec::new();
            for part in parts.iter().filter(|part| !part.is_empty()) {
                path.push(b'/');
                path.extend(part);
            }
            prop_assume!(!path.is_empty());
            let name = path_unit_name(Path::new(std::ffi::OsStr::from_bytes(&path)), "");
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:\\".contains(&b)), "{}", name);
            prop_assert!(!name.starts_with('.'));
            prop_assert_eq!(unescaped(&name), path);
        }

        /// systemd makes one of two dollars, and expands what follows a single one.
        #[test]
        fn no_argument_is_expanded(argument in any::<String>()) {
            let doubled = exec("/bin/x", vec![argument.clone()]).argv.swap_remove(1);
            prop_assert_eq!(doubled.replace("$$", "").matches('$').count(), 0);
            prop_assert_eq!(doubled.replace("$$", "$"), argument);
        }
    }

    #[test]
    fn a_dollar_in_an_argument_is_doubled() {
        assert_eq!(exec("/bin/echo", vec!["$HOME".into()]).argv, ["/bin/echo", "$$HOME"]);
    }
}
