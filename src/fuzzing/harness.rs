//! Feeds a property its seeds, which are files, and some thousand mutations of them: the same as the fuzz targets, for every run of the
//! tests and with a stable compiler.

use std::{collections::BTreeMap, fs, path::PathBuf};

/// Numbers and lengths that are most often mistaken.
const EDGES: [u8; 8] = [0, 1, 2, 0x10, 0x7f, 0x80, 0xfe, 0xff];

/// The longest number of variable length.
const LONGEST: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];

pub(crate) fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target)
}

/// The seeds of a target, by name.
pub(crate) fn seeds(target: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder(target)).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

/// A generator of numbers with a seed: splitmix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Changes bytes in a few of the ways in which fuzzers do.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..1 + random.below(4) {
        let (at, length) = (random.below(bytes.len() + 1), random.below(16));
        let end = bytes.len().min(at + length);
        match random.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = EDGES[random.below(EDGES.len())],
            2 if at < bytes.len() => bytes[at] = random.next() as u8,
            3 => drop(bytes.splice(at..end, [])),
            4 => drop(bytes.splice(at..at, LONGEST)),
            5 => drop(bytes.splice(at..end, random.next().to_le_bytes())),
            6 => bytes.truncate(at),
            7 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let from = random.below(other.len());
                let part = other[from..other.len().min(from + length)].to_vec();
                bytes.splice(at..end, part);
            }
        }
    }
}

/// Prints its bytes if the property that looks at them panics.
struct Input<'a>(&'a [u8]);

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("with the bytes b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// Runs a property on its seeds, which are readable unless their name says otherwise, and on mutations of each.
pub(crate) fn run(target: &str, property: fn(&[u8]) -> bool, mutations: usize) {
    let seeds = seeds(target);
    for (name, bytes) in &seeds {
        let input = Input(bytes);
        assert_eq!(property(input.0), !name.starts_with("damaged"), "{target}/{name}");
    }
    let all: Vec<&Vec<u8>> = seeds.values().collect();
    let (mut random, mut readable) = (Random(15), 0);
    for i in 0..mutations {
        let mut bytes = all[i % all.len()].clone();
        let other = all[random.below(all.len())];
        mutate(&mut random, &mut bytes, other);
        let input = Input(&bytes);
        readable += usize::from(property(input.0));
    }
    println!("{target}: {readable} of {mutations} mutations are readable");
    assert!(readable * 100 > mutations, "{target}: {readable} of {mutations} mutations get behind the checks");
}
