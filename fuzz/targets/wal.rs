//! The write-ahead log that a mark describes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::durable::fuzzing::wal(bytes);
});
