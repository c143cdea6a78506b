//! What comes along with the embedded library: no runtime, no network, and not many packages.
//!
//! The manifests tell which direct dependencies are not for development only, the lock file tells the rest. The lock
//! file knows no targets and joins the features of the whole workspace, so what is found here is an upper bound.

use crate::manifests::{Kind, Manifest, manifests, workspace_root};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use toml::{Table, Value};

/// Packages that an embedded library has no business with: runtimes, HTTP and TLS.
const FORBIDDEN: [&str; 5] = ["tokio", "hyper", "reqwest", "openssl", "rustls"];

/// The most packages that the library may bring along, itself and those for other systems included.
const MOST_PACKAGES: usize = 81;

/// Name and version: several versions of one package may be locked.
type Package = (String, String);

/// The locked packages and what each depends on.
struct Lock {
    dependencies: BTreeMap<Package, Vec<Package>>,
}

impl Lock {
    fn parse(text: &str) -> Self {
        let table: Table = text.parse().unwrap();
        let entries = table["package"].as_array().unwrap();
        let field = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
        let names: Vec<Package> =
            entries.iter().map(|entry| (field(entry, "name"), field(entry, "version"))).collect();
        // A dependency is written as its name, with the version where the name alone is ambiguous.
        let resolve = |text: &str| {
            let mut words = text.split(' ');
            let (name, version) = (words.next().unwrap(), words.next());
            let found = names.iter().find(|(n, v)| n == name && version.is_none_or(|version| version == v));
            found.unwrap_or_else(|| panic!("{text} is not locked")).clone()
        };
        let listed = |entry: &Value| -> Vec<Package> {
            let listed = entry.get("dependencies").and_then(Value::as_array).into_iter().flatten();
            listed.map(|dependency| resolve(dependency.as_str().unwrap())).collect()
        };
        Self { dependencies: names.iter().cloned().zip(entries.iter().map(listed)).collect() }
    }

    /// What `package` depends on when it is used, not tested.
    fn used_by(&self, package: &Package, manifests: &BTreeMap<String, Manifest>) -> Vec<Package> {
        let mut listed = self.dependencies[package].clone();
        if let Some(manifest) = manifests.get(&package.0) {
            let used = |name: &String| {
                manifest.dependencies.iter().any(|(kind, listed)| *kind != Kind::Dev && listed == name)
            };
            listed.retain(|(name, _)| used(name));
        }
        listed
    }

    /// Every package that comes along with the one called `root`, each with the shortest way to it.
    fn reached(&self, root: &str, manifests: &BTreeMap<String, Manifest>) -> BTreeMap<Package, Vec<String>> {
        let root = self.dependencies.keys().find(|(name, _)| name == root).unwrap().clone();
        let mut reached = BTreeMap::from([(root.clone(), vec![root.0.clone()])]);
        let mut open = VecDeque::from([root]);
        while let Some(package) = open.pop_front() {
            let way = reached[&package].clone();
            for next in self.used_by(&package, manifests) {
                if !reached.contains_key(&next) {
                    reached.insert(next.clone(), way.iter().chain([&next.0]).cloned().collect());
                    open.push_back(next);
                }
            }
        }
        reached
    }
}

/// The ways to packages that are forbidden.
fn forbidden(reached: &BTreeMap<Package, Vec<String>>) -> Vec<String> {
    let ways = reached.iter().filter(|((name, _), _)| FORBIDDEN.contains(&name.as_str()));
    ways.map(|(_, way)| way.join(" -> ")).collect()
}

#[test]
fn the_embedded_library_is_light() {
    let lock = Lock::parse(&fs::read_to_string(workspace_root().join("Cargo.lock")).unwrap());
    let reached = lock.reached("vector_db_rs", &manifests());
    let ways = forbidden(&reached);
    assert!(ways.is_empty(), "the embedded library must not bring these along:\n{}", ways.join("\n"));
    let names: BTreeSet<&str> = reached.keys().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains("vdb-distance") && names.contains("serde_json"), "found only {names:?}");
    println!("vector_db_rs and what comes along: {} packages, at most {MOST_PACKAGES}", reached.len());
    assert!(reached.len() <= MOST_PACKAGES, "{} packages, at most {MOST_PACKAGES}: {names:?}", reached.len());
}

#[test]
fn a_forbidden_package_is_found_however_far_away() {
    let package = |name: &str, dependencies: &str| {
        format!("[[package]]\nname = {name:?}\nversion = \"1.0.0\"\ndependencies = [{dependencies}]\n")
    };
    let text = [
        package("vector_db_rs", "\"vdb-storage\", \"criterion\""),
        package("vdb-storage", "\"remote 1.0.0\""),
        package("remote", "\"tokio\""),
        package("criterion", "\"hyper\""),
        package("tokio", ""),
        package("hyper", ""),
    ];
    let manifest = |name: &str, dependencies: &[(Kind, &str)]| {
        let dependencies = dependencies.iter().map(|&(kind, name)| (kind, name.to_owned())).collect();
        (name.to_owned(), Manifest { name: name.to_owned(), dependencies })
    };
    let manifests = BTreeMap::from([
        manifest("vector_db_rs", &[(Kind::Normal, "vdb-storage"), (Kind::Dev, "criterion")]),
        manifest("vdb-storage", &[(Kind::Normal, "remote")]),
    ]);
    let reached = Lock::parse(&text.concat()).reached("vector_db_rs", &manifests);
    assert_eq!(reached.len(), 4);
    assert_eq!(forbidden(&reached), ["vector_db_rs -> vdb-storage -> remote -> tokio"]);
}
