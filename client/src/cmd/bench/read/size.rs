//! Sizes as people write them.

/// A number of bytes: `1000`, `256MiB`, `1GB`.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("", 1),
    ];
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = UNITS.iter().find(|(name, _)| *name == &text[digits.len()..]);
    let bytes = unit.and_then(|(_, unit)| digits.trim().parse::<u64>().ok()?.checked_mul(*unit));
    bytes.filter(|bytes| *bytes > 0).ok_or("give a size such as 256MiB or 1GB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse("1000"), Ok(1000));
        assert_eq!(parse("256MiB"), Ok(256 << 20));
        assert_eq!(parse("1 GB"), Ok(1_000_000_000));
        for bad in ["", "0", "MiB", "1.5GiB", "-1", "5 parsecs", "99999999999GiB"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
