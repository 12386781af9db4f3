//! `cargo xtask msrv`: what the published crates need to be built asks for no newer Rust than the workspace promises.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::Outcome;
use crate::workspace::{PUBLISHED, list, metadata, text};

/// Major, minor, patch.
type Version = (u64, u64, u64);

/// Checks the locked versions. Dependencies of tests, examples and of this program are nobody's concern but ours.
pub(crate) fn run() -> Outcome {
    let metadata = metadata(&["--locked", "--all-features"])?;
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), package)).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), node)).collect();
    let is_published = |package: &Value| package["source"].is_null() && PUBLISHED.contains(&text(&package["name"]));
    let roots: Vec<&str> = packages.iter().filter(|(_, package)| is_published(package)).map(|(id, _)| *id).collect();

    let Some(promised) = roots.iter().find_map(|id| version(&packages[id]["rust_version"])) else {
        return Err("the published crates state no `rust-version`".into());
    };
    let needed = closure(&roots, &nodes);
    let mut asked: Vec<(Version, &str)> = needed
        .iter()
        .filter_map(|id| packages.get(id).map(|package| (*id, package)))
        .filter(|(_, package)| !is_published(package))
        .filter_map(|(id, package)| version(&package["rust_version"]).map(|version| (version, id)))
        .collect();
    asked.sort_unstable();

    let name = |id: &str| {
        packages
            .get(id)
            .map_or_else(String::new, |package| format!("{} {}", text(&package["name"]), text(&package["version"])))
    };
    let culprits: Vec<_> = asked.iter().filter(|(version, _)| *version > promised).collect();
    for (version, id) in &culprits {
        let brought_by: Vec<String> =
            needed.iter().filter(|other| brings(nodes.get(*other), id)).map(|other| name(other)).collect();
        println!(
            "{} (brought by {}) asks for Rust {}, the workspace promises {}",
            name(id),
            brought_by.join(", "),
            shown(*version),
            shown(promised)
        );
    }
    if !culprits.is_empty() {
        println!(
            "mend: take an older version of it or of what brings it (`cargo update <name> --precise <version>`), or raise `rust-version` in the root Cargo.toml \
             and say so in CHANGELOG.md"
        );
        return Ok(false);
    }
    let most =
        asked.last().map_or_else(|| "none".to_owned(), |(version, id)| format!("{} ({})", shown(*version), name(id)));
    println!(
        "{} dependencies of the published crates are content with Rust {}; the newest asked for is {most}",
        needed.len() - roots.len(),
        shown(promised)
    );
    Ok(true)
}

/// Everything that is compiled when the roots are: normal and build dependencies, on any platform.
fn closure<'a>(roots: &[&'a str], nodes: &BTreeMap<&'a str, &'a Value>) -> BTreeSet<&'a str> {
    let mut needed = BTreeSet::new();
    let mut open: Vec<&str> = roots.to_vec();
    while let Some(id) = open.pop() {
        if needed.insert(id) {
            open.extend(nodes.get(id).into_iter().flat_map(|node| compiled_with(node)));
        }
    }
    needed
}

fn compiled_with(node: &Value) -> impl Iterator<Item = &str> {
    let counts = |dependency: &&Value| list(&dependency["dep_kinds"]).iter().any(|kind| text(&kind["kind"]) != "dev");
    list(&node["deps"]).iter().filter(counts).map(|dependency| text(&dependency["pkg"]))
}

fn brings(node: Option<&&Value>, id: &str) -> bool {
    node.is_some_and(|node| compiled_with(node).any(|dependency| dependency == id))
}

fn version(value: &Value) -> Option<Version> {
    let mut numbers = value.as_str()?.split('.').map(|number| number.parse().ok());
    let major = numbers.next()??;
    Some((major, numbers.next().flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0)))
}

fn shown((major, minor, patch): Version) -> String {
    if patch == 0 { format!("{major}.{minor}") } else { format!("{major}.{minor}.{patch}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let of = |text: &str| version(&Value::from(text)).unwrap();
        assert!(of("1.89") > of("1.9"));
        assert!(of("1.89.1") > of("1.89"));
        assert_eq!(of("1.89.0"), of("1.89"));
        assert_eq!(version(&Value::Null), None);
    }

    #[test]
    fn dependencies_of_tests_do_not_count() {
        let root = serde_json::json!({ "deps": [
            { "pkg": "normal", "dep_kinds": [{ "kind": null }] },
            { "pkg": "tests_only", "dep_kinds": [{ "kind": "dev" }] },
            { "pkg": "build_script", "dep_kinds": [{ "kind": "build" }, { "kind": "dev" }] },
        ] });
        let nodes = BTreeMap::from([("root", &root)]);
        assert_eq!(closure(&["root"], &nodes), BTreeSet::from(["root", "normal", "build_script"]));
    }
}
