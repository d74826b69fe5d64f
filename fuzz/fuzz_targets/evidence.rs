#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tocyn_fuzz::evidence::TARGET.run(data));
