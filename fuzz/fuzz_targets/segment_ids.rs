//! libFuzzer on the target `segment_ids` of `vdb-fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vdb_fuzz::run("segment_ids", data));
