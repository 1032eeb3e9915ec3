//! Dates and times of day as vendors write them. Each function reads one spelling or returns the reason; a text that
//! could mean two things is refused. `times` and `time_columns` call it.

use crate::demo::settings::DateOrder;

pub const SECOND: i64 = 1_000_000_000;
pub const DAY: i64 = 86_400 * SECOND;

/// A text of the calendar: a day, a time of day, or both, and the offset of its clock from UTC, if the text has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Days since 1970.
    pub day: Option<i64>,
    /// Nanoseconds since midnight.
    pub clock: Option<i64>,
    /// Offset from UTC, in nanoseconds.
    pub offset: Option<i64>,
}

const NO_TIME: &str = "is no time that is known";

/// Reads a date, a time of day, or both, and what may follow them: `AM`, `Z`, `UTC`, an offset such as `-05:00`.
pub fn stamp(text: &str, order: Option<DateOrder>) -> Result<Stamp, String> {
    let (date, clock) = halves(text);
    let day = match date {
        "" => None,
        date => Some(day(date, order)?),
    };
    if clock.is_empty() {
        return match day {
            Some(_) => Ok(Stamp { day, clock: None, offset: None }),
            None => Err(NO_TIME.to_owned()),
        };
    }
    let (clock, rest) = clock_and_rest(clock).ok_or(NO_TIME)?;
    let (clock, rest) = half_day(clock, rest.trim_start()).ok_or(NO_TIME)?;
    Ok(Stamp { day, clock: Some(clock), offset: zone(rest)? })
}

/// Splits a text into its date and the rest. Where there is a colon, the digits before it are the hour, or else, as in
/// 08JAN2024:09:30:00, a year.
fn halves(text: &str) -> (&str, &str) {
    const BETWEEN: [char; 6] = ['T', 't', 'D', ' ', '-', ','];
    if let Some(colon) = text.find(':') {
        let hour = text[..colon].trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
        if colon - hour > 2 {
            return (&text[..colon], &text[colon + 1..]);
        }
        return (text[..hour].trim_end_matches(BETWEEN), &text[hour..]);
    }
    // Examples: 20240108 093000123, 20240108T0930Z.
    let behind = |at: &usize| text[at + 1..].starts_with(|letter: char| letter.is_ascii_digit());
    match text.find(['T', 't', ' ']).filter(|at| *at >= 8 && behind(at)) {
        Some(at) if text[..at].starts_with(|letter: char| letter.is_ascii_digit()) => (&text[..at], &text[at + 1..]),
        _ => (text, ""),
    }
}

/// Returns the days since 1970 of a date, whose parts are digits and names of months.
pub fn day(text: &str, order: Option<DateOrder>) -> Result<i64, String> {
    let known = |parts: Option<i64>| parts.ok_or_else(|| format!("{NO_TIME}: there is no such day"));
    if text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return known(civil(&text[..4], &text[4..6], &text[6..]));
    }
    let mut parts = parts(text).ok_or(NO_TIME)?;
    if parts.len() == 4 && WEEKDAYS.iter().any(|day| is_short_for(parts[0], day)) {
        parts.remove(0);
    }
    let [a, b, c] = parts[..] else {
        return Err(NO_TIME.to_owned());
    };
    let is_year = |part: &str| part.len() == 4 && part.starts_with(|letter: char| letter.is_ascii_digit());
    let month =
        |part: &str| MONTHS.iter().position(|month| is_short_for(part, month)).map(|index| (index + 1).to_string());
    match (month(a), month(b)) {
        (Some(month), _) if is_year(c) => known(civil(c, &month, b)),
        (None, Some(month)) if is_year(c) => known(civil(c, &month, a)),
        (None, Some(month)) if is_year(a) => known(civil(a, &month, c)),
        (None, None) if is_year(a) => known(civil(a, b, c)),
        (None, None) if is_year(c) && text.contains('.') => known(civil(c, b, a)),
        (None, None) if is_year(c) => match order {
            Some(DateOrder::Dmy) => known(civil(c, b, a)),
            Some(DateOrder::Mdy) => known(civil(c, a, b)),
            None => Err("may have the month or the day first: see replay.date_order".to_owned()),
        },
        _ => Err(NO_TIME.to_owned()),
    }
}

/// Returns the two numbers of a date such as 01/08/2024 that come before its year, if the text is one.
pub fn day_and_month(text: &str) -> Option<(u32, u32)> {
    let (date, _) = halves(text);
    let parts = parts(date).filter(|parts| parts.len() == 3 && parts[2].len() == 4 && !date.contains('.'))?;
    Some((parts[0].parse().ok()?, parts[1].parse().ok()?))
}

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Whether `part` is the name or its first three letters.
fn is_short_for(part: &str, name: &str) -> bool {
    part.eq_ignore_ascii_case(name) || part.eq_ignore_ascii_case(&name[..3])
}

