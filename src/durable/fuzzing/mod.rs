//! Properties of all that reads bytes of a disk: each is a function of bytes, and panics where they do not hold. The fuzz targets
//! of `fuzz/` call them, and the tests of this module, which feed them their seeds and mutations of these.
//!
//! Each function returns whether the bytes were readable, so that a test knows that its input gets behind the checks.

mod codec;
mod outcome;
mod recover;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use super::file::fuzzing::{mark, wal};
use super::{
    bytes::checksum,
    frame::{Entry, Frame},
    intent::Intent,
};
pub use codec::codec;
pub use outcome::outcome;
pub use recover::recover;

/// Bytes with the checksum of a frame in the place of their last eight.
fn sealed(bytes: &[u8]) -> Arc<[u8]> {
    let body = &bytes[..bytes.len().saturating_sub(8)];
    [body, &checksum(&[], body).to_le_bytes()].concat().into()
}

/// The entries of a frame with their places and bytes. `None` if it is damaged.
fn contents(frame: &Frame) -> Option<Vec<(u64, Entry, &[u8])>> {
    let entries = frame.entries().ok()?.into_iter();
    Some(entries.map(|(place, entry, range)| (place, entry, &frame.bytes[range])).collect())
}

/// A frame that opens comes back as it is when it is packed anew, and keeps the other entries at their places when some are left
/// out. The checksum is corrected first.
pub fn frame(bytes: &[u8]) -> bool {
    // As it is, so that a wrong checksum is looked at, too.
    let _ = Frame::open(bytes.into());
    let Ok(frame) = Frame::open(sealed(bytes)) else { return false };
    assert_eq!(Frame::count_of(&frame.bytes), Some(frame.count));
    let Some(entries) = contents(&frame) else {
        assert!(frame.without(&mut |_| false).is_err(), "a damaged frame is not packed anew");
        return false;
    };
    assert!(entries.is_sorted_by(|one, next| one.0 < next.0), "places ascend");
    assert!(entries.last().is_none_or(|(place, ..)| *place < frame.count), "places are those of the frame");
    let choice = checksum(&[1], bytes);
    for gone in [0, choice, u64::MAX] {
        let mut is_gone = |place: u64| gone >> (place % 64) & 1 == 1;
        let packed = frame.without(&mut is_gone).expect("its entries are readable");
        let read = Frame::open(Arc::clone(&packed.bytes)).expect("it was packed here");
        assert_eq!(read, Frame { may_be_foreign: true, ..packed.clone() });
        let facts = |frame: &Frame| (frame.producer, frame.number, frame.made_at, frame.schema, frame.count);
        assert_eq!(facts(&read), facts(&frame));
        let left: Vec<_> = entries.iter().filter(|(place, ..)| !is_gone(*place)).copied().collect();
        assert_eq!(contents(&read), Some(left));
        let again = read.without(&mut |_| false).expect("its entries are readable");
        assert_eq!(again.bytes, packed.bytes, "packing changes nothing that was packed");
    }
    true
}

/// An intent that is read says the same when it is written and read again, and holds no more than its bytes.
pub fn intent(bytes: &[u8]) -> bool {
    let Some(intent) = Intent::decode(bytes) else { return false };
    for op in &intent.ops {
        assert_eq!(op.positions.iter().min(), Some(&op.first()), "the least position is the first");
    }
    let written = intent.encode();
    assert!(written.len() <= bytes.len(), "numbers are written in the shortest form");
    assert_eq!(Intent::decode(&written), Some(intent));
    true
}
