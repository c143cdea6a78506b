//! The virtual environment of Python that the peers live in.

use crate::contenders::{Contender, Kind};
use anyhow::{Context, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Python's place in a virtual environment.
pub fn python(venv: &Path) -> PathBuf {
    venv.join("bin").join("python")
}

/// Creates the environment where there is none and installs numpy and what the contenders need, each by itself, so that
/// one that has no build for this machine does not keep out the rest. Names those that could not be installed.
///
/// # Errors
///
/// No environment, or none with numpy.
pub fn install(venv: &Path, contenders: &[&Contender]) -> anyhow::Result<Vec<String>> {
    let python = python(venv);
    if !python.exists() {
        let created = Command::new("python3").args(["-m", "venv"]).arg(venv).status();
        let created = created.context("python3 -m venv")?;
        ensure!(created.success(), "python3 -m venv {} failed", venv.display());
    }
    let add = |package: &str| {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package];
        let status = Command::new(&python).args(pip).status();
        status.with_context(|| python.display().to_string()).map(|status| status.success())
    };
    ensure!(add("numpy")?, "numpy could not be installed in {}", venv.display());
    let packages: BTreeSet<&str> = contenders
        .iter()
        .filter_map(|contender| match contender.kind {
            Kind::Ours(_) => None,
            Kind::Peer(package) => Some(package),
        })
        .collect();
    let mut missing = Vec::new();
    for package in packages {
        if !add(package)? {
            missing.push(package.to_owned());
        }
    }
    Ok(missing)
}
