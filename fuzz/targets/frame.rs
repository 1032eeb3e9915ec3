//! Frames of the log, with a corrected checksum.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::durable::fuzzing::frame(bytes);
});
