#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eds_fuzz::patch::run(data));
