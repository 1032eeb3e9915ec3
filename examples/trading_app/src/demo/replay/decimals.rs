//! The number format of a file: its decimal mark, and the mark between thousands. `layout` finds it once; each number
//! is then checked against it.

use std::borrow::Cow;

/// The marks in the numbers of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimals {
    /// `.` or `,`.
    pub mark: char,
    /// Whether the other mark may stand between thousands.
    grouped: bool,
}

impl Decimals {
    /// Returns the format with a decimal point, and no mark between thousands.
    #[cfg(test)]
    pub const PLAIN: Self = Self { mark: '.', grouped: false };

    /// Takes the format from the setting, or else from the first numbers that allow only one.
    pub fn of<'a>(setting: Option<char>, numbers: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        if let Some(mark) = setting {
            return Ok(Self { mark, grouped: true });
        }
        let (mut point, mut comma, mut either, mut grouped) = (0, 0, None, false);
        let (mut maybe_bond, mut is_grouped_for_sure) = (None, false);
        for number in numbers {
            match number.find(['\'', '’']) {
                Some(_) if may_be_thirty_seconds(number) => maybe_bond = Some(number),
                found => is_grouped_for_sure |= found.is_some(),
            }
            match (number.matches('.').count(), number.matches(',').count()) {
                (0, 0) => {}
                (1, 0) if !is_group(number, '.') => point += 1,
                (0, 1) if !is_group(number, ',') => comma += 1,
                (1, 0) => {}
                (0, 1) => either = Some(number),
                (0, _) => (point, grouped) = (point + 1, true),
                (_, 0) => (comma, grouped) = (comma + 1, true),
                _ if number.rfind('.') > number.rfind(',') => (point, grouped) = (point + 1, true),
                _ => (comma, grouped) = (comma + 1, true),
            }
        }
        if let (false, Some(number)) = (is_grouped_for_sure, maybe_bond) {
            return Err(format!(
                "{number:?} may have thousands or 32nds, as prices of bonds do: set replay.decimal to \".\" if it is thousands"
            ));
        }
        if let (true, Some(number)) = (point == comma, either) {
            return Err(format!("{number:?} has a comma, which may be decimal or stand between thousands: {SET}"));
        }
        match point.cmp(&comma) {
            std::cmp::Ordering::Equal if point > 0 => Err(format!("its numbers have decimal points and commas: {SET}")),
            std::cmp::Ordering::Less => Ok(Self { mark: ',', grouped }),
            _ => Ok(Self { mark: '.', grouped: grouped || either.is_some() }),
        }
    }

    /// Returns the number with a decimal point and no mark between thousands.
    pub fn plain<'a>(&self, number: &'a str) -> Result<Cow<'a, str>, String> {
        let is_usual =
            |byte: u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'e' | b'E') || (byte == b'.' && self.mark == '.');
        if number.bytes().all(is_usual) {
            return Ok(Cow::Borrowed(number));
        }
        let (mantissa, exponent) = number.split_at(number.find(['e', 'E']).unwrap_or(number.len()));
        let (whole, fraction) = mantissa.split_once(self.mark).unwrap_or((mantissa, ""));
        let other = if self.mark == '.' { ',' } else { '.' };
        if !self.grouped && whole.contains(other) {
            let name = if other == '.' { "point" } else { "comma" };
            return Err(format!("has a {name}, unlike the first rows: {SET}"));
        }
        let sign = whole.len() - whole.trim_start_matches(['-', '+']).len();
        let (sign, whole) = whole.split_at(sign);
        let joined = match whole.find(|letter: char| !letter.is_ascii_digit()) {
            None => whole.to_owned(),
            Some(at) => {
                let between = whole[at..].chars().next().filter(|mark| *mark == other || BETWEEN.contains(mark));
                between.and_then(|between| joined(whole, between)).ok_or("is not a decimal number")?
            }
        };
        Ok(Cow::Owned(format!("{sign}{joined}.{fraction}{exponent}")))
    }
}

