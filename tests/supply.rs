//! What the program is made of: every dependency comes from crates.io, under a licence that
//! `deny.toml` allows, in one version unless `deny.toml` says why not. Needs no network, and no
//! other tool than cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use toml::Table;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn toml(path: &str) -> Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A list of `deny.toml`.
fn list(rules: &Table, section: &str, key: &str) -> Vec<toml::Value> {
    rules[section][key].as_array().unwrap_or_else(|| panic!("{section}.{key}")).clone()
}

fn texts(rules: &Table, section: &str, key: &str) -> Vec<String> {
    let text = |value: &toml::Value| value.as_str().expect("a text").to_owned();
    list(rules, section, key).iter().map(text).collect()
}

/// Crates of a list of tables, each of which gives its reason.
fn crates(rules: &Table, key: &str) -> Vec<String> {
    let named = |item: &toml::Value| {
        assert!(item["reason"].as_str().is_some_and(|why| !why.is_empty()), "{item}: why?");
        item["crate"].as_str().expect("a crate").to_owned()
    };
    list(rules, "bans", key).iter().map(named).collect()
}

/// Whether a licence expression can be met by `allowed` licences alone. It is read as SPDX says,
/// with `/` for `OR` as old manifests have it.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let met = any_of(&mut rest, allowed);
    met && rest.is_empty()
}

fn any_of(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = all_of(words, allowed);
    while let [word, rest @ ..] = *words
        && *word == "OR"
    {
        *words = rest;
        // Not short-circuited: the words have to be read either way.
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while let [word, rest @ ..] = *words
        && *word == "AND"
    {
        *words = rest;
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &[String]) -> bool {
    let [word, rest @ ..] = *words else { return false };
    *words = rest;
    if *word == "(" {
        let met = any_of(words, allowed);
        let [word, rest @ ..] = *words else { return false };
        *words = rest;
        return met && *word == ")";
    }
    let mut name = (*word).to_owned();
    if let [with, exception, rest @ ..] = *words
        && *with == "WITH"
    {
        name = format!("{name} WITH {exception}");
        *words = rest;
    }
    allowed.contains(&name)
}

#[test]
fn a_licence_expression_is_met_by_what_is_allowed_or_it_is_not() {
    let allowed = ["MIT", "Apache-2.0"].map(str::to_owned);
    let check = |expression: &str, expected| {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression:?}");
    };
    for met in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0 OR MIT",
        "GPL-3.0/MIT",
        "MIT AND Apache-2.0",
        "(GPL-3.0 OR MIT) AND Apache-2.0",
        "Apache-2.0 WITH LLVM-exception OR MIT",
        "GPL-3.0 AND MIT OR Apache-2.0",
    ] {
        check(met, true);
    }
    for unmet in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR Apache-2.0) AND GPL-3.0",
        "MIT AND (GPL-3.0 OR AGPL-3.0)",
        "Apache-2.0 WITH LLVM-exception",
        "MIT Apache-2.0",
        "(MIT",
        "MIT)",
    ] {
        check(unmet, false);
    }
}

/// What is built for this kind of machine, tests and benches included: by package ID.
fn packages() -> BTreeMap<String, Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", &target])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let id = |value: &Value| value.as_str().expect("an ID").to_owned();
    let by_id = |list: Vec<Value>| list.into_iter().map(|item| (id(&item["id"]), item));
    let nodes: BTreeMap<_, _> = by_id(list(&said["resolve"]["nodes"])).collect();
    let packages: BTreeMap<_, _> = by_id(list(&said["packages"])).collect();
    // Only what is reached: cargo also names what is optional and not asked for.
    let mut left: Vec<String> = list(&said["workspace_members"]).iter().map(id).collect();
    let mut reached = BTreeSet::new();
    while let Some(next) = left.pop() {
        if reached.insert(next.clone()) {
            let absent = not_asked_for(&packages[&next], &nodes[&next]);
            let there = |it: &&Value| !absent.contains(it["name"].as_str().expect("a name"));
            left.extend(list(&nodes[&next]["deps"]).iter().filter(there).map(|it| id(&it["pkg"])));
        }
    }
    packages.into_iter().filter(|(id, _)| reached.contains(id)).collect()
}

