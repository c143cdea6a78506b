//! libFuzzer on the target `engine_manifest` of `vdb-fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vdb_fuzz::run("engine_manifest", data));