const SET: &str = "set replay.decimal";

/// Marks that stand between thousands and never before a fraction.
const BETWEEN: [char; 5] = ['\'', '’', ' ', '\u{a0}', '\u{202f}'];

/// Whether a number may be the price of a bond in points, 32nds and eighths of these, such as 110'160. Three digits
/// that are no such price, a fraction or a second mark prove a mark between thousands.
fn may_be_thirty_seconds(number: &str) -> bool {
    let Some((_, behind)) = number.split_once(['\'', '’']) else {
        return false;
    };
    behind.len() == 3 && behind.parse::<u32>().is_ok_and(|thirty_seconds| thirty_seconds < 320)
}

/// Whether the digits behind the mark may be a group of thousands, as in 38,500.
fn is_group(number: &str, mark: char) -> bool {
    let whole = number.trim_start_matches(['-', '+']);
    !whole.starts_with('0') && joined(whole, mark).is_some()
}

/// Returns the digits without the marks between them, if the marks separate groups of three.
fn joined(whole: &str, mark: char) -> Option<String> {
    let mut groups = whole.split(mark);
    let is_digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let first = groups.next().filter(|first| (1..=3).contains(&first.len()) && is_digits(first))?;
    groups.try_fold(first.to_owned(), |joined, group| (group.len() == 3 && is_digits(group)).then(|| joined + group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(numbers: &str) -> Result<Vec<String>, String> {
        let decimals = Decimals::of(None, numbers.split(';'))?;
        numbers.split(';').map(|number| decimals.plain(number).map(Cow::into_owned)).collect()
    }

    #[test]
    fn decimal_and_thousands_marks_are_told_apart() {
        let cases = [
            ("38500,25;0,5;38500", "38500.25 0.5 38500"),
            ("38,500.25;1,000", "38500.25 1000."),
            ("1,234,567;5", "1234567. 5"),
            ("1.234.567;5", "1234567. 5"),
            ("38.500,25;38.500", "38500.25 38500."),
            ("0.500;38.500;1e-7;-1.5E+3", "0.500 38.500 1e-7 -1.5E+3"),
            ("0,500;-1,5e-7", "0.500 -1.5e-7"),
            ("110'160;38'500", "110160. 38500."),
            ("110'160;1'000'000", "110160. 1000000."),
            ("38'500.25;1 000;1\u{202f}000", "38500.25 1000. 1000."),
        ];
        for (numbers, expected) in cases {
            let expected: Vec<&str> = expected.split(' ').collect();
            assert_eq!(read(numbers).unwrap(), expected, "{numbers}");
        }
    }

    #[test]
    fn an_ambiguous_mark_needs_a_setting() {
        for numbers in ["38,500", "38,500;5", "1.5;1,5", "110'160", "110'160;110'165;5", "110’000;0.5"] {
            assert!(read(numbers).unwrap_err().contains("set replay.decimal"), "{numbers}");
        }
        let said =
            |mark| Decimals::of(Some(mark), ["38,500"].into_iter()).unwrap().plain("38,500").unwrap().into_owned();
        assert_eq!((said(','), said('.')), ("38.500".to_owned(), "38500.".to_owned()));
    }

    #[test]
    fn a_number_in_another_notation_is_refused() {
        assert!(Decimals::PLAIN.plain("38500,25").unwrap_err().contains("has a comma"));
        assert!(Decimals::PLAIN.plain("1,000").unwrap_err().contains("has a comma"));
        let comma = Decimals::of(None, ["0,5"].into_iter()).unwrap();
        assert!(comma.plain("38500.25").unwrap_err().contains("has a point"));
        let said = Decimals::of(Some('.'), [].into_iter()).unwrap();
        for number in ["38,50.25", "3,8500", ",500", "38,500,25", "1,000 000", "1''000", "NaN", "x"] {
            assert!(said.plain(number).is_err(), "{number}");
        }
    }
}
