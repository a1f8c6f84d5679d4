//! Checked names: whoever holds one of these types holds a value of its grammar.
//! Everything that ends in a path, a unit name, a host name or a command line is built from them.

#[cfg(test)]
mod tests;

use std::fmt;

/// Why a text is not a name of its kind; says the rule, not the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}")]
pub struct NameError {
    pub rule: &'static str,
}

/// Longest workspace name: `csm-NAME` must stay below the 32 characters of a Linux account name (useradd(8)).
pub const WORKSPACE_NAME_MAX: usize = 27;

pub const RESERVED: [&str; 5] = ["admin", "portal", "www", "api", "auth"];

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name! {
    /// `^[a-z][a-z0-9]*(-[a-z0-9]+)*$`, at most 27 characters, not reserved. One DNS label, so also the host name's first part.
    WorkspaceName, check_workspace
}
checked_name! {
    /// A Linux account that may run a workspace: `^[a-z_][a-z0-9_-]*$`, at most 31 characters, not root, nobody or one of ours.
    AccountName, check_account
}
checked_name! {
    /// A DNS name (RFC 1123), lower case, at most 253 characters.
    HostName, check_host
}
checked_name! {
    /// An environment variable: `^[A-Za-z_][A-Za-z0-9_]*$` (POSIX XBD 8.1), at most 128 characters.
    VariableName, check_variable
}
checked_name! {
    /// An image reference as Podman takes it, without a transport, at most 255 characters.
    ImageRef, check_image_ref
}
checked_name! {
    /// The id of an image: 64 lower-case hexadecimal digits.
    ImageId, check_image_id
}

impl AccountName {
    /// The name of one of our own service accounts, which [`AccountName::parse`] refuses for workspaces.
    pub fn service(name: &'static str) -> Self {
        Self(name.to_owned())
    }
}

impl HostName {
    /// The host name of a workspace. The configuration refuses a domain so long that this could pass 253 characters.
    pub fn of_workspace(name: &WorkspaceName, domain: &Self) -> Self {
        Self(format!("{name}.{domain}"))
    }
}

fn rule(holds: bool, rule: &'static str) -> Result<(), NameError> {
    if holds { Ok(()) } else { Err(NameError { rule }) }
}

// guard: F21-characters
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn check_workspace(text: &str) -> Result<(), NameError> {
    rule(
        // guard: A14-label
        is_label(text)
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            // guard: F21-single-hyphens
            && !text.contains("--"),
        "a workspace name is lower-case letters and digits with single hyphens between, starting with a letter",
    )?;
    rule(
        // guard: F21-length
        text.len() <= WORKSPACE_NAME_MAX,
        "a workspace name has at most 27 characters",
    )?;
    rule(
        // guard: F21-reserved
        !RESERVED.contains(&text),
        "admin, portal, www, api and auth are reserved",
    )
}

fn check_account(text: &str) -> Result<(), NameError> {
    rule(
        text.len() <= 31
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-'),
        "an account name is lower-case letters, digits, _ and -, starting with a letter or _, at most 31 characters",
    )?;
    // nobody's files are everybody's leftovers; csm-admin would be the admin group's own account.
    rule(
        !["root", "nobody", "csm-admin"].contains(&text) && !text.starts_with("code-server-multi"),
        "root, nobody, csm-admin and the service accounts can't run a workspace",
    )
}

fn check_host(text: &str) -> Result<(), NameError> {
    rule(
        text.len() <= 253 && text.split('.').all(is_label),
        "a domain is labels of lower-case letters, digits and hyphens, with dots between",
    )?;
    // No top-level domain is a number (RFC 3696, section 2); browsers read such a host as an address.
    let last = text.rsplit('.').next().unwrap_or(text);
    rule(!last.bytes().all(|b| b.is_ascii_digit()), "an address is not a domain")
}

fn check_variable(text: &str) -> Result<(), NameError> {
    rule(
        !text.is_empty()
            && text.len() <= 128
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
        "a variable name is letters, digits and _, not starting with a digit",
    )
}

fn check_image_ref(text: &str) -> Result<(), NameError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
    // `:/` and `//` would be a transport (containers-transports(5)), such as dir:/etc or docker://.
    rule(
        !text.is_empty()
            && text.len() <= 255
            && text.bytes().all(plain)
            // guard: A19-option
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && !text.contains("//")
            && !text.contains(":/"),
        "an image reference is NAME, NAME:TAG or NAME@sha256:DIGEST, in letters, digits and . _ - / : @",
    )
}

fn check_image_id(text: &str) -> Result<(), NameError> {
    rule(
        text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
        "an image id is 64 hexadecimal digits",
    )
}

/// A text that must not be seen: it has no `Display`, its `Debug` hides it, and its memory is cleared when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(zeroize::Zeroizing::new(bytes))
    }

    /// The bytes, for the one place that hands them on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    // guard: I6-secret
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
