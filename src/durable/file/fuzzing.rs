//! Properties of the files beside the database: the mark, and what it says of the WAL. See `durable::fuzzing`.

use super::{
    mark::{self, BYTES},
    wal_end::{BEGINNINGS, FRAME_HEADER, HEADER, MAGIC, WalEnd, checksum},
};
use crate::durable::bytes;

/// Bytes of the pages of a WAL that is made here.
const PAGE: usize = 512;

/// A mark that is read is written as it was. Magic and checksum are corrected first.
pub fn mark(bytes: &[u8]) -> bool {
    let _ = mark::decode(bytes);
    let Some(body) = bytes.get(..BYTES - 8).filter(|_| bytes.len() == BYTES) else {
        assert_eq!(mark::decode(bytes), None, "a mark has {BYTES} bytes");
        return false;
    };
    let magic = &mark::encode(0, &WalEnd::NONE)[..8];
    let mut fixed = [magic, &body[8..], &[0; 8]].concat();
    let sum = bytes::checksum(&[], &fixed[..BYTES - 8]);
    fixed[BYTES - 8..].copy_from_slice(&sum.to_le_bytes());
    let Some((commits, wal)) = mark::decode(&fixed) else { return false };
    assert_eq!(mark::encode(commits, &wal)[..], fixed[..]);
    true
}

/// A WAL that holds all frames of its mark is whole, and one with a byte of another value is not. Any other bytes are looked at
/// without a panic.
pub fn wal(bytes: &[u8]) -> bool {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return false };
    let Some((frames, file)) = rest.split_first_chunk::<4>() else { return false };
    let frames = u32::from_le_bytes(*frames);
    let end = WalEnd { header: *header, frames };
    let _ = damage(&end, file);
    let _ = damage(&end, &[header, file].concat());
    let (end, mut made) = make(header, file);
    assert_eq!(damage(&end, &made), None);
    assert_eq!(damage(&end, &[&made[..], file].concat()), None, "it may be longer");
    let at = frames as usize % made.len();
    assert_eq!(damage(&end, &made[..at]).is_some(), (HEADER..made.len()).contains(&at), "it is cut off");
    made[at] ^= 1 << (frames % 8);
    assert!(at == BEGINNINGS || damage(&end, &made).is_some(), "byte {at} has changed");
    true
}

fn damage(end: &WalEnd, mut file: &[u8]) -> Option<&'static str> {
    end.damage_in(&mut file).expect("memory can be read")
}

/// A WAL with right checksums: salts and the order of bytes from a header, and pages with these contents.
fn make(salts: &[u8; HEADER], contents: &[u8]) -> (WalEnd, Vec<u8>) {
    let is_big = salts[0] & 1 == 1;
    let put = |to: &mut Vec<u8>, (first, second): (u32, u32)| {
        to.extend_from_slice(&first.to_be_bytes());
        to.extend_from_slice(&second.to_be_bytes());
    };
    let mut file = Vec::new();
    put(&mut file, (MAGIC | u32::from(is_big), 3_007_000));
    put(&mut file, (PAGE as u32, 7));
    file.extend_from_slice(&salts[16..24]);
    let mut sum = checksum((0, 0), &file, is_big);
    put(&mut file, sum);
    let mut pages = contents.chunks(PAGE).collect::<Vec<_>>();
    if pages.is_empty() {
        pages.push(&[]);
    }
    for (number, contents) in (1..).zip(&pages) {
        let start = file.len();
        put(&mut file, (number, 0));
        let mut page = contents.to_vec();
        page.resize(PAGE, 0);
        sum = checksum(checksum(sum, &file[start..], is_big), &page, is_big);
        file.extend_from_slice(&salts[16..24]);
        put(&mut file, sum);
        file.extend_from_slice(&page);
    }
    assert_eq!(file.len(), HEADER + pages.len() * (FRAME_HEADER + PAGE));
    let header = *file.first_chunk().expect("it has a header");
    (WalEnd { header, frames: pages.len() as u32 }, file)
}

/// A mark, for a seed.
#[cfg(test)]
pub(in crate::durable) fn made_mark() -> Vec<u8> {
    mark::encode(1000, &WalEnd { header: [3; HEADER], frames: 9 }).to_vec()
}
