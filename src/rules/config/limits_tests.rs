//! Limits in code and in files say the same, and mistakes are told where they are.

use super::*;

#[test]
fn contradictions_name_their_field() {
    let second = Duration::from_secs(1);
    let cases = [
        ("max_items", Limits::new(0)),
        ("max_weight", Limits::new(1).max_weight(0)),
        ("max_pending", Limits::new(1).max_pending(0)),
        ("max_pending", Limits::new(1).max_pending(usize::MAX)),
        ("max_in_flight", Limits::new(1).max_in_flight(0)),
        ("write_timeout", Limits::new(1).write_timeout(Duration::ZERO)),
        ("adaptive_floor", Limits::new(10).adaptive_floor(0)),
        ("adaptive_floor", Limits::new(10).adaptive_floor(11)),
    ];
    for (field, limits) in cases {
        assert_eq!(limits.check().unwrap_err().field(), field);
    }
    assert!(Limits::new(1).write_timeout(second).shutdown_timeout(Duration::ZERO).check().is_ok());
    assert!(Limits::new(usize::MAX).check().is_ok(), "no cap on the items of a batch is a setting, too");
}

#[test]
fn the_default_of_max_pending_follows_max_items() {
    assert_eq!(Limits::new(10).max_pending, 65_536);
    assert_eq!(Limits::new(100_000).max_pending, 200_000);
    assert_eq!(Limits::new(10).max_items(100_000), Limits::new(100_000));
    assert_eq!(Limits::new(10).max_pending(7).max_items(100_000).max_pending, 7);
    let file = toml::from_str::<Limits>("max_items = 100000").unwrap();
    assert_eq!(file, Limits::new(100_000));
}

#[test]
fn files_say_the_same_as_code() {
    let limits = Limits::new(7)
        .max_weight(9)
        .linger(Duration::from_millis(1500))
        .max_pending(11)
        .max_in_flight(3)
        .overflow(Overflow::EvictLowest)
        .write_timeout(Duration::from_secs(90))
        .shutdown_timeout(Duration::MAX)
        .adaptive(true)
        .adaptive_floor(2);
    let text = toml::to_string(&limits).unwrap();
    assert!(text.contains("linger = \"1s 500ms\""), "{text}");
    assert_eq!(toml::from_str::<Limits>(&text).unwrap(), limits);
    assert_eq!(toml::from_str::<Limits>("max_items = 5").unwrap(), Limits::from(5));
}

#[test]
fn files_with_mistakes_are_told_where() {
    let cases = [
        ("max_items = 5\nmax_itmes = 6", "max_itmes"),
        ("max_items = 5\nlinger = \"10\"", "\"10\" is no duration"),
        ("max_items = 5\nlinger = 10", "with its unit"),
        ("max_items = 5\noverflow = \"drop\"", "evict_oldest"),
        ("max_items = 5\nmax_in_flight = 0", "max_in_flight must be at least 1"),
    ];
    for (file, expected) in cases {
        let error = toml::from_str::<Limits>(file).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
