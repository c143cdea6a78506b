//! The program `vdb` from outside: every command as a user runs it, what it prints, and how it fails.
//!
//! Each test writes its own files into a fresh folder. Whatever the arguments, the program never panics:
//! [`Outcome`] checks it for every run.
#![allow(clippy::unwrap_used)]

mod bench_ann;
mod collections;
mod demo;
mod errors;
mod files;
mod import_and_search;

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The program, ready to be given arguments.
fn vdb() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vdb"))
}

/// What a run of the program gave.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// Its output, after checking that it succeeded and had nothing to complain about.
    fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        assert_eq!(self.stderr, "", "a run without a terminal shows no progress");
        self.stdout
    }

    /// Its output as JSON, one value a line.
    fn json(self) -> Vec<Value> {
        self.success().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Its message, after checking that it failed with exit code 1 and that the message holds all of `parts`.
    fn failure(self, parts: &[&str]) -> String {
        assert_eq!(self.code, Some(1), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {}", self.stderr);
        }
        self.stderr
    }

    /// As [`failure`](Self::failure), for arguments that are refused before anything is done.
    fn usage_error(self, parts: &[&str]) {
        assert_eq!(self.code, Some(2), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {}", self.stderr);
        }
    }
}

/// A folder that the program runs in, gone at the end of the test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Runs the program with arguments separated by spaces.
    fn run(&self, arguments: &str) -> Outcome {
        self.run_with(arguments.split_whitespace())
    }

    fn run_with(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        run_in(self.0.path(), arguments)
    }
}

fn run_in(folder: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
    let output = vdb().args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    Outcome { code: output.status.code(), stdout: String::from_utf8(output.stdout).unwrap(), stderr }
}
