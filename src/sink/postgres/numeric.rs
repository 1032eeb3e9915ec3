//! Decimals as PostgreSQL sends and stores them: groups of four decimal digits. Every digit is kept, zeros included.
//! `wire` calls it for each decimal.

use bytes::{BufMut, BytesMut};
use rust_decimal::Decimal;

/// Maximum number of groups: 96 bits are at most 29 digits, to which up to three zeros are added.
const MAX_GROUPS: usize = 8;

const NEGATIVE: u16 = 0x4000;

/// Appends the value, with as many digits behind the point as it has, zeros included.
pub(super) fn put(out: &mut BytesMut, value: Decimal) {
    let scale = value.scale();
    // The point stands between two groups.
    let zeros = (4 - scale % 4) % 4;
    let mut rest = value.mantissa().unsigned_abs() * 10_u128.pow(zeros);
    let mut groups = [0_u16; MAX_GROUPS];
    let mut first = MAX_GROUPS;
    // Division of 128 bits is slow, and most prices need only 64.
    while rest > u128::from(u64::MAX) {
        first -= 1;
        groups[first] = (rest % 10_000) as u16;
        rest /= 10_000;
    }
    let mut rest = rest as u64;
    while rest > 0 {
        first -= 1;
        groups[first] = (rest % 10_000) as u16;
        rest /= 10_000;
    }
    let behind_point = (scale + zeros) as i16 / 4;
    let weight = (MAX_GROUPS - first) as i16 - behind_point - 1;
    let zeros_at_end = groups[first..].iter().rev().take_while(|group| **group == 0).count();
    let groups = &groups[first..MAX_GROUPS - zeros_at_end];

    out.put_u16(groups.len() as u16);
    out.put_i16(if groups.is_empty() { 0 } else { weight });
    out.put_u16(if value.is_sign_negative() && !groups.is_empty() { NEGATIVE } else { 0 });
    out.put_u16(scale as u16);
    groups.iter().for_each(|group| out.put_u16(*group));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server's reading: each group is worth 10,000 to the power of its weight.
    fn read(bytes: &[u8]) -> (Vec<u16>, i16, bool, u16) {
        let words: Vec<u16> = bytes.chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]])).collect();
        assert_eq!(words[0] as usize, words.len() - 4, "as many groups as it says");
        (words[4..].to_vec(), words[1] as i16, words[2] == NEGATIVE, words[3])
    }

    fn printed(value: Decimal) -> String {
        let mut bytes = BytesMut::new();
        put(&mut bytes, value);
        let (groups, weight, negative, scale) = read(&bytes);
        let digit = |power: i32| {
            // The digit worth ten to this power.
            let group = i32::from(weight) - power.div_euclid(4);
            let group = usize::try_from(group).ok().and_then(|group| groups.get(group)).copied().unwrap_or(0);
            (b'0' + (u32::from(group) / 10_u32.pow(power.rem_euclid(4) as u32) % 10) as u8) as char
        };
        let whole: String = (0..32).rev().map(digit).collect();
        let whole = whole.trim_start_matches('0');
        let mut text = format!("{}{}", if negative { "-" } else { "" }, if whole.is_empty() { "0" } else { whole });
        if scale > 0 {
            text.push('.');
            text.extend((1..=i32::from(scale)).map(|place| digit(-place)));
        }
        text
    }

    #[test]
    fn decimals_keep_every_digit() {
        let short =
            ["0", "0.00", "1", "-1", "10", "9999", "10000", "0.1", "-0.01", "1.50", "100.00", "0.0001", "1.00001"];
        let wide = ["18446744073709551616", "79228162514264337593543950335", "-7.9228162514264337593543950335"];
        let long = ["0.0000000000000000000000000001", "-0.0000000018446744073709551615", "12345.678900"];
        for text in short.iter().chain(&wide).chain(&long) {
            assert_eq!(printed(text.parse().expect("a decimal")), *text);
        }
        assert_eq!(printed("-0.0".parse().expect("a decimal")), "0.0", "there is one zero");
    }

    proptest::proptest! {
        #[test]
        fn any_decimal_keeps_every_digit(lo: u32, mid: u32, hi: u32, negative: bool, scale in 0_u32..=28, wide: bool) {
            let (mid, hi) = if wide { (mid, hi) } else { (mid % 3, 0) };
            let value = Decimal::from_parts(lo, mid, hi, negative && lo > 0, scale);
            proptest::prop_assert_eq!(printed(value), value.to_string());
        }
    }
}
