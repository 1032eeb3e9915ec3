//! Packing: groupings, caps, and ops that fit into no frame.

use proptest::prelude::*;

use super::*;
use crate::{rules::batch::Batch, sink::websocket::Message};

fn words() -> Frames<&'static str> {
    Frames::text(|op: &&str, out| {
        out.extend_from_slice(op.as_bytes());
        Ok(())
    })
}

/// The payloads, and for each op whether it was refused.
fn pack<T>(frames: &Frames<T>, ops: Vec<T>) -> (Vec<String>, Vec<bool>) {
    let mut batch: Batch<T> = Batch::for_test(ops);
    let mut packer = Packer::new(frames, false, &batch);
    let mut payloads = Vec::new();
    while let Some(frame) = packer.next(&mut batch) {
        let payload = match frame.message {
            Message::Text(text) => text,
            Message::Binary(bytes) => format!("{bytes:?}"),
            other => panic!("{other:?}"),
        };
        payloads.push(payload);
    }
    let refused = (0..batch.len()).map(|i| batch.verdict(i).is_some()).collect();
    (payloads, refused)
}

#[test]
fn each_grouping_joins_messages_as_documented() {
    let ops = || vec!["a", "b", "c"];
    assert_eq!(pack(&Frames::json(), ops()).0, [r#"["a","b","c"]"#]);
    assert_eq!(pack(&Frames::json().lines(), ops()).0, ["\"a\"\n\"b\"\n\"c\""]);
    assert_eq!(pack(&Frames::json().each(), ops()).0, [r#""a""#, r#""b""#, r#""c""#]);
    assert_eq!(pack(&Frames::json().joined("<", "|", ">"), ops()).0, [r#"<"a"|"b"|"c">"#]);
    assert_eq!(pack(&words(), ops()).0, ["abc"]);
    let bytes = Frames::binary(|op: &u8, out| {
        out.extend([1, *op]);
        Ok(())
    });
    assert_eq!(pack(&bytes, vec![7, 8]).0, ["[1, 7, 1, 8]"]);
}

#[test]
fn a_cap_below_what_stands_around_the_messages_is_refused() {
    let error = words().joined("[", ",", "]").max_bytes(1).check().unwrap_err();
    assert_eq!(error.to_string(), "max_bytes must be at least 2: bytes before the messages: 1, behind them: 1");
    assert!(words().joined("[", ",", "]").max_bytes(2).check().is_ok() && words().max_bytes(0).check().is_ok());
    // Even without the check no frame exceeds it.
    assert_eq!(pack(&words().joined("[", ",", "]").max_bytes(1), vec!["", "a"]), (vec![], vec![true, true]));
}

#[test]
fn a_frame_ends_where_the_cap_is() {
    let frames = words().joined("[", ",", "]").max_bytes(7);
    assert_eq!(pack(&frames, vec!["ab", "cd", "ef", "ghijk"]).0, ["[ab,cd]", "[ef]", "[ghijk]"]);
}

#[test]
fn what_fits_into_no_frame_is_refused_alone() {
    let frames = words().joined("[", ",", "]").max_bytes(7);
    let (payloads, refused) = pack(&frames, vec!["a", "abcdef", "b"]);
    assert_eq!((payloads, refused), (vec!["[a,b]".to_owned()], vec![false, true, false]));
    assert_eq!(pack(&words().max_bytes(0), vec!["a"]), (vec![], vec![true]));
}

#[test]
fn what_would_break_the_frame_is_refused_alone() {
    assert_eq!(pack(&words().lines(), vec!["a", "b\nc", "d"]), (vec!["a\nd".into()], vec![false, true, false]));
    let bytes = Frames::text(|op: &Vec<u8>, out| {
        out.extend(op);
        if op.is_empty() { Err("empty".into()) } else { Ok(()) }
    });
    let ops = vec![vec![b'a'], vec![0xff], vec![], vec![b'b']];
    assert_eq!(pack(&bytes, ops), (vec!["ab".into()], vec![false, true, true, false]));
}

const GROUPINGS: [(&str, &str, &str); 4] =
    [("", "", ""), ("[", ",", "]"), ("{\"ops\":[", " \u{20ac} ", "]}"), ("", "\n", "")];

proptest! {
    /// Goal: whatever the sizes, no frame exceeds the cap, nothing is lost, and order holds. Method: words of digits.
    #[test]
    fn caps_are_hard_and_order_holds(sizes in proptest::collection::vec(1usize..40, 1..60), cap in 3usize..60) {
        let ops: Vec<String> = sizes.iter().enumerate().map(|(i, size)| format!("{i:0size$}")).collect();
        let frames = Frames::text(|op: &String, out| { out.extend(op.as_bytes()); Ok(()) })
            .joined("[", ",", "]").max_bytes(cap);
        let (payloads, refused) = pack(&frames, ops.clone());
        prop_assert!(payloads.iter().all(|payload| payload.len() <= cap));
        let sent: Vec<&str> = payloads.iter().flat_map(|payload| payload[1..payload.len() - 1].split(',')).collect();
        let expected: Vec<&String> = ops.iter().filter(|op| op.len() + 2 <= cap).collect();
        prop_assert_eq!(sent, expected);
        prop_assert_eq!(refused, ops.iter().map(|op| op.len() + 2 > cap).collect::<Vec<_>>());
    }

    /// Goal: no frame exceeds the cap, and no op is lost or refused without need. Method: text of characters of one to
    /// four bytes, empty messages, separators of any length, encoders that fail or panic, against a naive model.
    #[test]
    fn no_frame_exceeds_the_cap(
        ops in proptest::collection::vec("[a\u{e9}\u{20ac}\u{1f4b6}!?]{0,5}", 0..40),
        grouping in proptest::sample::select(&GROUPINGS),
        each: bool,
        cap in 0usize..40,
    ) {
        let (open, between, close) = if each { ("", "", "") } else { grouping };
        let frames = Frames::text(|op: &String, out| {
            // A part of the message is there already when the encoder gives up.
            out.extend(op.as_bytes());
            assert!(!op.contains('?'), "an encoder that panics");
            if op.contains('!') { Err("an encoder that fails".into()) } else { Ok(()) }
        });
        let frames = if each { frames.each() } else { frames.joined(open, between, close) }.max_bytes(cap);
        let fits = |op: &String| !op.contains(['!', '?']) && open.len() + op.len() + close.len() <= cap;
        let mut expected: Vec<String> = Vec::new();
        for op in ops.iter().filter(|op| fits(op)) {
            match expected.last_mut() {
                Some(last) if !each && last.len() + between.len() + op.len() + close.len() <= cap => {
                    last.push_str(between);
                    last.push_str(op);
                }
                _ => expected.push(format!("{open}{op}")),
            }
        }
        expected.iter_mut().for_each(|frame| frame.push_str(close));
        let (payloads, refused) = pack(&frames, ops.clone());
        prop_assert!(payloads.iter().all(|payload| payload.len() <= cap));
        prop_assert_eq!(payloads, expected);
        prop_assert_eq!(refused, ops.iter().map(|op| !fits(op)).collect::<Vec<_>>());
        prop_assert_eq!(frames.check().is_ok(), open.len() + close.len() <= cap);
    }
}
