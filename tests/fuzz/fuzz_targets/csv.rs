//! Fuzzes the CSV reader: the first byte is the number of lines to skip, the rest is the file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    xent_fuzz::csv(bytes);
});
