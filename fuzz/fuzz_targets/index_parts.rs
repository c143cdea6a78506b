//! libFuzzer on the target `index_parts` of `vdb-fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vdb_fuzz::run("index_parts", data));