/// Splits a date into runs of digits and of letters, three or four. Returns `None` if marks other than date separators
/// are between them.
fn parts(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let same = |letter: char| letter.is_ascii_digit() == first.is_ascii_digit() && letter.is_ascii_alphanumeric();
        match rest.find(|letter| !same(letter)).unwrap_or(rest.len()) {
            0 if b"-./, ".contains(&rest.as_bytes()[0]) && !parts.is_empty() => rest = &rest[1..],
            0 => return None,
            end => {
                parts.push(&rest[..end]);
                rest = &rest[end..];
            }
        }
    }
    (3..=4).contains(&parts.len()).then_some(parts)
}

/// Returns the days since 1970 of a day; `None` if the day does not exist.
fn civil(year: &str, month: &str, day: &str) -> Option<i64> {
    let number = |text: &str, most: usize| (text.len() <= most).then(|| digits(text)).flatten();
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // Years are counted from March, so that the leap day is their last.
    let (from_march, year) = ((month + 9) % 12, year - i64::from(month < 3));
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    (1..=last).contains(&day).then_some(days + (from_march * 153 + 2) / 5 + day - 1 - 719_468)
}

/// Returns the year of a time.
pub fn year_of(time_ns: i64) -> i64 {
    // The result is off by a day at most around the turn of a year, which does not matter where a year is shown.
    1970 + (i128::from(time_ns) * 400).div_euclid(i128::from(DAY) * 146_097) as i64
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Returns nanoseconds since midnight of `09:30`, `9:30:00.123`, or of digits, and the rest of the text.
fn clock_and_rest(text: &str) -> Option<(i64, &str)> {
    let run = |text: &str| text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (hour, rest) = text.split_at(run(text));
    let Some(minutes) = rest.strip_prefix(':') else {
        let (fraction, rest) = fraction(rest)?;
        return Some((digit_clock(hour)?.checked_add(fraction)?, rest));
    };
    let (minute, rest) = minutes.split_at(run(minutes));
    let has_seconds = rest.starts_with(':');
    let (second, rest) = match rest.strip_prefix(':') {
        Some(seconds) => seconds.split_at(run(seconds)),
        None => ("00", rest),
    };
    // A spreadsheet that shows only minutes and seconds writes 30:00.5, which must not be read as half past midnight.
    if !has_seconds && rest.starts_with(['.', ',']) {
        return None;
    }
    let (fraction, rest) = fraction(rest)?;
    let is_short = (1..=2).contains(&hour.len()) && minute.len() == 2 && second.len() == 2;
    let clock = is_short.then(|| time_of_day(digits(hour)?, digits(minute)?, digits(second)?))??;
    Some((clock + fraction, rest))
}

/// Returns the nanoseconds of `.123`, cut off after nine digits, and the rest of the text.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(text) = text.strip_prefix(['.', ',']) else {
        return Some((0, text));
    };
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let places = end.min(9);
    let value = digits(&text[..places]).filter(|_| places > 0)?;
    Some((value * 10_i64.pow(9 - places as u32), &text[end..]))
}

/// Returns the nanoseconds since midnight. A leap second counts into the next minute.
fn time_of_day(hour: i64, minute: i64, second: i64) -> Option<i64> {
    let is_leap_second = (minute, second) == (59, 60);
    ((0..24).contains(&hour) && (0..60).contains(&minute) && ((0..60).contains(&second) || is_leap_second))
        .then_some((hour * 3600 + minute * 60 + second) * SECOND)
}

/// Returns nanoseconds since midnight of `hhmm`, `hhmmss`, or `hhmmss` and three, six or nine digits of the second. The
/// zero before the hour may be missing, since some programs write the text as a number.
pub fn digit_clock(text: &str) -> Option<i64> {
    let padded = match text.len() {
        _ if text.bytes().all(|byte| byte == b'0') && !text.is_empty() => return Some(0),
        3 | 5 | 8 | 11 | 14 => format!("0{text}"),
        4 | 6 | 9 | 12 | 15 => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| padded.get(from..to).filter(|part| !part.is_empty()).map_or(Some(0), digits);
    let clock = time_of_day(part(0, 2)?, part(2, 4)?, part(4, 6)?)?;
    let places = padded.len().saturating_sub(6);
    Some(clock + part(6, padded.len())? * 10_i64.pow(9 - places as u32))
}

/// Converts `12:30 AM` and `1:30 PM` to times of a whole day.
fn half_day(clock: i64, rest: &str) -> Option<(i64, &str)> {
    let half = 12 * 3600 * SECOND;
    let (word, behind) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len()));
    let is_afternoon = match word.to_ascii_lowercase().as_str() {
        "am" => false,
        "pm" => true,
        _ => return Some((clock, rest)),
    };
    let is_half = (3600 * SECOND..13 * 3600 * SECOND).contains(&clock);
    is_half.then(|| (clock % half + if is_afternoon { half } else { 0 }, behind))
}

/// Returns the offset at the end of a time; `None` if there is none.
fn zone(text: &str) -> Result<Option<i64>, String> {
    let (text, is_utc) = match text.trim() {
        "" => return Ok(None),
        "Z" | "z" => return Ok(Some(0)),
        text => match ["UTC", "GMT"].iter().find_map(|word| text.strip_suffix(word)) {
            Some(before) => (before.trim_end(), true),
            None => (text, false),
        },
    };
    // The offset may follow a name, as in GMT+0100.
    let ahead = ["UTC", "GMT"].iter().find_map(|word| text.strip_prefix(word)).unwrap_or(text);
    let found = if text.is_empty() { Some(0) } else { offset(ahead) };
    found.filter(|offset| !is_utc || *offset == 0).map(Some).ok_or_else(|| {
        format!("ends in {text:?}, which is no offset that is known: write +hh:mm, or set replay.utc_offset")
    })
}

