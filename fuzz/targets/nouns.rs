//! Symbols, ids, prices, quantities and sides in text.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::fuzzing::nouns(bytes);
});
