//! Windows against a naive venue: a plain list of calls, each of which may take up to the jitter longer than another.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    Numbers,
    keyed::Keyed,
    numbers::Kind,
    window::{Claim, Refusal, Window},
};
use crate::rules::{stage::KeyIndex, time::Timestamp};

const MS: u64 = 1_000_000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn numbers(kind: Kind, limit: u64, jitter: u64) -> Numbers {
    Numbers { jitter: ms(jitter), skew: ms(20), ..Numbers::new(kind, limit) }
}

fn unpaced(cost: u64) -> Claim {
    Claim { cost, reserved: 0, paced: false }
}

/// A call that was drawn: when it came to the venue, and its cost.
#[derive(Debug, Clone, Copy)]
struct Call {
    came: u64,
    cost: u64,
}

/// The most that the venue counts at once.
fn venue_counts(calls: &[Call], kind: Kind, boundary: u64) -> u64 {
    let mut sorted: Vec<Call> = calls.to_vec();
    sorted.sort_by_key(|call| call.came);
    let sum_where =
        |holds: &dyn Fn(&Call) -> bool| sorted.iter().filter(|call| holds(call)).map(|call| call.cost).sum();
    match kind {
        Kind::Rolling { window } => {
            let window = window.as_nanos() as u64;
            let counts = |at: u64| sum_where(&|call| call.came <= at && at - call.came < window);
            sorted.iter().map(|call| counts(call.came)).max().unwrap_or(0)
        }
        Kind::Fixed { window } => {
            let number = |at: u64| (at - boundary) / window.as_nanos() as u64;
            sorted.iter().map(|call| sum_where(&|other| number(other.came) == number(call.came))).max().unwrap_or(0)
        }
        Kind::Decaying { per_unit } => {
            let (mut level, mut at, mut most) = (0.0_f64, 0, 0.0_f64);
            for call in &sorted {
                level = (level - (call.came - at) as f64 / per_unit.as_nanos() as f64).max(0.0) + call.cost as f64;
                (at, most) = (call.came, most.max(level));
            }
            // The level is a sum of fractions.
            (most - 1e-6).ceil() as u64
        }
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (50u64..500).prop_map(|window| Kind::Rolling { window: ms(window) }),
        (50u64..500).prop_map(|window| Kind::Fixed { window: ms(window) }),
        (1u64..50).prop_map(|unit| Kind::Decaying { per_unit: ms(unit) }),
    ]
}

proptest! {
    /// Goal: a venue never counts more than its limit, however long calls take and wherever in the skew its windows begin.
    /// Method: random draws, random delays, and the venue's own count.
    #[test]
    fn a_venue_never_counts_more_than_its_limit(
        kind in kinds(),
        limit in 1u64..30,
        jitter in 0u64..60,
        skew in 0u64..=40,
        steps in prop::collection::vec((0u64..60, 1u64..6, any::<bool>(), 0.0..1.0f64), 1..200),
    ) {
        let start = Timestamp::some();
        let mut window = Window::new(&numbers(kind, limit, jitter), start, start);
        let (mut now, mut calls) = (start, Vec::new());
        for (pause, cost, paced, delay) in steps {
            now = now.plus_nanos(pause * MS);
            match window.draw(Claim { cost, reserved: 0, paced }, now) {
                Ok(()) => {
                    let came = now.nanos() + (delay * (jitter * MS) as f64) as u64;
                    calls.push(Call { came, cost });
                }
                Err(Refusal::Never { limit: told }) => prop_assert!(cost > limit && told == limit),
                Err(Refusal::Until(until)) => prop_assert!(until > now),
            }
        }
        // The venue's clock is up to 20 ms ahead or behind. Its windows began long before.
        let length = match kind {
            Kind::Rolling { window } | Kind::Fixed { window } => window.as_nanos() as u64,
            Kind::Decaying { .. } => 1,
        };
        let boundary = start.nanos() + skew * MS - 20 * MS - 100 * length;
        prop_assert!(venue_counts(&calls, kind, boundary) <= limit, "{calls:?}");
    }

    /// Goal: a draw is refused only if the limit demands it, and is granted when it was said to be. Method: a plain list of
    /// all draws.
    #[test]
    fn no_draw_waits_longer_than_it_must(
        kind in kinds(),
        limit in 1u64..30,
        jitter in 0u64..60,
        steps in prop::collection::vec((0u64..60, 1u64..6), 1..200),
    ) {
        let start = Timestamp::some();
        let (mut now, mut drawn) = (start, Vec::<(u64, u64)>::new());
        let mut state = Window::new(&numbers(kind, limit, jitter), start, start);
        for (pause, cost) in steps {
            now = now.plus_nanos(pause * MS);
            let cost = cost.min(limit);
            match state.draw(unpaced(cost), now) {
                Ok(()) => drawn.push((now.nanos(), cost)),
                Err(Refusal::Until(until)) => {
                    let counted = may_count(&drawn, now.nanos(), kind, jitter * MS, start.nanos());
                    prop_assert!(counted + cost > limit, "{counted} of {limit} are used");
                    prop_assert!(state.clone().draw(unpaced(cost), until).is_ok());
                }
                Err(Refusal::Never { .. }) => prop_assert!(false, "it costs no more than the limit"),
            }
        }
    }
}

