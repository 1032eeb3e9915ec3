//! Numbers as people read them: counts, money, times and percentages as short text. Page, progress and report use it.

use std::time::Duration;

use roundlot::End;
use rust_decimal::Decimal;

/// Ways in which an op ends, the usual ones first.
pub const ENDS: [End; 12] = [
    End::Delivered,
    End::Conflated,
    End::Netted,
    End::Refused,
    End::Exhausted,
    End::InDoubt,
    End::Deduplicated,
    End::Expired,
    End::Evicted,
    End::Withdrawn,
    End::Returned,
    End::Lost,
];

/// Returns the name of an end in words.
pub fn end(end: End) -> String {
    end.name().replace('_', " ")
}

/// Formats a count, as in 1,234,567.
pub fn count(number: u64) -> String {
    grouped(&number.to_string())
}

/// Formats an amount, as in 1,234.50.
pub fn money(amount: Decimal) -> String {
    let text = format!("{:.2}", amount.round_dp(2));
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |text| ("-", text));
    match text.split_once('.') {
        Some((whole, cents)) => format!("{sign}{}.{cents}", grouped(whole)),
        None => format!("{sign}{}", grouped(text)),
    }
}

fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a time with three digits and a unit; a time of zero is a dash.
pub fn time(time: Duration) -> String {
    seconds(time.as_secs_f64())
}

/// Formats a time in seconds in the same way.
pub fn seconds(seconds: f64) -> String {
    let (number, unit) = match seconds {
        1.0.. => (seconds, "s"),
        1e-3.. => (seconds * 1e3, "ms"),
        1e-6.. => (seconds * 1e6, "µs"),
        _ => (seconds * 1e9, "ns"),
    };
    match number {
        99.95.. => format!("{number:.0} {unit}"),
        9.995.. => format!("{number:.1} {unit}"),
        _ if number == 0.0 => "-".to_owned(),
        _ => format!("{number:.2} {unit}"),
    }
}

/// Formats a part of a whole in percent. An empty whole is a dash, and only the complete whole is 100 %.
pub fn percent(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    match part {
        0 => "-".to_owned(),
        _ if part < whole => format!("{:.1} %", percent.min(99.9)),
        _ => format!("{percent:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_groups_and_units() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(money("-1234.5".parse().unwrap()), "-1,234.50");
        assert_eq!(money("999".parse().unwrap()), "999.00");
        let times = [0, 12, 999, 1_000, 12_345, 123_456_000, 1_230_000_000, 99_960_000_000, 3_600_000_000_000];
        let expected = ["-", "12.0 ns", "999 ns", "1.00 µs", "12.3 µs", "123 ms", "1.23 s", "100 s", "3600 s"];
        assert_eq!(times.map(|nanos| time(Duration::from_nanos(nanos))), expected);
        assert_eq!(seconds(3.21e-10), "0.32 ns");
        assert_eq!((percent(1, 3), percent(0, 3), percent(1, 0)), ("33.3 %".into(), "-".into(), "100.0 %".into()));
        assert_eq!((percent(99_999, 100_000), percent(9, 9)), ("99.9 %".into(), "100.0 %".into()));
    }
}
