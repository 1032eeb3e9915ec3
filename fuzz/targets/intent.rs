//! Intents, as the log keeps them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::durable::fuzzing::intent(bytes);
});
