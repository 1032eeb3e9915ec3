//! What a peer says over a WebSocket.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    roundlot::fuzzing::websocket(bytes);
});