/// The most that the venue may count when a call is sent now, by a plain list of all draws. Clocks differ by up to 20 ms.
fn may_count(drawn: &[(u64, u64)], now: u64, kind: Kind, jitter: u64, boundary: u64) -> u64 {
    let skew = 20 * MS;
    match kind {
        Kind::Rolling { window } | Kind::Fixed { window } => {
            let window = window.as_nanos() as u64;
            // Draws within a grain count as one, made at the last of them.
            let rolls = |at: u64| now - at < window + jitter + window / 4096;
            let numbers = |at: u64| {
                let number = |at: u64| (at + 1000 * window - boundary) / window;
                number(at - skew)..=number(at + skew + jitter + window / 4096)
            };
            let is_rolling = matches!(kind, Kind::Rolling { .. });
            let sum = |number: u64| {
                let counts = |at: u64| rolls(at) && (is_rolling || numbers(at).contains(&number));
                drawn.iter().filter(|(at, _)| counts(*at)).map(|(_, cost)| cost).sum()
            };
            numbers(now).map(sum).max().unwrap_or(0)
        }
        Kind::Decaying { per_unit } => {
            let from = |first: usize| {
                let sum: u64 = drawn[first..].iter().map(|(_, cost)| cost).sum();
                let decayed = (now - drawn[first].0).saturating_sub(jitter) / per_unit.as_nanos() as u64;
                sum.saturating_sub(decayed) + u64::from(jitter > 0) * (jitter.div_ceil(per_unit.as_nanos() as u64))
            };
            (0..drawn.len()).map(from).max().unwrap_or(0)
        }
    }
}

/// Draws one unit at a time as often as allowed. Returns when.
fn saturate(window: &mut Window, length: u64) -> Vec<u64> {
    let start = Timestamp::some();
    let (mut now, mut drawn) = (start, Vec::new());
    while now.nanos_since(start) < length * MS {
        match window.draw(Claim { cost: 1, reserved: 0, paced: true }, now) {
            Ok(()) => drawn.push(now.nanos_since(start) / MS),
            // Timers have a resolution of a millisecond.
            Err(Refusal::Until(until)) => {
                now = Timestamp::from_nanos(start.nanos() + until.nanos_since(start).div_ceil(MS) * MS)
            }
            Err(Refusal::Never { .. }) => unreachable!("one unit is within the limit"),
        }
    }
    drawn
}

fn rolling(limit: u64, window: u64) -> Window {
    let start = Timestamp::some();
    Window::new(&numbers(Kind::Rolling { window: ms(window) }, limit, 50), start, start)
}

#[test]
fn pacing_costs_next_to_nothing_of_the_limit() {
    for (limit, window, at_least) in [(20, 1000, 0.94), (300, 10_000, 0.99), (1200, 60_000, 0.99), (50, 2000, 0.94)] {
        let windows = 20;
        let drawn = saturate(&mut rolling(limit, window), windows * window).len() as f64;
        let part = drawn / (limit * windows) as f64;
        assert!(part >= at_least, "{part} of {limit} in {window} ms");
    }
}

#[test]
fn calls_come_steadily_once_half_of_a_window_is_used() {
    let drawn = saturate(&mut rolling(20, 1000), 20_000);
    assert!(drawn[..10].iter().all(|at| *at == 0), "the first half is free");
    let longest = drawn.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    // An even rate is one each 50 ms, and half of it in the first window. Beyond it, what comes free late is used.
    assert!(longest <= 150, "{longest} ms without a call");
}

#[test]
fn what_is_reserved_is_left_for_what_matters() {
    let (mut window, now) = (rolling(10, 1000), Timestamp::some());
    let ordinary = Claim { cost: 1, reserved: 3, paced: false };
    assert_eq!((0..10).filter(|_| window.draw(ordinary, now).is_ok()).count(), 7);
    assert_eq!((0..10).filter(|_| window.draw(unpaced(1), now).is_ok()).count(), 3);
}

