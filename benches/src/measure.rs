//! The harness, which measures variants that do the same job. Rows call it.
//!
//! Variants take turns in each round, so that other load on the machine affects all variants alike.

use std::fmt;

use crate::{
    alloc::{self, Counted},
    bench::Bench,
    clock::{Span, Stopwatch},
    statistics::{self, Summary},
};

/// A way to do the job of a row.
pub struct Variant<'a> {
    /// The name in the table and for [`named`].
    pub name: &'static str,
    run: Box<dyn FnMut(u64) -> (u64, Span) + 'a>,
}

impl<'a> Variant<'a> {
    /// Makes a variant of a `run` that gets a number of ops and returns how many it did. All of `run` is measured.
    ///
    /// `run` checks that all ops arrived, and may do a few more or less than it was told.
    pub fn new(name: &'static str, mut run: impl FnMut(u64) -> u64 + 'a) -> Self {
        Self::timed(name, move |ops| {
            let watch = Stopwatch::start();
            let done = run(ops);
            (done, watch.stop())
        })
    }

    /// Makes a variant of a `run` that measures itself, so that its preparations are not measured.
    pub fn timed(name: &'static str, run: impl FnMut(u64) -> (u64, Span) + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

impl fmt::Debug for Variant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variant").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The results of a variant. Vectors hold one value per timed round, in the order of the rounds.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub name: &'static str,
    pub ops_per_second: Vec<f64>,
    pub cpu_ns_per_op: Vec<f64>,
    /// Allocations and reallocations per op in the counting run.
    pub allocations_per_op: f64,
    /// The peak of the heap above its start, in bytes, in the counting run.
    pub peak_bytes: u64,
}

impl Measured {
    fn note(&mut self, done: u64, span: Span) {
        let ops = done as f64;
        self.ops_per_second.push(ops / span.wall.as_secs_f64().max(1e-9));
        self.cpu_ns_per_op.push(span.cpu.as_nanos() as f64 / ops);
    }

    pub fn speed(&self) -> Summary {
        Summary::of(&self.ops_per_second)
    }

    pub fn cpu(&self) -> Summary {
        Summary::of(&self.cpu_ns_per_op)
    }

    /// The median ratio of this variant's speed to the other's within a round, by the wall clock.
    pub fn speed_against(&self, other: &Self) -> f64 {
        statistics::paired_ratio(&self.ops_per_second, &other.ops_per_second)
    }

    /// The median ratio of this variant's CPU time per op to the other's within a round.
    pub fn cpu_against(&self, other: &Self) -> f64 {
        statistics::paired_ratio(&self.cpu_ns_per_op, &other.cpu_ns_per_op)
    }
}

/// Finds the result of the variant of this name.
///
/// # Panics
///
/// Panics if the row has no such variant, which is a bug in the row.
pub fn named<'a>(results: &'a [Measured], name: &str) -> &'a Measured {
    results.iter().find(|measured| measured.name == name).expect("the row has a variant of this name")
}

/// Runs each variant in each round for about [`Bench::round`], and once more to count its allocations.
pub fn measure(bench: &Bench, mut variants: Vec<Variant<'_>>) -> Vec<Measured> {
    let sizes: Vec<u64> = variants.iter_mut().map(|variant| fitting(bench, variant)).collect();
    measure_sized(bench, variants, &sizes)
}

/// Runs all variants with `ops` ops each, after a warm-up run of that size.
pub fn measure_fixed(bench: &Bench, variants: Vec<Variant<'_>>, ops: u64) -> Vec<Measured> {
    let sizes = vec![ops; variants.len()];
    measure_each(bench, variants, &sizes)
}

/// Runs each variant with its own size, for variants whose speeds differ too much for one size.
pub fn measure_each(bench: &Bench, mut variants: Vec<Variant<'_>>, sizes: &[u64]) -> Vec<Measured> {
    for (variant, size) in variants.iter_mut().zip(sizes) {
        (variant.run)(*size);
    }
    measure_sized(bench, variants, sizes)
}

fn measure_sized(bench: &Bench, mut variants: Vec<Variant<'_>>, sizes: &[u64]) -> Vec<Measured> {
    let mut results: Vec<Measured> =
        variants.iter().map(|variant| Measured { name: variant.name, ..Measured::default() }).collect();
    for round in 0..bench.rounds {
        for i in order(round, variants.len()) {
            let (done, span) = (variants[i].run)(sizes[i]);
            results[i].note(done, span);
        }
    }
    for ((variant, result), size) in variants.iter_mut().zip(&mut results).zip(sizes) {
        let mut done = 1;
        let Counted { calls, peak_bytes } = alloc::counted(|| done = (variant.run)(*size).0);
        result.allocations_per_op = calls as f64 / done as f64;
        result.peak_bytes = peak_bytes;
    }
    results
}

/// The order of the variants in a round. Each round begins with the next variant, so that no variant always runs first.
fn order(round: usize, variants: usize) -> impl Iterator<Item = usize> {
    (0..variants).map(move |i| (round + i) % variants)
}

/// Finds the number of ops that take about the time of a round. The runs with doubled sizes are the warm-up.
fn fitting(bench: &Bench, variant: &mut Variant<'_>) -> u64 {
    let enough = bench.round() / 2;
    let mut ops = 1024;
    loop {
        let (done, span) = (variant.run)(ops);
        if span.wall >= enough || ops >= 1 << 28 {
            let fits = done as f64 * bench.round().as_secs_f64() / span.wall.as_secs_f64().max(1e-9);
            return (fits as u64).max(1);
        }
        ops *= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration};

    use super::*;

    #[test]
    fn the_turns_rotate() {
        let turns = |round| order(round, 3).collect::<Vec<_>>();
        assert_eq!([turns(0), turns(1), turns(2), turns(3)], [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    /// Goal: variants take turns, with a warm-up first and a counting run last. Method: two variants log their names.
    #[test]
    fn variants_take_turns() {
        let bench = Bench::new(1.0, Some(2)).unwrap();
        let log = RefCell::new(String::new());
        let variant = |name: &'static str, seconds: u64| {
            let log = &log;
            Variant::timed(name, move |ops| {
                log.borrow_mut().push_str(name);
                (ops, Span { wall: Duration::from_secs(seconds), cpu: Duration::from_secs(2 * seconds) })
            })
        };
        let results = measure_fixed(&bench, vec![variant("a", 1), variant("b", 2)], 10);
        assert_eq!(log.borrow().as_str(), "abab".to_owned() + "baab");
        assert_eq!(results[1].ops_per_second, [5.0, 5.0]);
        assert_eq!(named(&results, "a").speed_against(&results[1]), 2.0);
        assert_eq!(results[0].cpu().median, 0.2e9);
    }
}
