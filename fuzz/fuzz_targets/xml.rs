#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| eds_fuzz::xml::run(data));
