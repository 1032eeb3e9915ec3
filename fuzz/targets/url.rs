//! URLs of a database, of which no error tells the password.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::fuzzing::url(bytes);
});