/// Returns the nanoseconds of `+05:30`, `-0500`, `+00`.
pub fn offset(text: &str) -> Option<i64> {
    let (sign, text) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = match text.split_once(':') {
        Some(parts) => parts,
        None if text.len() == 4 && text.is_ascii() => text.split_at(2),
        None => (text, "00"),
    };
    let (hours, minutes) =
        ((hours.len() == 2).then(|| digits(hours))??, (minutes.len() == 2).then(|| digits(minutes))??);
    (hours <= 15 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60 * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the seconds since 1970, of a text with an offset.
    fn seconds(text: &str, order: Option<DateOrder>) -> Result<String, String> {
        let Stamp { day, clock, offset } = stamp(text, order)?;
        let nanos = day.unwrap_or(0) * DAY + clock.unwrap_or(0) - offset.unwrap_or(0);
        Ok(format!("{}.{:09}", nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND)))
    }

    #[test]
    fn many_spellings_give_the_same_time() {
        let spellings = "2024-01-08T14:30:00.5Z|2024-01-08T09:30:00.500-05:00|2024-01-08 14:30:00,5 UTC|2024.01.08 14:30:00.5\
            |2024/01/08 14:30:00.5+00|20240108 143000500|20240108T143000.5Z|20240108-14:30:00.500|08.01.2024 14:30:00.5\
            |8 Jan 2024 14:30:00.5|08-JAN-2024 2:30:00.5 PM|08JAN2024:14:30:00.5|Jan 8, 2024 02:30:00.5pm\
            |Mon, 08 Jan 2024 14:30:00.500 GMT|2024-01-08 14:30:00.5 +0000 UTC|2024-01-08T20:00:00.5+0530\
            |2024-01-08T14:30:00.500000000999Z|2024-01-08D14:30:00.500000000|08.01.2024 15:30:00.500 GMT+0100";
        for text in spellings.split('|') {
            assert_eq!(seconds(text, None).as_deref(), Ok("1704724200.500000000"), "{text}");
        }
    }

    #[test]
    fn dates_and_times_of_day_are_read_alone() {
        let days = [("19700101", 0), ("2000-02-29", 11_016), ("1969-12-31", -1), ("9 March 2024", 19_791)];
        for (text, expected) in days {
            assert_eq!(stamp(text, None), Ok(Stamp { day: Some(expected), clock: None, offset: None }), "{text}");
        }
        let clocks =
            [("09:30", 34_200_000), ("12:00:00.25 AM", 250), ("12:30 PM", 45_000_000), ("23:59:60", 86_400_000)];
        for (text, millis) in clocks {
            let clock = Some(millis * 1_000_000);
            assert_eq!(stamp(text, None), Ok(Stamp { day: None, clock, offset: None }), "{text}");
        }
        for (text, millis) in [("0930", 34_200_000), ("93000", 34_200_000), ("000001123", 1_123), ("000000", 0)] {
            assert_eq!(digit_clock(text), Some(millis * 1_000_000), "{text}");
        }
        assert_eq!([digit_clock("2460"), digit_clock("256000"), digit_clock("12"), digit_clock("")], [None; 4]);
    }

    #[test]
    fn an_ambiguous_time_needs_a_setting() {
        assert!(seconds("01/08/2024 09:30:00", None).unwrap_err().contains("replay.date_order"));
        let read = |order| seconds("01/08/2024", Some(order));
        assert_eq!(read(DateOrder::Mdy).as_deref(), Ok("1704672000.000000000"));
        assert_eq!(read(DateOrder::Dmy).as_deref(), Ok("1722470400.000000000"));
        assert_eq!(day_and_month("13/08/2024 1:00 PM"), Some((13, 8)));
        assert_eq!(day_and_month("2024-01-08"), None);
    }

    #[test]
    fn text_that_is_no_time_is_refused() {
        let none = "|soon|12|2024-02-30|2023-02-29|2024-13-01|24-01-08|2024-01-08T25:00:00|2024-01-08T09:60|2024-01-08T9|20240108 9\
            |2024-01-08T09:30:00 EST|2024-01-08T09:30:00+99:00|2024-01-08T09:30:00+02:00 UTC|09:30:00.|09:30.5|2024-01-08 09:30,5|13:00 PM|0:30 AM|:|-|8.8\
            |2024-01-08T09:30:00 America/New_York|1704704400|１２:３０";
        for text in none.split('|') {
            assert!(seconds(text, Some(DateOrder::Mdy)).is_err(), "{text}");
        }
    }

    #[test]
    fn years_are_shown() {
        assert_eq!([year_of(0), year_of(-1), year_of(1_704_724_200 * SECOND)], [1970, 1969, 2024]);
    }
}
