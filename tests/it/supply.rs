//! What comes in with dependencies, held against `deny.toml` without anything from outside. `cargo deny check` also asks
//! the database of advisories, where that can be reached.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("the file is there")
}

/// Returns the texts in quotes on a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

#[test]
fn p12_flowrun_has_no_unsafe_code() {
    assert!(read("Cargo.toml").contains("[lints.rust]\nunsafe_code = \"forbid\"\n"));
}

#[test]
fn p12_dependencies_come_from_the_registry_and_none_is_banned() {
    let deny = read("deny.toml");
    let banned: BTreeSet<&str> =
        deny.lines().filter(|line| line.contains("{ name = ")).filter_map(|line| quoted(line).next()).collect();
    assert!(banned.len() >= 5, "{banned:?}");
    let lock = read("Cargo.lock");
    let mut seen = 0;
    for package in lock.split("[[package]]").skip(1) {
        let field =
            |name: &str| package.lines().find(|line| line.starts_with(name)).and_then(|line| quoted(line).next());
        let name = field("name = ").expect("a package has a name");
        assert!(!banned.contains(name), "{name} is banned in deny.toml");
        let source = field("source = ");
        let known = source == Some("registry+https://github.com/rust-lang/crates.io-index");
        assert!(known || (name == "flowrun" && source.is_none()), "{name} comes from {source:?}");
        seen += 1;
    }
    assert!(seen > 100, "only {seen} packages");
}

/// Tells whether an expression such as `(MIT OR Apache-2.0) AND Unicode-3.0` is fulfilled by the licences allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    // Every `AND` is asked for as a whole: stricter than the brackets, which no dependency has needed so far.
    plain.split(" AND ").all(|part| part.split(" OR ").any(|licence| allowed.contains(licence.trim())))
}

#[test]
fn p12_every_licence_is_allowed() {
    let deny = read("deny.toml");
    let allowed = deny.lines().find(|line| line.starts_with("allow = ")).expect("deny.toml allows licences");
    let allowed: BTreeSet<&str> = quoted(allowed).collect();
    // What other platforms need has not been fetched here.
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc is beside cargo");
    let rustc = String::from_utf8(rustc.stdout).expect("it is text");
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let args = ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host];
    let run = Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let run = run.expect("cargo runs its tests");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let metadata: Value = serde_json::from_slice(&run.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    let wrong: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|licence| is_allowed(licence, &allowed)))
        .map(|package| format!("{}: {}", package["name"], package["license"]))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(is_allowed("(MIT OR GPL-3.0) AND Unicode-3.0", &allowed) && !is_allowed("GPL-3.0", &allowed));
}

/// Who does not want a cluster neither builds what it needs nor reads of it.
#[cfg(not(feature = "restate"))]
#[test]
fn the_default_build_knows_nothing_of_clusters() {
    let args = ["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"];
    let run = Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let tree = String::from_utf8(run.expect("cargo runs its tests").stdout).expect("it is text");
    assert!(tree.lines().any(|line| line.starts_with("redb ")), "{tree}");
    for name in ["restate-sdk", "reqwest", "hyper"] {
        assert!(!tree.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} comes in by default");
    }
    for args in [&["--help"][..], &["exec", "--help"], &["list", "--help"]] {
        let help = Command::new(env!("CARGO_BIN_EXE_flowrun")).args(args).output().expect("the program starts");
        let help = String::from_utf8(help.stdout).expect("it is text");
        assert!(!help.to_lowercase().contains("restate") && !help.contains("worker"), "{help}");
    }
}
