//! Sizes and processor shares as people write them: `2G`, `1.5` cores, and back.
//! Units are those of systemd.resource-control(5): K, M, G and T are powers of 1024.

/// Why a text is not a size or a number of cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error("not a size")]
    NotASize,
    #[error("GB and the like leave open whether 1000 or 1024 is meant")]
    AmbiguousUnit,
    #[error("larger than any machine")]
    TooLarge,
    #[error("not a number of cores")]
    NotCores,
    #[error("finer than a millionth of a core")]
    TooFine,
}

/// Microseconds of processor time a second that one core has.
pub const CORE_USEC: u64 = 1_000_000;

/// The kernel accounts memory in pages; no machine we run on has smaller ones.
pub const PAGE: u64 = 4096;

const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// Bytes from `512M`, `2G`, `2GiB`, `1.5G` or plain `1073741824`; a fraction of a byte is dropped.
pub fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let mut rest = unit.chars();
    let shift = match rest.next() {
        None => 0,
        Some('B') if rest.as_str().is_empty() => 0,
        Some(letter) => match (UNITS.iter().find(|(unit, _)| *unit == letter), rest.as_str()) {
            (Some((_, shift)), "" | "i" | "iB") => *shift,
            (Some(_), "B") => return Err(SizeError::AmbiguousUnit),
            _ => return Err(SizeError::NotASize),
        },
    };
    let (whole, fraction) = decimal(number).ok_or(SizeError::NotASize)?;
    if shift == 0 && !fraction.is_empty() {
        return Err(SizeError::NotASize);
    }
    let whole: u64 = whole.parse().map_err(|_| SizeError::TooLarge)?;
    let bytes = whole.checked_mul(1 << shift).ok_or(SizeError::TooLarge)?;
    // Twelve digits are finer than a byte in a tebibyte, and fit with it into 128 bits.
    let fraction = &fraction[..fraction.len().min(12)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let part = (u128::from(fraction.parse::<u64>().unwrap_or(0)) << shift) / scale;
    bytes
        .checked_add(u64::try_from(part).unwrap_or(0))
        .ok_or(SizeError::TooLarge)
}

/// The shortest text that [`parse_bytes`] reads as exactly these bytes.
pub fn format_bytes(bytes: u64) -> String {
    match UNITS
        .iter()
        .rev()
        .find(|(_, shift)| bytes != 0 && bytes.is_multiple_of(1 << shift))
    {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Bytes for the eye, with one decimal at most: `1.5G`, `812M`. Not exact.
pub fn format_bytes_rounded(bytes: u64) -> String {
    let Some((unit, shift)) = UNITS.iter().rev().find(|(_, shift)| bytes >> shift > 0) else {
        return bytes.to_string();
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    if tenths >= 100 || tenths.is_multiple_of(10) {
        format!("{}{unit}", tenths / 10)
    } else {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    }
}

/// Microseconds of processor time a second from `1.5`, `2` or `0.25` cores.
pub fn parse_cores(text: &str) -> Result<u64, SizeError> {
    let (whole, fraction) = decimal(text).ok_or(SizeError::NotCores)?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 6 {
        return Err(SizeError::TooFine);
    }
    let whole: u64 = whole.parse().map_err(|_| SizeError::TooLarge)?;
    let part: u64 = format!("{fraction:0<6}").parse().map_err(|_| SizeError::NotCores)?;
    whole
        .checked_mul(CORE_USEC)
        .and_then(|usec| usec.checked_add(part))
        .ok_or(SizeError::TooLarge)
}

/// The shortest text that [`parse_cores`] reads as exactly this share.
pub fn format_cores(usec: u64) -> String {
    let text = format!("{}.{:06}", usec / CORE_USEC, usec % CORE_USEC);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1.5` as its two halves; neither sign, exponent nor a missing half is taken.
fn decimal(text: &str) -> Option<(&str, &str)> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => (digits(whole) && digits(fraction)).then_some((whole, fraction)),
        None => digits(text).then_some((text, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_systemd_reads_them() {
        let mib = 1 << 20;
        for (text, bytes) in [
            ("0", 0),
            ("1073741824", 1024 * mib),
            ("1B", 1),
            ("4K", 4096),
            ("512M", 512 * mib),
            ("2G", 2048 * mib),
            ("2Gi", 2048 * mib),
            ("2GiB", 2048 * mib),
            ("1.5G", 1536 * mib),
            ("0.1K", 102),
            ("1.00000000000000000000000001G", 1024 * mib),
            ("1T", 1024 * 1024 * mib),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for (text, error) in [
            ("", SizeError::NotASize),
            ("G", SizeError::NotASize),
            ("2 G", SizeError::NotASize),
            ("2g", SizeError::NotASize),
            ("-1G", SizeError::NotASize),
            ("+1G", SizeError::NotASize),
            ("1.G", SizeError::NotASize),
            (".5G", SizeError::NotASize),
            ("1.2.3G", SizeError::NotASize),
            ("1.5", SizeError::NotASize),
            ("1.5B", SizeError::NotASize),
            ("2X", SizeError::NotASize),
            ("2GiBs", SizeError::NotASize),
            ("50%", SizeError::NotASize),
            ("infinity", SizeError::NotASize),
            ("２G", SizeError::NotASize),
            ("2GB", SizeError::AmbiguousUnit),
            ("99999999999999999999", SizeError::TooLarge),
            ("16777216T", SizeError::TooLarge),
        ] {
            assert_eq!(parse_bytes(text), Err(error), "{text}");
        }
    }

    #[test]
    fn cores_are_exact() {
        for (text, usec) in [
            ("1", 1_000_000),
            ("1.5", 1_500_000),
            ("0.1", 100_000),
            ("0.000001", 1),
            ("2.50000000", 2_500_000),
        ] {
            assert_eq!(parse_cores(text), Ok(usec), "{text}");
        }
        for (text, error) in [
            ("", SizeError::NotCores),
            ("-1", SizeError::NotCores),
            ("NaN", SizeError::NotCores),
            ("inf", SizeError::NotCores),
            ("1e3", SizeError::NotCores),
            ("150%", SizeError::NotCores),
            ("1,5", SizeError::NotCores),
            ("0.3333333", SizeError::TooFine),
            ("99999999999999999999", SizeError::TooLarge),
            ("18446744073710", SizeError::TooLarge),
        ] {
            assert_eq!(parse_cores(text), Err(error), "{text}");
        }
    }

    #[test]
    fn rounded_sizes_are_short() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1536, "1.5K"),
            (3 << 30, "3G"),
            ((3 << 30) - 1, "2.9G"),
            (812 << 20, "812M"),
        ] {
            assert_eq!(format_bytes_rounded(bytes), text);
        }
        assert_eq!(format_bytes_rounded(u64::MAX), "16777215T");
    }

    proptest! {
        #[test]
        fn a_formatted_size_reads_back(bytes: u64) {
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }

        #[test]
        fn a_formatted_round_size_reads_back(count in 1_u64..4096, shift in 0_u32..=40) {
            prop_assert_eq!(parse_bytes(&format_bytes(count << shift)), Ok(count << shift));
        }

        #[test]
        fn formatted_cores_read_back(usec: u64) {
            prop_assert_eq!(parse_cores(&format_cores(usec)), Ok(usec));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[0-9.KMGTiB]{0,40}") {
            let _ = parse_bytes(&text);
            let _ = parse_cores(&text);
        }
    }
}
