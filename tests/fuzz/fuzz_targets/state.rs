//! Fuzzes the safetensors loader.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    xent_fuzz::state(bytes);
});
