//! The manifests, and the rule that a crate depends on lower tiers only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use toml::Table;

/// The crates of the workspace, lowest tier first. A crate depends on crates in earlier rows only; development
/// dependencies are no exception.
const TIERS: [&[&str]; 8] = [
    &["vdb-distance", "vdb-storage"],
    &["vdb-quant", "vdb-testkit"],
    &["vdb-index", "vdb-payload"],
    &["vdb-engine"],
    &["vector_db_rs"],
    &["vdb-cluster"],
    &["vdb-server"],
    &["vdb-cli", "vdb-python", "vdb-fuzz", "vdb-bench"],
];

pub(crate) fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

/// The parts of a crate's manifest that the rules speak of.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    /// Kind and package name, of every target.
    pub(crate) dependencies: Vec<(Kind, String)>,
}

impl Manifest {
    fn parse(text: &str) -> Self {
        let table: Table = text.parse().unwrap();
        let name = table["package"]["name"].as_str().unwrap().to_owned();
        let mut dependencies = Vec::new();
        let targets = table.get("target").and_then(|targets| targets.as_table()).into_iter().flatten();
        let per_target = targets.filter_map(|(_, target)| target.as_table());
        for section in std::iter::once(&table).chain(per_target) {
            for (kind, key) in [
                (Kind::Normal, "dependencies"),
                (Kind::Build, "build-dependencies"),
                (Kind::Dev, "dev-dependencies"),
            ] {
                let listed = section.get(key).and_then(|listed| listed.as_table()).into_iter().flatten();
                dependencies.extend(listed.map(|(name, value)| {
                    let renamed = value.get("package").and_then(|package| package.as_str());
                    (kind, renamed.unwrap_or(name).to_owned())
                }));
            }
        }
        Self { name, dependencies }
    }
}

/// The manifests of all crates by name.
pub(crate) fn manifests() -> BTreeMap<String, Manifest> {
    let folders = fs::read_dir(workspace_root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let paths = folders.map(|folder| folder.join("Cargo.toml")).filter(|path| path.exists());
    let manifests = paths.map(|path| Manifest::parse(&fs::read_to_string(path).unwrap()));
    manifests.map(|manifest| (manifest.name.clone(), manifest)).collect()
}

fn tier(name: &str) -> Option<usize> {
    TIERS.iter().position(|tier| tier.contains(&name))
}

/// What is wrong with the crates' dependencies, a sentence each.
fn faults(manifests: &BTreeMap<String, Manifest>) -> Vec<String> {
    let mut faults = Vec::new();
    for Manifest { name, dependencies } in manifests.values() {
        let Some(own) = tier(name) else {
            faults.push(format!(
                "{name} is in no tier: add it to TIERS in crates/vector_db_rs/tests/workspace/manifests.rs, above \
                 everything that it depends on"
            ));
            continue;
        };
        for (kind, dependency) in dependencies {
            let lower = tier(dependency).is_none_or(|tier| tier < own);
            if !lower {
                faults.push(format!(
                    "{name} may not depend on {dependency} ({kind:?}): it is in no lower tier"
                ));
            }
        }
    }
    faults
}

#[test]
fn a_crate_depends_on_lower_tiers_only() {
    let manifests = manifests();
    assert!(manifests.contains_key("vector_db_rs"), "no manifests were found");
    let faults = faults(&manifests);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_crates_folder_is_named_like_the_crate() {
    let crates = workspace_root().join("crates");
    for name in manifests().into_keys() {
        assert!(crates.join(&name).join("Cargo.toml").exists(), "{name} lies in a folder of another name");
    }
}

#[test]
fn the_rule_sees_every_kind_of_dependency() {
    let check = |name: &str, rest: &str| {
        let manifest = Manifest::parse(&format!("[package]\nname = {name:?}\n{rest}"));
        faults(&BTreeMap::from([(name.to_owned(), manifest)])).len()
    };
    assert_eq!(check("vdb-index", "[dependencies]\nvdb-quant.workspace = true\nrayon = \"1\""), 0);
    assert_eq!(check("vector_db_rs", "[dependencies]\nvdb-engine.workspace = true"), 0);
    assert_eq!(check("vdb-engine", "[dependencies]\nvector_db_rs.workspace = true"), 1);
    assert_eq!(check("vdb-storage", "[dependencies]\nvdb-distance.workspace = true"), 1);
    assert_eq!(check("vdb-quant", "[dev-dependencies]\nvdb-index.workspace = true"), 1);
    assert_eq!(check("vdb-quant", "[build-dependencies]\nvdb-index = { path = \"../vdb-index\" }"), 1);
    assert_eq!(check("vdb-quant", "[target.'cfg(unix)'.dependencies]\nvdb-cli.workspace = true"), 1);
    assert_eq!(check("vdb-quant", "[dependencies]\nindex = { package = \"vdb-index\", version = \"1\" }"), 1);
    assert_eq!(check("vdb-new", ""), 1);
}
