//! Ops as JSON, and what two of one key become.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::fuzzing::json(bytes);
});
