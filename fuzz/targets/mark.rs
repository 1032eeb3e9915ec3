//! The mark beside a log's file, with a corrected checksum.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::durable::fuzzing::mark(bytes);
});
