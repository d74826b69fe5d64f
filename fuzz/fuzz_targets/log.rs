#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tocyn_fuzz::log::TARGET.run(data));
