//! libFuzzer on the target `json` of `vdb-fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vdb_fuzz::run("json", data));
