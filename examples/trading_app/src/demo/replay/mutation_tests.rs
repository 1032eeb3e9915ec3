//! Files of vendors with some bytes changed: each is refused with a reason, or each of its rows is a tick or has a problem, and the
//! same twice.

use super::testing::{none, opened};
use crate::bot::venue::Rng;

/// Files as vendors export them.
const SEEDS: [&str; 6] = [
    include_str!("../../../data/updates.csv"),
    include_str!("../../../data/BTCUSDT-trades-2024-08-08.csv"),
    "<TICKER>,<PER>,<DATE>,<TIME>,<CLOSE>\nABC.US,D,20240108,000000,1\nABC.US,D,20240109,000000,1",
    "Export of 2024-01-08\nDate;Time;Last;Volume;Side\n08.01.2024;09:30:00,123;1.234,50;10;B\n08.01.2024;09:30:01;1.234,60;7;S\n",
    "\u{feff}timestamp\tsymbol\tprice\tamount\n2024-01-08T09:30:00.000+02:00\tBTC/USDT\t\"61,250.10\"\t-0.5\n",
    "time,price,side\n1704706200.5,1e-5,buy\n1704706201.5,1.1e-5,SELL\n",
];

/// Files that are made of each seed.
const MUTATIONS: u64 = 300;

/// Pieces that are most often mistaken.
const PIECES: [&[u8]; 12] = [
    b"\"",
    b"\n",
    b",",
    b";",
    b"\x00",
    b"\xff\xfe",
    b"\xc3",
    b"-",
    b"1e999",
    b"99999999999999999999",
    b"\r",
    b"\xef\xbb\xbf",
];

fn mutated(seed: &str, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    let mut below = |end: usize| rng.below(end as u64) as usize;
    for _ in 0..1 + below(4) {
        let at = below(bytes.len() + 1);
        let end = bytes.len().min(at + below(12));
        match below(5) {
            0 if at < bytes.len() => bytes[at] = below(256) as u8,
            1 => drop(bytes.splice(at..end, [])),
            2 => bytes.truncate(at),
            3 => {
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            _ => drop(bytes.splice(at..end, PIECES[below(PIECES.len())].iter().copied())),
        }
    }
    bytes
}

/// Goal: no file makes the app fail otherwise than by a reason. Method: files with changed bytes, each read twice.
#[test]
fn changed_files_are_read_or_refused_with_a_reason() {
    let (settings, mut rng, mut readable) = (none(), Rng::new(17), 0);
    for seed in SEEDS {
        for _ in 0..MUTATIONS {
            let bytes = mutated(seed, &mut rng);
            let [first, second] = [(); 2].map(|()| {
                let replay = opened(&settings, "ABC.csv", &bytes)?;
                let rows = replay.lossy();
                Ok::<_, String>(rows.into_iter().map(|row| format!("{row:?}")).collect::<Vec<_>>())
            });
            let problem = first.as_ref().err();
            assert!(problem.is_none_or(|problem| problem.contains("cannot replay")), "{problem:?}");
            readable += u64::from(first.as_ref().is_ok_and(|rows| !rows.is_empty()));
            // The folder is another one each time, and in the reason.
            assert_eq!(first.ok(), second.ok(), "b\"{}\"", bytes.escape_ascii());
        }
    }
    assert!(readable * 4 > MUTATIONS * SEEDS.len() as u64, "{readable} files are readable");
}
