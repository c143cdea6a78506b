//! Rules about source files: the module doc, and where `unsafe` is forbidden.

use crate::manifests::{manifests, workspace_root};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates that hold the kernels and the file mapping.
const MAY_BE_UNSAFE: [&str; 3] = ["vdb-distance", "vdb-quant", "vdb-storage"];

/// Every Rust file under `folder`; none when there is no such folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[test]
fn every_file_opens_with_its_module_doc() {
    let crates = workspace_root().join("crates");
    let folders = manifests()
        .into_keys()
        .flat_map(|name| ["src", "tests", "benches"].map(|folder| crates.join(&name).join(folder)));
    let files: Vec<PathBuf> = folders.flat_map(|folder| rust_files(&folder)).collect();
    assert!(files.len() > 20, "only {} files were found", files.len());
    let silent: Vec<String> = files
        .iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| path.strip_prefix(&crates).unwrap().display().to_string())
        .collect();
    assert!(silent.is_empty(), "these files do not open with //!: {silent:#?}");
}

#[test]
fn unsafe_is_forbidden_outside_of_kernels_and_mapping() {
    let crates = workspace_root().join("crates");
    for name in manifests().into_keys().filter(|name| !MAY_BE_UNSAFE.contains(&name.as_str())) {
        let roots = ["lib.rs", "main.rs"].map(|file| crates.join(&name).join("src").join(file));
        let roots: Vec<&PathBuf> = roots.iter().filter(|path| path.exists()).collect();
        assert!(!roots.is_empty(), "{name} has neither lib.rs nor main.rs");
        for root in roots {
            let text = fs::read_to_string(root).unwrap();
            let forbidden = text.lines().any(|line| line == "#![forbid(unsafe_code)]");
            assert!(forbidden, "{} lacks #![forbid(unsafe_code)]", root.display());
        }
    }
}