/// Goal: what other clients draw is kept free after the first report. Method: another client that takes half of the limit
/// steadily, in lumps.
#[test]
fn another_client_is_left_its_part() {
    for lump in [1, 5] {
        let (limit, start) = (100, Timestamp::some());
        let mut window = rolling(limit, 10_000);
        let mut calls: Vec<Call> = Vec::new();
        let (mut over, mut reports, mut ours) = (0, 0, 0);
        for step in 0..60_000 {
            let now = start.plus_nanos(step * MS);
            if step % (200 * lump) == 0 {
                calls.push(Call { came: now.nanos(), cost: lump });
            }
            let used = |calls: &[Call]| {
                calls
                    .iter()
                    .rev()
                    .take_while(|call| now.nanos() - call.came < 10_000 * MS)
                    .map(|call| call.cost)
                    .sum::<u64>()
            };
            if window.draw(Claim { cost: 1, reserved: 0, paced: true }, now).is_ok() {
                calls.push(Call { came: now.nanos(), cost: 1 });
                ours += 1;
                over += u64::from(used(&calls) > limit && reports > 0);
                window.departed();
                window.correct(used(&calls), now, true, now);
                window.returned();
                reports += 1;
            }
        }
        assert_eq!(over, 0, "calls over the limit, with lumps of {lump}");
        assert!(ours >= 200, "{ours} of 300 calls that the other leaves, with lumps of {lump}");
    }
}

/// Goal: keys seen once cost nothing afterwards. Method: 10,000 of them, one after the other, in windows of a second.
#[test]
fn windows_of_idle_keys_are_forgotten() {
    let index = Box::new(KeyIndex::new(|op: &u64| Some(*op)));
    let start = Timestamp::some();
    let mut keyed = Keyed::new(index, numbers(Kind::Rolling { window: ms(1000) }, 5, 0), start);
    for op in 0..10_000 {
        let now = start.plus_nanos(op * 10 * MS);
        keyed.sweep(now);
        let slot = keyed.slot(&op, now).unwrap();
        keyed.window(slot).draw(unpaced(1), now).unwrap();
    }
    assert!(keyed.len() <= 256, "{} windows are left, of which 100 count", keyed.len());
}

#[test]
fn the_larger_count_holds_while_other_calls_are_in_flight() {
    let (mut window, now) = (rolling(100, 10_000), Timestamp::some());
    (0..10).for_each(|_| window.draw(unpaced(1), now).unwrap());
    (0..2).for_each(|_| window.departed());
    window.correct(4, now, true, now);
    assert_eq!(window.used(now), 10);
    window.correct(30, now, true, now);
    assert_eq!(window.used(now), 30);
    window.returned();
    window.correct(4, now, true, now);
    assert_eq!(window.used(now), 30, "the venue may have answered before it counted the other one");
    window.returned();
    window.departed();
    window.correct(4, now, true, now);
    assert_eq!(window.used(now), 4);
}

/// Goal: a draw that is taken back takes no other one with it. Method: two batchers draw from a shared window, in each order of
/// costs, and the first one takes its draw back.
#[test]
fn a_draw_that_is_taken_back_is_that_of_its_batcher() {
    let start = Timestamp::some();
    for kind in
        [Kind::Decaying { per_unit: ms(1000) }, Kind::Rolling { window: ms(1000) }, Kind::Fixed { window: ms(1000) }]
    {
        for (first, second) in [(1, 50), (50, 1)] {
            let mut window = Window::new(&numbers(kind, 100, 0), start, start);
            window.draw(unpaced(first), start).unwrap();
            let now = start.plus_nanos(MS);
            window.draw(unpaced(second), now).unwrap();
            window.undo(first);
            assert_eq!(window.used(now), second, "{kind:?}");
        }
    }
}

/// Goal: statistics know the key that has used most. Method: keys use one unit more each, and then expire one after the other.
#[test]
fn the_key_that_has_used_most_is_known() {
    let index = Box::new(KeyIndex::new(|op: &u64| Some(*op)));
    let start = Timestamp::some();
    let mut keyed = Keyed::new(index, numbers(Kind::Rolling { window: ms(1000) }, 100, 0), start);
    for key in (0..50).chain((0..50).rev()) {
        let slot = keyed.slot(&key, start).unwrap();
        let now = start.plus_nanos((1000 - key) * MS);
        keyed.window(slot).draw(unpaced(key + 1), now).unwrap();
        keyed.changed(slot, now);
    }
    assert_eq!(keyed.most_used(start.plus_nanos(1000 * MS)), 100);
    for key in (0..49).rev() {
        let now = start.plus_nanos((2000 - key - 1) * MS);
        (0..50).for_each(|_| keyed.sweep(now));
        assert_eq!(keyed.most_used(now), 2 * (key + 1));
    }
}

/// Goal: a venue that has shown that its windows begin elsewhere is not trusted again. Method: the key comes after the pause that
/// the venue asked for.
#[test]
fn new_keys_know_that_windows_begin_elsewhere() {
    let index = Box::new(KeyIndex::new(|op: &u64| Some(*op)));
    let start = Timestamp::some();
    let mut keyed = Keyed::new(index, numbers(Kind::Fixed { window: ms(1000) }, 1, 0), start);
    keyed.throttled();
    let slot = keyed.slot(&1, start).unwrap();
    keyed.window(slot).draw(unpaced(1), start.plus_nanos(900 * MS)).unwrap();
    assert!(keyed.window(slot).draw(unpaced(1), start.plus_nanos(1100 * MS)).is_err());
}
