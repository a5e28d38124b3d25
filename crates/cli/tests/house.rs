//! The walls of the house: who may know whom, which crates are without I/O, that each dependency has a reason, and what an
//! embedder gets with the broker.
//!
//! When a test here fails, either the change is wrong or the plan is; the plan is changed in docs/ARCHITECTURE.md first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every crate of the workspace, with the crates it may use (the rest of the world is not the house's business).
const ALLOWED: &[(&str, &[&str])] = &[
    ("tidelog-types", &[]),
    ("tidelog-record", &["types"]),
    ("tidelog-protocol-derive", &[]),
    ("tidelog-protocol", &["types", "protocol-derive"]),
    ("tidelog-log", &["types", "record"]),
    ("tidelog-replication", &["types"]),
    ("tidelog-metadata", &["types", "protocol"]),
    ("tidelog-coordinator", &["types", "protocol"]),
    (
        "tidelog-node",
        &[
            "types",
            "record",
            "protocol",
            "log",
            "replication",
            "metadata",
            "coordinator",
        ],
    ),
    (
        "tidelog-broker",
        &[
            "types",
            "record",
            "protocol",
            "log",
            "replication",
            "metadata",
            "coordinator",
            "node",
        ],
    ),
    (
        // The machines of the client are part of what is simulated.
        "tidelog-sim",
        &[
            "types",
            "record",
            "protocol",
            "log",
            "replication",
            "metadata",
            "coordinator",
            "node",
            "client",
        ],
    ),
    ("tidelog-client", &["types", "record", "protocol"]),
    (
        "tidelog-cli",
        &[
            "types", "record", "protocol", "log", "metadata", "broker", "client",
        ],
    ),
    (
        "tidelog-examples",
        &["types", "record", "protocol", "log", "broker", "client"],
    ),
    (
        "tidelog-benches",
        &["types", "record", "protocol", "log", "broker"],
    ),
];

/// The crates without clocks, threads, files and sockets.
const PURE: &[&str] = &[
    "types",
    "record",
    "protocol",
    "replication",
    "metadata",
    "coordinator",
];

/// The two sides of the wire, which only what stands above them may use, not even in tests.
const SHELLS: &[&str] = &["tidelog-broker", "tidelog-client"];

/// The exception: the client's tests and the examples in its documentation run against a broker as a Rust value, which is
/// what makes them need no port of their own choice, no container and no mock. The library itself knows no server.
const TESTED_AGAINST: &[(&str, &str)] = &[
    ("tidelog-client", "tidelog-broker"),
    // Its own tests ask for more of its features.
    ("tidelog-client", "tidelog-client"),
];

/// Who stands above them.
const ABOVE: &[&str] = &["tidelog-cli", "tidelog-examples", "tidelog-benches"];

/// What the crates without I/O may not bring in from outside.
const IMPURE: &[&str] = &[
    "tokio",
    "socket2",
    "rustix",
    "mio",
    "getrandom",
    "parking_lot",
    "tracing",
    "tempfile",
];

/// One package of the workspace, as cargo sees it.
struct Package {
    name: String,
    folder: PathBuf,
    /// Name and kind (`normal`, `build`, `dev`).
    dependencies: BTreeSet<(String, String)>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the root of the workspace")
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let dependencies = package["dependencies"].as_array().expect("dependencies");
    Package {
        name: text(&package["name"]),
        folder: Path::new(&text(&package["manifest_path"]))
            .parent()
            .expect("a folder")
            .to_owned(),
        dependencies: dependencies
            .iter()
            .map(|dependency| {
                (
                    text(&dependency["name"]),
                    dependency["kind"].as_str().unwrap_or("normal").to_owned(),
                )
            })
            .collect(),
    }
}

fn allowed() -> BTreeMap<&'static str, BTreeSet<String>> {
    let full = |names: &[&str]| names.iter().map(|name| format!("tidelog-{name}")).collect();
    ALLOWED
        .iter()
        .map(|(name, names)| (*name, full(names)))
        .collect()
}

#[test]
fn crates_know_only_whom_they_may() {
    let allowed = allowed();
    for package in packages() {
        let may_know = allowed
            .get(package.name.as_str())
            .unwrap_or_else(|| panic!("{} is not in the plan", package.name));
        for (dependency, kind) in &package.dependencies {
            let inside = allowed.contains_key(dependency.as_str());
            // Tests may bring in what they compare with, but not the other side of the wire.
            let tested = TESTED_AGAINST.contains(&(package.name.as_str(), dependency.as_str()));
            let free = kind == "dev" && (tested || !SHELLS.contains(&dependency.as_str()));
            let above = ABOVE.contains(&package.name.as_str());
            if inside && !free && !(kind == "dev" && above) {
                assert!(
                    may_know.contains(dependency),
                    "{} may not know {dependency}",
                    package.name
                );
            }
        }
    }
}

