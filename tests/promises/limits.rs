//! Tests of settings: a bad one is an error that names the field, from code, from a file or at run time.

use std::time::Duration;

use roundlot::{
    Batcher, Limits, Overflow, SetLimitsError, Stages,
    testing::{Recorder, until_idle},
};

use crate::{AGES, at_once, ms, secs};

/// Goal: a file has the names of the code, and durations with units. Method: every setting, then one, then none.
#[test]
fn limits_from_a_file_equal_limits_from_code() {
    let file = r#"
        max_items = 500
        max_weight = 65536
        linger = "10ms"
        max_pending = 100000
        max_in_flight = 4
        overflow = "evict_lowest"
        write_timeout = "1m 30s"
        shutdown_timeout = "max"
        adaptive = true
        adaptive_floor = 20
    "#;
    let code = Limits::new(500)
        .max_weight(65536)
        .linger(ms(10))
        .max_pending(100_000)
        .max_in_flight(4)
        .overflow(Overflow::EvictLowest)
        .write_timeout(secs(90))
        .shutdown_timeout(Duration::MAX)
        .adaptive(true)
        .adaptive_floor(20);
    assert_eq!(toml::from_str::<Limits>(file).unwrap(), code);
    assert_eq!(toml::from_str::<Limits>(&toml::to_string(&code).unwrap()).unwrap(), code);
    assert_eq!(toml::from_str::<Limits>("max_items = 7").unwrap(), Limits::new(7));
    assert_eq!(toml::from_str::<Limits>("").unwrap(), Limits::default());
    for (name, overflow) in
        [("wait", Overflow::Wait), ("reject", Overflow::Reject), ("evict_oldest", Overflow::EvictOldest)]
    {
        let file = format!("max_items = 1\noverflow = \"{name}\"");
        assert_eq!(toml::from_str::<Limits>(&file).unwrap(), Limits::new(1).overflow(overflow));
    }
}

/// Goal: a mistake in a file is an error that names it. Method: unknown fields, wrong types, false units, numbers out
/// of range, contradictions.
#[test]
fn mistakes_in_a_file_are_named() {
    let cases = [
        ("max_items = 0", "max_items must be at least 1"),
        ("max_items = -1", "max_items"),
        ("max_items = \"5\"", "max_items"),
        ("max_items = 5\nmax_itmes = 5", "max_itmes"),
        ("max_items = 5\nlinger = 10", "\"10ms\""),
        ("max_items = 5\nlinger = \"10\"", "\"10\" is no duration"),
        ("max_items = 5\nlinger = \"-1s\"", "-1s"),
        ("max_items = 5\noverflow = \"drop\"", "drop"),
        ("max_items = 5\nmax_weight = 0", "max_weight must be at least 1"),
        ("max_items = 5\nmax_pending = 0", "max_pending must be at least 1"),
        ("max_items = 5\nmax_in_flight = 0", "max_in_flight must be at least 1"),
        ("max_items = 5\nwrite_timeout = \"0s\"", "write_timeout must be longer than zero"),
    ];
    for (file, named) in cases {
        let error = toml::from_str::<Limits>(file).unwrap_err().to_string();
        assert!(error.contains(named), "{file:?}: {error}");
    }
}

/// Goal: contradictions are errors at build time that name the field. Method: `try_spawn` and `try_split` of each.
#[tokio::test(start_paused = true)]
async fn contradictions_are_errors_at_build_time() {
    type Make = fn() -> (Stages<u32>, Limits);
    let cases: [(&str, Make); 8] = [
        ("max_items", || (Stages::new(), Limits::new(0))),
        ("max_pending", || (Stages::new(), Limits::new(1).max_pending(0))),
        ("max_pending", || (Stages::new(), Limits::new(1).max_pending(usize::MAX))),
        ("max_in_flight", || (Stages::new(), Limits::new(1).max_in_flight(0))),
        ("write_timeout", || (Stages::new(), Limits::new(1).write_timeout(Duration::ZERO))),
        ("max_weight", || (Stages::new(), Limits::new(1).max_weight(1))),
        ("aging", || (Stages::new().aging(ms(1)), Limits::new(1))),
        ("aging", || (Stages::new().priority_by(|op| *op).aging(Duration::ZERO), Limits::new(1))),
    ];
    for (field, make) in cases {
        let batcher = || {
            let (stages, limits) = make();
            Batcher::<u32, (), _>::new(Recorder::new()).stages(stages).limits(limits)
        };
        let error = batcher().try_spawn().unwrap_err();
        assert_eq!(error.field(), field);
        assert!(error.to_string().starts_with(field), "{error}");
        assert_eq!(batcher().try_split().unwrap_err(), error);
    }
}

/// Goal: the panic of `spawn` names the mistake. Method: limits of zero items.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "max_items must be at least 1")]
async fn spawn_panics_with_the_name_of_the_field() {
    let _ = Batcher::<u32, (), _>::new(Recorder::new()).limits(0).spawn();
}

/// Goal: bad limits at run time are errors, and change nothing. Method: three mistakes, and then a batch by the old
/// limits.
#[tokio::test(start_paused = true)]
async fn limits_that_are_refused_at_run_time_change_nothing() {
    let sink = Recorder::new();
    let (desk, worker) = Batcher::new(sink.clone()).limits((2, AGES)).spawn();
    for (field, limits) in [
        ("max_items", Limits::new(0)),
        ("max_weight", Limits::new(1).max_weight(5)),
        ("max_in_flight", Limits::new(1).max_in_flight(0)),
    ] {
        let Err(SetLimitsError::Invalid(error)) = desk.set_limits(limits) else { panic!("{field} was taken") };
        assert_eq!(error.field(), field);
    }
    desk.send_all([1, 2, 3]).await.unwrap();
    until_idle().await;
    assert_eq!(sink.batches(), [[1, 2]]);
    at_once(worker.shutdown().into_future()).await.unwrap();
    assert_eq!(desk.set_limits(5), Err(SetLimitsError::Closed));
}

/// Goal: the last of several changes counts, as a whole. Method: three changes before the task has looked.
#[tokio::test(start_paused = true)]
async fn the_last_of_several_set_limits_calls_counts() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits(Limits::new(9).linger(AGES).max_pending(4)).spawn();
    desk.pause().await.unwrap();
    until_idle().await;
    for (items, pending) in [(1, 100), (5, 1), (3, 6)] {
        desk.set_limits(Limits::new(items).linger(AGES).max_pending(pending)).unwrap();
    }
    until_idle().await;
    assert_eq!((0..20).filter(|op| desk.try_send(*op).is_ok()).count(), 6);
    desk.resume().await.unwrap();
    until_idle().await;
    assert_eq!(sink.batches(), [[0, 1, 2], [3, 4, 5]]);
}
