//! The search for a cap by time before destinations that are functions: a queue that never ends, and a cost per size and time.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A destination with the state of a generator of luck.
struct Bench {
    size: ByTime,
    now: Timestamp,
    luck: u64,
    events: Vec<CapEvent>,
    landed: usize,
}

impl Bench {
    fn new(most: usize, seed: u64) -> Self {
        let size = ByTime::new(most, 1);
        Self { size, now: Timestamp::some(), luck: seed, events: Vec::new(), landed: 0 }
    }

    /// A number in 0..1 (SplitMix64).
    fn random(&mut self) -> f64 {
        self.luck = self.luck.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.luck ^ (self.luck >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A factor of luck with a lognormal distribution (Box and Muller, 1958).
    fn lognormal(&mut self, sigma: f64) -> f64 {
        let (one, other) = (1.0 - self.random(), self.random());
        (sigma * (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()).exp()
    }

    /// Writes full batches for so long, each at a cost in milliseconds.
    fn run(&mut self, seconds: f64, mut cost: impl FnMut(&mut Self, usize, f64) -> f64) {
        let start = self.now;
        loop {
            let at = self.now.since(start).as_secs_f64();
            if at >= seconds {
                return;
            }
            let cap = self.size.cap();
            let nanos = (cost(self, cap, at) * 1e6) as u64;
            self.now = self.now.checked_add(Duration::from_nanos(nanos)).expect("a test is short");
            let landing = Landing { size: cap, cap, is_full: true, nanos, in_flight: 1 };
            self.events.extend(self.size.landed(&landing, self.now));
            self.landed += cap;
        }
    }
}

fn linear(size: usize) -> f64 {
    5.0 + 0.1 * size as f64
}

/// Linear up to a size, and quadratic beyond.
fn knee(size: usize, at: f64) -> f64 {
    let over = (size as f64 - at).max(0.0) / at;
    linear(size) + 0.3 * at * over * over
}

/// Goal: the cap is close to the knee, wherever that is, soon. Method: 20 seconds of writes before knees of several sizes,
/// then the throughput of ten more, against the best size.
#[test]
fn a_knee_is_found_and_held() {
    for at in [60.0, 100.0, 333.0, 500.0, 2000.0] {
        let mut bench = Bench::new(16_384, 1);
        bench.run(20.0, |_, size, _| knee(size, at));
        assert!(matches!(bench.events[..], [CapEvent::Held(_)]), "{at}: {:?}", bench.events);
        bench.landed = 0;
        bench.run(10.0, |_, size, _| knee(size, at));
        let best = (1..5000).map(|size| size as f64 / knee(size, at)).fold(0.0, f64::max) * 1000.0;
        let share = bench.landed as f64 / 10.0 / best;
        assert!(share > 0.95, "{share} of the best at a knee of {at}, cap {:?}", bench.size.held);
    }
}

#[test]
fn both_costs_of_a_held_cap_are_told() {
    let mut bench = Bench::new(16_384, 1);
    bench.run(10.0, |_, size, _| knee(size, 500.0));
    let Some(CapEvent::Held(proof)) = bench.events.first() else { panic!("{:?}", bench.events) };
    for (size, nanos) in [(proof.small, proof.small_nanos), (proof.large, proof.large_nanos)] {
        let cost = knee(size, 500.0) * 1e6 / size as f64;
        assert!((nanos / cost - 1.0).abs() < 0.01, "{nanos} is not {cost}");
    }
    assert!(proof.large_nanos > proof.small_nanos);
}

/// Goal: a destination without a knee has no cap, however unlucky its writes. Method: a minute of noise from many seeds; at its
/// end nearly all have grown to sizes at which a call's share of the cost is small.
#[test]
fn noise_holds_no_cap() {
    let seeds = 1..=60;
    let held = seeds.filter(|seed| {
        let mut bench = Bench::new(16_384, *seed);
        bench.run(60.0, |bench, size, _| linear(size) * bench.lognormal(1.0));
        bench.size.settled_cap() < 1000
    });
    let held = held.count();
    assert!(held <= 3, "{held} of 60 are held below 1,000");
}

/// Goal: a cap that proves nothing any more is let go. Method: a knee for ten seconds, and none for as long as the steps up take.
#[test]
fn a_cap_is_let_go_when_the_knee_is_gone() {
    let mut bench = Bench::new(16_384, 1);
    bench.run(10.0, |_, size, _| knee(size, 200.0));
    assert!(bench.size.held.is_some());
    bench.run(90.0, |_, size, _| linear(size));
    assert_eq!(bench.size.settled_cap(), 16_384);
    assert!(matches!(bench.events[..], [CapEvent::Held(_), CapEvent::Released(_)]), "{:?}", bench.events);
}

/// Goal: a single write that stalls does not keep a cap for long. Method: a knee, then a stall of a minute in a comparison, and no
/// knee any more.
#[test]
fn a_stalled_write_keeps_no_cap() {
    let mut bench = Bench::new(16_384, 1);
    bench.run(10.0, |_, size, _| knee(size, 200.0));
    let held = bench.size.held.expect("a knee is found");
    let mut stalls = 1;
    bench.run(65.0, |_, size, _| {
        if size > held && stalls > 0 {
            stalls -= 1;
            return 60_000.0;
        }
        knee(size, 200.0)
    });
    assert_eq!(stalls, 0, "a larger size was compared");
    bench.run(180.0, |_, size, _| linear(size));
    assert_eq!(bench.size.settled_cap(), 16_384);
}

/// Goal: the cap follows an optimum that moves eightfold in a minute, both ways. Method: its throughput against that of an
/// oracle that knows the knee.
#[test]
fn a_cap_follows_an_optimum_that_moves() {
    for up in [true, false] {
        let at = |second: f64| {
            let moved = 8.0_f64.powf(second / 60.0);
            if up { 100.0 * moved } else { 800.0 / moved }
        };
        let mut bench = Bench::new(16_384, 1);
        bench.run(60.0, |_, size, second| knee(size, at(second)));
        let oracle: f64 =
            (0..600).map(|tenth| at(f64::from(tenth) / 10.0)).map(|at| at / linear(at as usize) * 100.0).sum();
        let share = bench.landed as f64 / oracle;
        assert!(share > 0.88, "{share} of the oracle's, upward: {up}");
    }
}

/// Goal: a level that changes for all sizes is not taken for a knee. Method: everything takes four times as long for a while.
#[test]
fn a_change_of_level_holds_no_cap() {
    let mut bench = Bench::new(16_384, 1);
    bench.run(10.0, |_, size, _| linear(size));
    bench.run(60.0, |_, size, second| linear(size) * if second < 30.0 { 4.0 } else { 1.0 });
    assert!(bench.size.settled_cap() > 4096 && bench.events.is_empty(), "{:?}", bench.size);
}

/// Goal: batches that the load makes, and not the cap, meet no cap. Method: a trickle, and batches that never fill.
#[test]
fn batches_that_do_not_fill_meet_no_cap() {
    let mut size = ByTime::new(16_384, 1);
    let mut now = Timestamp::some();
    for number in 0..10_000usize {
        let landing = Landing {
            size: 1 + number % 40,
            cap: size.cap(),
            is_full: false,
            nanos: (1 + number as u64 % 7) * 1_000_000,
            in_flight: 1,
        };
        now = now.checked_add(Duration::from_millis(100)).expect("a test is short");
        let event = size.landed(&landing, now);
        assert!(event.is_none() && size.cap() > landing.size || size.phase == Phase::Test, "{size:?}");
    }
    assert_eq!(size.held, None);
}

proptest! {
    /// Goal: whatever lands, the cap stays within its bounds. Method: random sizes, times and bounds.
    #[test]
    fn the_cap_stays_within_its_bounds(
        steps in prop::collection::vec((1usize..5000, 0u64..5_000_000_000, 1usize..5, any::<bool>(), 0u8..20), 0..400),
    ) {
        let (mut size, mut now, mut most, mut floor) = (ByTime::new(3000, 10), Timestamp::some(), 3000, 10);
        for (ops, nanos, in_flight, is_full, what) in steps {
            now = now.checked_add(Duration::from_nanos(nanos)).expect("a test is short");
            let cap = size.cap();
            prop_assert!((floor.min(most)..=most).contains(&cap), "{size:?}");
            match what {
                0 => {
                    most = ops;
                    size.set_most(most);
                }
                1 => {
                    (most, floor) = (ops, (ops / 10).max(1));
                    size.set_bounds(most, floor);
                }
                _ => {
                    let ops = if is_full { cap } else { ops.min(cap) };
                    size.landed(&Landing { size: ops, cap, is_full, nanos, in_flight }, now);
                }
            }
        }
    }
}