#[test]
fn the_plan_names_no_crate_that_is_gone() {
    let packages: BTreeSet<String> = packages().into_iter().map(|package| package.name).collect();
    for (name, may_know) in allowed() {
        assert!(
            packages.contains(name),
            "{name} is in the plan and not in the workspace"
        );
        for other in may_know {
            assert!(
                packages.contains(&other),
                "{name} may know {other}, which does not exist"
            );
        }
    }
}

#[test]
fn pure_crates_forbid_clocks_threads_files_and_sockets() {
    let shared = std::fs::read(root().join("crates/clippy-pure.toml")).expect("the shared list");
    for package in packages() {
        let Some(name) = package
            .name
            .strip_prefix("tidelog-")
            .filter(|name| PURE.contains(name))
        else {
            continue;
        };
        let rules = std::fs::read(package.folder.join("clippy.toml"));
        assert_eq!(
            rules.ok().as_ref(),
            Some(&shared),
            "crates/{name}/clippy.toml is ../clippy-pure.toml"
        );
        for (dependency, kind) in &package.dependencies {
            let impure = IMPURE.contains(&dependency.as_str());
            assert!(
                kind == "dev" || !impure,
                "{name} is without I/O and may not use {dependency}"
            );
        }
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for package in packages() {
        let manifest =
            std::fs::read_to_string(package.folder.join("Cargo.toml")).expect("a manifest");
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} sets its own lints",
            package.name
        );
    }
}

/// A block of dependencies begins with a comment; what follows without an empty line shares it.
#[test]
fn every_dependency_has_a_reason() {
    let manifest =
        std::fs::read_to_string(root().join("Cargo.toml")).expect("the manifest of the workspace");
    let mut lines = manifest
        .lines()
        .skip_while(|line| *line != "[workspace.dependencies]")
        .skip(1);
    let mut has_reason = false;
    let mut count = 0;
    for line in lines.by_ref().take_while(|line| !line.starts_with('[')) {
        if line.is_empty() {
            has_reason = false;
        } else if line.starts_with('#') {
            has_reason = true;
        } else {
            assert!(
                has_reason,
                "a comment above this line should say why it is there: {line}"
            );
            count += 1;
        }
    }
    assert!(count > 10, "the dependencies were found");
}

/// Versions are chosen in one place, and so are the reasons.
#[test]
fn crates_take_their_dependencies_from_the_workspace() {
    for package in packages() {
        let manifest =
            std::fs::read_to_string(package.folder.join("Cargo.toml")).expect("a manifest");
        let mut in_dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && line.contains('=') && !line.starts_with('#') {
                let shared =
                    line.contains(".workspace = true") || line.contains("workspace = true");
                assert!(shared, "{}: {line}", package.name);
            }
        }
    }
}

/// What cargo prints of the broker's dependencies, by `arguments`.
fn broker_tree(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "-p", "tidelog-broker", "--offline", "--locked"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// `TIDELOG_BLESS=1` writes it anew.
#[test]
fn the_guide_shows_what_comes_with_the_broker() {
    const BEGIN: &str = "$ cargo tree -p tidelog-broker -e normal --format '{lib}'\n";
    let path = root().join("docs/guides/embedding.md");
    let guide = std::fs::read_to_string(&path).expect("the guide");
    let (before, rest) = guide.split_once(BEGIN).expect("the command");
    let (shown, after) = rest.split_once("```").expect("the end of the block");
    let tree = broker_tree(&["-e", "normal", "--format", "{lib}"]);
    if std::env::var_os("TIDELOG_BLESS").is_some() {
        let guide = format!("{before}{BEGIN}{tree}```{after}");
        std::fs::write(&path, guide).expect("the guide is written");
    } else {
        assert_eq!(shown, tree, "TIDELOG_BLESS=1 writes it anew");
    }
    let crates = broker_tree(&["-e", "normal", "--prefix", "none", "--format", "{lib}"]);
    let crates: BTreeSet<_> = crates
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    let count = format!("nothing but Rust: {} crates", crates.len() - 1);
    assert!(guide.contains(&count), "the guide should say: {count}");
}

#[test]
fn the_broker_brings_no_code_in_c_unless_it_is_asked_for() {
    /// Who builds or finds code in other languages.
    const BUILDERS: [&str; 7] = [
        "cc",
        "cmake",
        "bindgen",
        "pkg-config",
        "vcpkg",
        "nasm-rs",
        "autotools",
    ];
    let builders = |features: &str| -> Vec<String> {
        let edges = "normal,build";
        let tree = broker_tree(&["-e", edges, "--prefix", "none", "--features", features]);
        let names = tree.lines().filter_map(|line| line.split(' ').next());
        let found: BTreeSet<_> = names.filter(|name| BUILDERS.contains(name)).collect();
        found.into_iter().map(str::to_owned).collect()
    };
    assert_eq!(builders("testing"), Vec::<String>::new());
    assert_eq!(builders("zstd"), ["cc", "pkg-config"]);
}
