//! libFuzzer on the target `quantizers` of `vdb-fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vdb_fuzz::run("quantizers", data));
