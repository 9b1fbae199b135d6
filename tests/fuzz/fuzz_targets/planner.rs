//! Bytes as limits and shapes; what must hold is in `src/plan_properties.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| xent::planner(bytes));
