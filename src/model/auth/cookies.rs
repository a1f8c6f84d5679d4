//! COOKIES: what ours are called, and how they are found among those that a request brings.
//!
//! Each name has an end that nobody can guess. A workspace can set cookies at its own host, whatever nginx takes out of its answers
//! (over HTTP/1.1 it can give a second one), and through tunnels for all of localhost; but it adds one of another name, and never
//! takes the place of one of ours, which it is not shown.

/// Random bytes in a name.
pub const END_BYTES: usize = 8;

/// What a cookie is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Session,
    /// That signing in has worked in this browser.
    Device,
}

impl Kind {
    /// Workspaces' names have no two hyphens in a row, so that no base is the beginning of another one's names.
    fn infix(self) -> &'static str {
        match self {
            Self::Session => "--",
            Self::Device => "--device-",
        }
    }
}

/// The name of a new cookie. `base`: what all of one host begin with.
pub fn name(base: &str, kind: Kind, end: [u8; END_BYTES]) -> String {
    // guard: A35-name
    format!("{base}{}{:016x}", kind.infix(), u64::from_be_bytes(end))
}

/// The cookies of a kind in the `Cookie` headers of a request, as (name, value), in their order (RFC 6265 section 4.2). There can
/// be several: those that somebody planted are no session's.
///
/// nginx cuts every spelling of these names out of what workspaces get. Here only the one that browsers send counts.
pub fn find<'a>(
    headers: impl Iterator<Item = &'a [u8]>,
    base: &str,
    kind: Kind,
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    headers
        .flat_map(|header| header.split(|byte| *byte == b';'))
        .filter_map(move |pair| {
            let pair = pair.trim_ascii();
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let name = std::str::from_utf8(&pair[..equals]).ok()?;
            is_of(name, base, kind).then_some((name, &pair[equals + 1..]))
        })
}

fn is_of(name: &str, base: &str, kind: Kind) -> bool {
    let Some(rest) = name.strip_prefix(base) else {
        return false;
    };
    // Sessions of earlier versions have no end.
    (rest.is_empty() && kind == Kind::Session)
        || rest.strip_prefix(kind.infix()).is_some_and(|end| {
            end.len() == 2 * END_BYTES && end.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(headers: &[&str], kind: Kind) -> Vec<(String, String)> {
        find(headers.iter().map(|text| text.as_bytes()), "csm-dan", kind)
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
            .collect()
    }

    #[test]
    fn ours_are_found_and_no_others() {
        let session = name("csm-dan", Kind::Session, [0x0a; END_BYTES]);
        let device = name("csm-dan", Kind::Device, [0x0a; END_BYTES]);
        assert_eq!(session, "csm-dan--0a0a0a0a0a0a0a0a");
        assert_eq!(device, "csm-dan--device-0a0a0a0a0a0a0a0a");
        let cases: &[(&str, usize)] = &[
            ("", 0),
            ("a=b; c=d", 0),
            ("csm-dan=x", 1),
            ("SESSION=x", 1),
            ("a=b;SESSION=x=y ; c", 1),
            ("SESSION=x; csm-dan=y", 2),
            ("SESSION=x; SESSION=x", 2),
            ("DEVICE=x", 0),
            ("SESSION", 0),
            ("SESSION =x", 0),
            ("SESSION\t=x", 0),
            ("xSESSION=x; SESSIONx=x; SESSION0=x", 0),
            ("csm-dan--=x; csm-dan--0a=x; csm-dan--0A0A0A0A0A0A0A0A=x", 0),
            ("csm-dan-x=x; csm-dan-x--0a0a0a0a0a0a0a0a=x; csm-da=x", 0),
            (";;=;==;", 0),
        ];
        for (header, count) in cases {
            let header = header.replace("SESSION", &session).replace("DEVICE", &device);
            assert_eq!(found(&[&header], Kind::Session).len(), *count, "{header}");
        }
        assert_eq!(
            found(&["a=b", &format!("c=d; {device}= x")], Kind::Device),
            [(device, " x".to_owned())]
        );
    }
}
