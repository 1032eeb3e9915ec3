//! The row `symbols`: the cost of a `Symbol` as a key, by hash, comparison and look-up, in CPU time of one thread.

use std::{
    hash::BuildHasher,
    hint::black_box,
    time::{Duration, Instant},
};

use hashbrown::{DefaultHashBuilder, HashMap};
use roundlot::market::Symbol;

use super::Row;
use crate::{
    Error,
    bench::Bench,
    clock::{Span, thread_cpu},
    measure::{Variant, measure, named},
    op::Dice,
    report::Report,
};

pub(super) const ROW: Row = Row { name: "symbols", about: "hashing, comparing and looking up a symbol", run };

/// The number of symbols in a table: as many as a busy venue lists.
const MANY: u64 = 10_000;

/// The number of symbols that are hashed and compared in turn: as many as a bot watches, so they stay in CPU caches.
///
/// A power of two makes the modulo cheap.
const WALKED: usize = 128;

/// The number of look-ups before their order repeats: a power of two for a cheap modulo.
const DRAWN: usize = 4096;

const SYMBOLS: &str = "look up 1 of 10,000 symbols";
const NUMBERS: &str = "look up 1 of 10,000 u64";

fn run(bench: &Bench) -> Result<Report, Error> {
    let all = (0..MANY).map(name).collect::<Result<Vec<Symbol>, _>>()?;
    // `walked` pairs each name with a copy elsewhere in memory, `apart` with the next name, which differs near its end.
    let walked: Vec<(Symbol, Symbol)> = all.iter().copied().zip(all.iter().copied()).take(WALKED).collect();
    let apart: Vec<(Symbol, Symbol)> = all.iter().copied().zip(all.iter().copied().skip(1)).take(WALKED).collect();
    let hasher = DefaultHashBuilder::default();
    let by_symbol: HashMap<Symbol, u64> = all.iter().copied().zip(0..).collect();
    let by_number: HashMap<u64, u64> = (0..MANY).map(|number| (number, number)).collect();
    let order = drawn();
    let variants = vec![
        Variant::timed("hash", |ops| walk(ops, |i| hasher.hash_one(walked[i % WALKED].0))),
        Variant::timed("compare equal ones", |ops| {
            walk(ops, |i| u64::from(walked[i % WALKED].0 == walked[i % WALKED].1))
        }),
        Variant::timed("compare different ones", |ops| {
            walk(ops, |i| u64::from(apart[i % WALKED].0 == apart[i % WALKED].1))
        }),
        Variant::timed("order", |ops| walk(ops, |i| apart[i % WALKED].0.cmp(&apart[i % WALKED].1) as u64)),
        Variant::timed(SYMBOLS, |ops| walk(ops, |i| by_symbol[&all[order[i % DRAWN]]])),
        Variant::timed(NUMBERS, |ops| walk(ops, |i| by_number[&(order[i % DRAWN] as u64)])),
    ];
    let results = measure(bench, variants);
    let ratio = named(&results, SYMBOLS).cpu_against(named(&results, NUMBERS));
    Ok(Report::of(&results)
        .left_out("all peers", "none has a type for it")
        .note(format!("A symbol takes {} bytes.", size_of::<Symbol>()))
        .figure("symbol_lookup_vs_u64", ratio))
}

/// Makes a symbol of five to nine characters, a length that most names of venues have.
fn name(i: u64) -> Result<Symbol, Error> {
    let quote = ["USDT", "USDC", "BTC", "EUR"][i as usize % 4];
    Ok(Symbol::new(&format!("C{}{quote}", i / 4))?)
}

/// Draws the random order of the look-ups.
fn drawn() -> Vec<usize> {
    let mut dice = Dice::new(3);
    (0..DRAWN).map(|_| dice.below(MANY) as usize).collect()
}

/// Runs `each` for the numbers of all ops and measures the CPU time of this thread.
fn walk(ops: u64, mut each: impl FnMut(usize) -> u64) -> (u64, Span) {
    let (at, cpu) = (Instant::now(), thread_cpu());
    for i in 0..ops {
        black_box(each(black_box(i as usize)));
    }
    (ops, Span { cpu: Duration::from_nanos(thread_cpu() - cpu), wall: at.elapsed() })
}
