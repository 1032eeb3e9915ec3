//! A log with arbitrary rows, which a batcher joins.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::durable::fuzzing::recover(bytes);
});
