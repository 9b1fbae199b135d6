//! Fuzzes the planner with bytes as limits and shapes; see `tests/unit/plan_properties.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| xent::planner(bytes));
