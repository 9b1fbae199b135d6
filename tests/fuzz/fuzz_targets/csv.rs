//! Bytes as a CSV file, the first one as the number of lines to skip.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    xent_fuzz::csv(bytes);
});
