//! Feeds each property its seeds, which are files, and some thousand mutations of them: the same as the fuzz targets, for every run
//! of the tests and with a stable compiler.

use std::fs;

use super::*;
use crate::{
    durable::{
        bytes::{put_bytes, put_varint},
        file::fuzzing::made_mark,
        frame::Packer,
        intent::IntentOp,
    },
    fuzzing::harness::{folder, run, seeds},
    rules::{batch::SinkError, outcome::AckError, stable_hash::wide_hash},
};

#[test]
fn frames() {
    run("frame", frame, 20_000);
}

#[test]
fn intents() {
    run("intent", intent, 20_000);
}

#[test]
fn outcomes() {
    run("outcome", outcome, 20_000);
}

#[test]
fn codecs() {
    run("codec", codec, 20_000);
}

#[test]
fn marks() {
    run("mark", mark, 10_000);
}

#[test]
fn wals() {
    run("wal", wal, 2000);
}

#[test]
fn logs() {
    run("recover", recover, 3000);
}

/// A seed: target, name and bytes.
type Seed = (&'static str, &'static str, Vec<u8>);

/// The seeds that show the formats. Others may lie beside them: what a fuzzer has found.
fn made() -> Vec<Seed> {
    let entry = |number, producer| Entry { producer, number, handle: 3, may_repeat: number == 9, withdraws: false };
    let mut requests = Packer::new(1);
    requests.push(entry(11, 1), b"7");
    requests.push(Entry { withdraws: true, ..entry(12, 1) }, &wide_hash(&3_u32).to_le_bytes());
    requests.push(entry(13, 1), b"11");
    let requests = requests.seal(5, 1_700_000_000_000_000_000, 0);
    let mut packer = Packer::new(1);
    [entry(1, 1), entry(2, 1), entry(9, 2), entry(10, 1)]
        .into_iter()
        .for_each(|entry| packer.push(entry, b"[7,\"buy\"]"));
    let whole = packer.seal(4, 1_700_000_000_000_000_000, 0);
    let sparse = whole.without(&mut |place| place == 0 || place == 2).unwrap();
    let merged = IntentOp { positions: vec![3, 9, 1000], attempts: 2, op: Some(b"[7,\"buy\"]".to_vec()) };
    let plain = IntentOp { positions: vec![4], attempts: 1, op: None };
    let intent = Intent { alone: false, schema: 0, ops: vec![merged, plain] };
    let alone = Intent { alone: true, schema: 7, ops: intent.ops[1..].to_vec() };
    let error = |error: &AckError| serde_json::to_vec(error).unwrap();
    let json = |op: &codec::Op| serde_json::to_vec(op).unwrap();
    let limit = codec::Op::Limit {
        price: 90_072.066_666_666_67,
        quantity: None,
        tags: [("book".to_owned(), vec![1, i128::MIN])].into(),
    };
    let market = codec::Op::Market("BTC\u{20ac}".to_owned(), Some(1e-7));
    vec![
        ("frame", "whole", whole.bytes.to_vec()),
        ("frame", "sparse", sparse.bytes.to_vec()),
        ("frame", "request", requests.bytes.to_vec()),
        ("frame", "empty", Packer::new(1).seal(1, 0, 0).bytes.to_vec()),
        ("intent", "batch", intent.encode()),
        ("intent", "alone", alone.encode()),
        ("outcome", "receipts", [[0, 1, 2, b'4', b'2'], [0, 1, 2, b'4', b'3'], [3, 0, 2, b'n', b'o']].concat()),
        ("outcome", "row", [&[1, 3, 65, 3, 2, 0, 1][..], b"\x004\n\n5\n"].concat()),
        ("outcome", "withdrawn", [&[1, 2, 65, 2, 1, 4, 3][..], b"\x00\n\x00\x037.5\n"].concat()),
        ("outcome", "refused", error(&AckError::Refused(SinkError::refused(SinkError::transient("no such symbol"))))),
        (
            "outcome",
            "throttled",
            error(&AckError::InDoubt(SinkError::throttled(std::time::Duration::from_millis(1501)))),
        ),
        ("codec", "limit", json(&limit)),
        ("codec", "nested", json(&codec::Op::All(vec![limit, market, codec::Op::Cancel]))),
        ("codec", "floats", b"[1.5,null,-0.0,1e-40]".to_vec()),
        ("codec", "id", b"\"7-0-42\"".to_vec()),
        ("mark", "mark", made_mark()),
        ("wal", "wal", [&[3; 36][..], b"pages of a database"].concat()),
        ("recover", "ops", log(3, &[&ops(b"\x01\x02\x03"), &ops(b"\x04\x85\x86")])),
        ("recover", "merged", log(6, &[&ops(b"\x01\x02\x05\x06"), &[3, 2, 0, 0, 2, 1, 4]])),
        ("recover", "in_doubt", log(2, &[&ops(b"\x01\x02"), &[3, 1, 1, 0, 1], &[4, 3, 3], &ops(b"\x07\x08")])),
        ("recover", "intents_overlap", log(1, &[&ops(b"\x01\x02"), &[3, 1, 0, 0, 1], &[3, 9, 0, 1, 0]])),
        ("recover", "frame", log(3, &[&row(0, &sparse.bytes), &[5, 1], &[4, 2, 2]])),
        ("recover", "request", log(7, &[&ops(b"\x03\x02"), &row(0, &requests.bytes), &ops(b"\x03")])),
        ("recover", "request_in_an_intent", log(7, &[&row(0, &requests.bytes), &[3, 2, 0, 0, 0, 1, 2]])),
        ("recover", "damaged_ops_are_missing", log(3, &[&row(0, &sparse.bytes)])),
        ("recover", "letters", log(3, &[&ops(b"\x01\x82"), &[8, 4, 0, 1, b'7', 0], &[7, 1, 1, 3, 0, 1, 0]])),
    ]
}

fn log(settings: u8, rows: &[&[u8]]) -> Vec<u8> {
    [&[settings], rows.concat().as_slice()].concat()
}

/// A frame of these ops in a log.
fn ops(ops: &[u8]) -> Vec<u8> {
    row(1, ops)
}

fn row(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut row = Vec::new();
    put_varint(&mut row, u64::from(kind));
    put_bytes(&mut row, bytes);
    row
}

/// Goal: the seeds are of the formats that this version has. Method: they are made again.
#[test]
fn seeds_are_what_is_written() {
    for (target, name, bytes) in made() {
        assert!(seeds(target).get(name) == Some(&bytes), "{target}/{name} is out of date: run the test `write_seeds`");
    }
}

#[test]
#[ignore = "writes the seeds anew, after a change of a format"]
fn write_seeds() {
    for (target, name, bytes) in made() {
        fs::create_dir_all(folder(target)).unwrap();
        fs::write(folder(target).join(name), bytes).unwrap();
    }
}
