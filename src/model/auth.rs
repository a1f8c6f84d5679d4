//! AUTH: passwords as argon2id strings, and (below) who may come in.
//! Pure: salts, tokens and the time are arguments. Called by the gateway, the daemon and `csm password`.

pub mod cookies;
pub mod devices;
pub mod limit;
pub mod request;
pub mod session;

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

/// Longest password that is looked at, in bytes.
pub const PASSWORD_MAX: usize = 1024;

/// Least and most that a salt may have, in bytes (the most is that of the string's format).
const SALT_MIN: usize = 8;
const SALT_MAX: usize = 48;

/// Bounds on what one check may cost, because a password file may bring a string of its own: 256 MiB, 16 passes, 16 lanes.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
const STRING_MAX: usize = 512;
const OUTPUT_MIN: usize = 16;

/// What new passwords are hashed with: 19 MiB, two passes, one lane (the OWASP minimum for argon2id).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Checked in the place of a password that is not set, so that the answer takes as long. Its output is all zeros.
pub const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$Y29kZS1zZXJ2ZXItbXVsdGk$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password can't be hashed, or a string can't be checked against. Never holds the password or the string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("the password is empty")]
    Empty,
    #[error("the password has more than {PASSWORD_MAX} bytes")]
    TooLong,
    #[error("the salt has less than {SALT_MIN} or more than {SALT_MAX} bytes")]
    Salt,
    #[error("not an argon2id string of version 19, as in $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH")]
    Form,
    #[error("the argon2id string asks for {what} {value}, more than {most}")]
    TooCostly { what: &'static str, value: u32, most: u32 },
    #[error("the argon2id string's hash has less than {OUTPUT_MIN} bytes")]
    ShortHash,
}

/// An argon2id string that has been found usable.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordString(String);

impl PasswordString {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordString(..)")
    }
}

/// Hashes a password: argon2id, 19 MiB, t=2, p=1, as a PHC string. Takes some 25 ms of processor time.
pub fn hash_password(password: &[u8], salt: &[u8]) -> Result<String, PasswordError> {
    check_length(password)?;
    if !(SALT_MIN..=SALT_MAX).contains(&salt.len()) {
        return Err(PasswordError::Salt);
    }
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| PasswordError::Form)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = argon2
        .hash_password_with_salt(password, salt)
        .map_err(|_| PasswordError::Salt)?;
    Ok(hash.to_string())
}

/// Whether a text is an argon2id string that a password can be checked against at a bearable cost.
pub fn check_string(text: &str) -> Result<PasswordString, PasswordError> {
    if text.len() > STRING_MAX {
        return Err(PasswordError::Form);
    }
    let hash = PasswordHash::new(text).map_err(|_| PasswordError::Form)?;
    if hash.algorithm.as_str() != "argon2id" || hash.version != Some(Version::V0x13.into()) || hash.salt.is_none() {
        return Err(PasswordError::Form);
    }
    let params = Params::try_from(&hash).map_err(|_| PasswordError::Form)?;
    for (what, value, most) in [
        ("a memory (KiB) of", params.m_cost(), MEMORY_KIB_MAX),
        ("a number of passes of", params.t_cost(), PASSES_MAX),
        ("a number of lanes of", params.p_cost(), LANES_MAX),
    ] {
        if value > most {
            return Err(PasswordError::TooCostly { what, value, most });
        }
    }
    match hash.hash {
        None => Err(PasswordError::Form),
        Some(output) if output.as_ref().len() < OUTPUT_MIN => Err(PasswordError::ShortHash),
        Some(_) => Ok(PasswordString(text.to_owned())),
    }
}

/// Whether this is the password; compares in constant time. Takes as long as the string's parameters say.
pub fn verify(password: &[u8], string: &PasswordString) -> bool {
    if check_length(password).is_err() {
        return false;
    }
    PasswordHash::new(&string.0).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

fn check_length(password: &[u8]) -> Result<(), PasswordError> {
    match password.len() {
        0 => Err(PasswordError::Empty),
        length if length > PASSWORD_MAX => Err(PasswordError::TooLong),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap on purpose: 8 KiB and one pass.
    const CHEAP: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$";

    fn cheap(password: &[u8]) -> PasswordString {
        let params = Params::new(8, 1, 1, None).unwrap();
        let hash: PasswordHash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_with_salt(password, b"somesalt")
            .unwrap();
        check_string(&hash.to_string()).unwrap()
    }

    #[test]
    fn a_hashed_password_verifies_and_no_other_does() {
        let text = hash_password(b"correct horse", b"0123456789abcdef").unwrap();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        let string = check_string(&text).unwrap();
        assert!(verify(b"correct horse", &string));
        assert!(!verify(b"correct horse ", &string));
    }

    #[test]
    fn the_string_of_the_reference_program_verifies() {
        // From the test vectors of the reference implementation (phc-winner-argon2, src/test.c).
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify(b"password", &check_string(text).unwrap()));
    }

    #[test]
    fn what_is_not_usable_is_refused() {
        let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let cases = [
            ("", PasswordError::Form),
            ("hunter2", PasswordError::Form),
            (
                "$argon2i$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
                PasswordError::Form,
            ),
            (
                "$argon2id$v=16$m=4096,t=3,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
                PasswordError::Form,
            ),
            ("$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHQ", PasswordError::Form),
            (
                "$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAA",
                PasswordError::ShortHash,
            ),
            (
                &format!("$argon2id$v=19$m=262145,t=3,p=1$c29tZXNhbHQ${hash}"),
                PasswordError::TooCostly {
                    what: "a memory (KiB) of",
                    value: 262_145,
                    most: MEMORY_KIB_MAX,
                },
            ),
            (
                &format!("$argon2id$v=19$m=4096,t=17,p=1$c29tZXNhbHQ${hash}"),
                PasswordError::TooCostly {
                    what: "a number of passes of",
                    value: 17,
                    most: PASSES_MAX,
                },
            ),
            (&"x".repeat(STRING_MAX + 1), PasswordError::Form),
        ];
        for (text, error) in cases {
            assert_eq!(check_string(text), Err(error), "{text}");
        }
    }

    #[test]
    fn nobodys_string_is_usable_and_opens_to_nothing() {
        let nobody = check_string(NOBODY).unwrap();
        assert!(!verify(b"", &nobody));
        assert!(!verify(b"password", &nobody));
    }

    #[test]
    fn empty_and_endless_passwords_are_refused() {
        assert_eq!(hash_password(b"", b"0123456789abcdef"), Err(PasswordError::Empty));
        assert_eq!(
            hash_password(&[b'x'; PASSWORD_MAX + 1], b"0123456789abcdef"),
            Err(PasswordError::TooLong)
        );
        assert_eq!(hash_password(b"x", b"short"), Err(PasswordError::Salt));
        let long = vec![b'x'; PASSWORD_MAX];
        assert!(verify(&long, &cheap(&long)));
        assert!(!verify(&[b'x'; PASSWORD_MAX + 1], &cheap(&long)));
    }

    #[test]
    fn debug_shows_nothing_of_the_string() {
        assert_eq!(format!("{:?}", cheap(b"x")), "PasswordString(..)");
        assert!(cheap(b"x").as_str().starts_with(CHEAP));
    }
}
