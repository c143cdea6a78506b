//! Writes the valid inputs of every fuzz target to `fuzz/corpus/TARGET`, where `cargo fuzz run TARGET` starts from them:
//! without them, libFuzzer hardly gets past the checks of lengths. Prints what was written and the longest input, which
//! `-max_len` has to allow. Inputs are named by number, so that a second run replaces them.
#![forbid(unsafe_code)]

use std::path::Path;
use std::{fs, io};
use vdb_fuzz::TARGETS;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for target in TARGETS {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        let seeds = (target.seeds)();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
        let longest = seeds.iter().map(Vec::len).max().unwrap_or(0);
        println!("{}: {} inputs of at most {longest} bytes", target.name, seeds.len());
    }
    Ok(())
}
