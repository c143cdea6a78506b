//! libFuzzer on the target `engine_segment` of `vdb-fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vdb_fuzz::run("engine_segment", data));
