//! Tests of `times`: single values, in each unit.

use super::*;

fn times(unit: Option<Unit>) -> Times {
    let age = Age { now: 1_767_225_600 * SECOND };
    Times { column: 0, date: Date::Said, unit, order: None, offset: 0, decimals: Decimals::PLAIN, age }
}

#[test]
fn times_are_exact_in_each_unit() {
    let cases = [
        ("1723075200123", Unit::Ms, 1_723_075_200_123_000_000),
        ("1723075200123456", Unit::Us, 1_723_075_200_123_456_000),
        ("1723075200123456789", Unit::Ns, 1_723_075_200_123_456_789),
        ("1723075200.123456789", Unit::S, 1_723_075_200_123_456_789),
        ("1.723075200e9", Unit::S, 1_723_075_200_000_000_000),
        ("0", Unit::Us, 0),
        ("-5", Unit::Ms, -5_000_000),
        ("2024-08-08T00:00:00.123Z", Unit::Iso, 1_723_075_200_123_000_000),
        ("2024-08-08 00:00:00+00:00", Unit::Iso, 1_723_075_200_000_000_000),
        ("1969-12-31 23:59:59.5", Unit::Iso, -500_000_000),
        ("20240808", Unit::Digits, 1_723_075_200_000_000_000),
        ("20240808000000.5", Unit::Digits, 1_723_075_200_500_000_000),
        ("45512.25", Unit::Excel, 1_723_096_800_000_000_000),
    ];
    for (text, unit, expected) in cases {
        assert_eq!(times(Some(unit)).full(text), Ok(expected), "{text}");
    }
    for (text, unit) in [
        ("", Unit::Ms),
        ("soon", Unit::Ms),
        ("9223372036855", Unit::Ms),
        ("1.723e9", Unit::S),
        ("18446744073709551615", Unit::Ns),
        ("12:30", Unit::Iso),
        ("2024080", Unit::Digits),
        ("20240808.5", Unit::Digits),
        ("1e20", Unit::Excel),
    ] {
        assert!(times(Some(unit)).full(text).is_err(), "{text}");
    }
}

/// Goal: a number is a plausible time in one unit at most. Method: both ends of the range, and numbers between units.
#[test]
fn a_number_has_one_unit_of_time() {
    let guess = |text: &str| times(None).guessed(text).ok().map(|(_, unit)| unit);
    for (zeros, unit) in [("", Unit::S), ("000", Unit::Ms), ("000000", Unit::Us), ("000000000", Unit::Ns)] {
        for seconds in ["631152000", "1704704400", "1767225599"] {
            if seconds.len() == 9 && zeros.len() > 3 {
                // No feed counted that finely at that time.
                assert_eq!(guess(&format!("{seconds}{zeros}")), None);
                continue;
            }
            assert_eq!(guess(&format!("{seconds}{zeros}")), Some(unit), "{seconds}{zeros}");
        }
        assert_eq!(guess(&format!("631151999{zeros}")), None);
        assert_eq!(guess(&format!("2704704400{zeros}")), None);
    }
    for text in ["19900101", "20240108", "202401080930", "20240108093000", "20240108093000123"] {
        assert_eq!(guess(text), Some(Unit::Digits), "{text}");
    }
    for text in ["0", "1", "153000", "45299", "20241332", "2024010809", "19851231", "9223372036854775807", "240108", ""]
    {
        assert_eq!(guess(text), None, "{text}");
    }
    assert_eq!(guess("2024-01-08"), Some(Unit::Iso));
    // The ticks of .NET and nanoseconds of kdb+ of 2024, and last a time of 1970.
    for text in ["638403210000000000", "757987200000000000", "757987200000000"] {
        assert!(times(None).guessed(text).unwrap_err().contains("another day than 1970"), "{text}");
    }
    assert_eq!(guess("1000000000000000000"), Some(Unit::Ns));
}
