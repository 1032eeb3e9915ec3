//! Ops and receipts, as JSON and as their own bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::durable::fuzzing::codec(bytes);
});
