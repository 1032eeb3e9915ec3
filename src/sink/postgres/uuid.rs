//! UUIDs as PostgreSQL stores them: 16 bytes, read from their canonical text. Called by `wire` for each value of a
//! `uuid` column.

/// Length of the text: 32 hexadecimal digits and four hyphens.
const TEXT: usize = 36;

/// Positions of the hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Reads `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, digits in either case. Other spellings of the same UUID are `None`.
pub(super) fn read(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != TEXT || HYPHENS.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = text.iter().enumerate().filter(|(at, _)| !HYPHENS.contains(at));
    for byte in &mut bytes {
        let mut digit = || digits.next().and_then(|(_, digit)| char::from(*digit).to_digit(16));
        *byte = (digit()? << 4 | digit()?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

    #[test]
    fn canonical_text_is_read_in_either_case() {
        let bytes = [0xa0, 0xee, 0xbc, 0x99, 0x9c, 0x0b, 0x4e, 0xf8, 0xbb, 0x6d, 0x6b, 0xb9, 0xbd, 0x38, 0x0a, 0x11];
        assert_eq!(read(TEXT), Some(bytes));
        assert_eq!(read(&TEXT.to_uppercase()), Some(bytes));
    }

    #[test]
    fn any_other_text_is_no_uuid() {
        let others = [
            String::new(),
            TEXT.replace('-', ""),
            format!("{{{TEXT}}}"),
            format!(" {TEXT}"),
            TEXT[1..].to_owned(),
            TEXT.replace('a', "g"),
            TEXT.replace("a0", "+0"),
            TEXT.replace("-9c0b", "9-c0b"),
            TEXT.replace("a1", "é"),
            "-".repeat(36),
        ];
        for other in others {
            assert_eq!(read(&other), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_uuid_is_read_back(bytes: [u8; 16]) {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
            proptest::prop_assert_eq!(read(&parts.join("-")), Some(bytes));
        }
    }
}
