//! The certificate that nginx shows: which names it is for, and until when.

use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

/// What matters of a certificate. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// DNS names, lower case.
    pub names: Vec<String>,
    pub not_before: i64,
    pub not_after: i64,
}

/// The first certificate of a PEM file, which is the server's own (RFC 8446, 4.4.2).
pub fn parse(pem: &[u8]) -> Result<Certificate, String> {
    let first =
        Pem::iter_from_buffer(pem).find(|block| block.as_ref().map_or(true, |block| block.label == "CERTIFICATE"));
    let block = match first {
        None => return Err("it holds no certificate".to_owned()),
        Some(Err(error)) => return Err(error.to_string()),
        Some(Ok(block)) => block,
    };
    let certificate = block.parse_x509().map_err(|error| error.to_string())?;
    let alternatives = certificate
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    Ok(Certificate {
        names: names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

impl Certificate {
    /// Whether a browser takes it for this host: by name, or by a wildcard for the first label (RFC 6125, 6.4.3).
    pub fn covers(&self, host: &str) -> bool {
        let wildcard = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.names
            .iter()
            .any(|name| name == host || Some(name) == wildcard.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made once, its key thrown away:
    /// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -days 36500 -subj /CN=x
    /// -addext subjectAltName=DNS:*.Code.example.org,DNS:code.example.org,IP:192.0.2.1`
    const PEM: &[u8] = include_bytes!("../../../tests/data/cli/certificate.pem");

    #[test]
    fn names_and_times_are_read() {
        let certificate = parse(PEM).unwrap();
        assert_eq!(certificate.names, ["*.code.example.org", "code.example.org"]);
        assert_eq!(certificate.not_after - certificate.not_before, 36_500 * 86_400);
    }

    #[test]
    fn only_the_first_certificate_counts_whatever_stands_before_it() {
        let key = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        assert_eq!(
            parse(
                &[
                    key,
                    PEM,
                    b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
                ]
                .concat()
            ),
            parse(PEM)
        );
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        assert_eq!(parse(b"").unwrap_err(), "it holds no certificate");
        assert!(parse(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
        assert!(parse(b"-----BEGIN CERTIFICATE-----\n").is_err());
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let certificate = Certificate {
            names: vec!["*.code.org".into()],
            not_before: 0,
            not_after: 0,
        };
        let covered = ["dan.code.org", "code.org", "a.b.code.org", "dan.code.com"].map(|host| certificate.covers(host));
        assert_eq!(covered, [true, false, false, false]);
    }
}
