//! Rows of outcomes and dead letters, and errors as JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::durable::fuzzing::outcome(bytes);
});