/// Optional dependencies of a package that none of its enabled features asks for, as its code
/// names them.
fn not_asked_for(package: &Value, node: &Value) -> BTreeSet<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut asked = BTreeSet::new();
    for feature in list(&node["features"]) {
        for means in list(&package["features"][feature.as_str().expect("a name")]) {
            let means = means.as_str().expect("a text");
            let by_feature = means.split_once('/').map(|(name, _)| name);
            // With a question mark it asks for nothing by itself.
            let named = means.strip_prefix("dep:").or(by_feature.filter(|it| !it.ends_with('?')));
            asked.extend(named.map(str::to_owned));
        }
    }
    let (mut absent, mut there) = (BTreeSet::new(), BTreeSet::new());
    for dependency in list(&package["dependencies"]) {
        let name = dependency["rename"].as_str().or(dependency["name"].as_str()).expect("a name");
        let is_there = dependency["optional"] != true || asked.contains(name);
        let names = if is_there { &mut there } else { &mut absent };
        names.insert(name.replace('-', "_"));
    }
    absent.difference(&there).cloned().collect()
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = texts(&toml("deny.toml"), "licenses", "allow");
    let packages = packages();
    assert!(packages.len() > 100, "hardly any packages were found");
    let mut faults = Vec::new();
    for package in packages.values() {
        let expression = package["license"].as_str().unwrap_or_default();
        if !is_allowed(expression, &allowed) {
            faults.push(format!("{} {}: {expression:?}", package["name"], package["version"]));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The crate and the start of its version in `name@version`.
fn covers(entry: &str, name: &str, version: &str) -> bool {
    let (named, start) = entry.split_once('@').unwrap_or((entry, ""));
    let rest = version.strip_prefix(start);
    named == name && (start.is_empty() || rest.is_some_and(|r| r.is_empty() || r.starts_with('.')))
}

#[test]
fn there_is_one_version_of_each_dependency_unless_the_list_says_why() {
    let skipped = crates(&toml("deny.toml"), "skip");
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages().values() {
        let text = |key: &str| package[key].as_str().expect("a text").to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    let mut used = BTreeSet::new();
    let mut faults = Vec::new();
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let of = |version: &str| skipped.iter().find(|entry| covers(entry, name, version));
        used.extend(versions.iter().filter_map(|version| of(version)));
        if versions.iter().filter(|version| of(version).is_none()).count() > 1 {
            faults.push(format!("{name}: {versions:?}"));
        }
    }
    assert!(faults.is_empty(), "several versions:\n{}\n", faults.join("\n"));
    let unused: Vec<_> = skipped.iter().filter(|entry| !used.contains(entry)).collect();
    assert!(unused.is_empty(), "in the list and not twice there: {unused:?}");
}

#[test]
fn every_dependency_comes_from_one_registry_and_none_is_banned() {
    let rules = toml("deny.toml");
    for key in ["unknown-registry", "unknown-git"] {
        assert_eq!(rules["sources"][key].as_str(), Some("deny"));
    }
    let banned = crates(&rules, "deny");
    for path in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let lock = toml(path);
        let packages = lock["package"].as_array().expect("packages");
        assert!(packages.len() > 100, "{path}: hardly any packages were found");
        for package in packages {
            let text = |key: &str| package.get(key).and_then(toml::Value::as_str);
            let (name, version) = (text("name").expect("a name"), text("version").expect("one"));
            let is_banned = banned.iter().any(|entry| covers(entry, name, version));
            assert!(!is_banned, "{path}: {name} is banned");
            match text("source") {
                // Ours.
                None => {
                    assert!(["postbackd", "loadtest", "postbackd-fuzz"].contains(&name), "{name}")
                }
                Some(source) => {
                    assert_eq!(source, CRATES_IO, "{path}: {name}");
                    assert!(text("checksum").is_some(), "{path}: {name} has no checksum");
                }
            }
        }
    }
}

/// Lines of a script or Makefile that have cargo resolve dependencies without `--locked`.
fn unlocked(text: &str) -> Vec<&str> {
    let resolves = |line: &&str| {
        let mut words = line.split([' ', '\t', '@', '`', '"']).skip_while(|word| *word != "cargo");
        let resolving = ["build", "test", "clippy", "doc", "bench", "check", "run", "metadata"];
        words.nth(1).is_some_and(|command| resolving.contains(&command))
    };
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.filter(resolves).filter(|line| !line.contains("--locked")).collect()
}

#[test]
fn whatever_is_built_is_built_of_the_locked_versions() {
    assert_eq!(unlocked("\tcargo build --release").len(), 1);
    assert_eq!(unlocked("RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps").len(), 1);
    assert_eq!(unlocked("RUN cargo build --locked\ncargo fmt --all\n# cargo build"), [""; 0]);
    for path in [
        "Makefile",
        ".ci/run",
        "scripts/setup.sh",
        "scripts/run.sh",
        "scripts/fuzz.sh",
        "deploy/Containerfile",
    ] {
        assert_eq!(unlocked(&read(path)), [""; 0], "{path}");
    }
}
