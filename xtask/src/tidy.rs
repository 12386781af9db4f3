//! `cargo xtask tidy`: the rules no compiler checks, each failure with its mend.

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::{PUBLISHED, root};
use crate::{Outcome, markdown, scenarios, sources, statements, states, unsafety};

/// Checks everything and prints every failure.
pub(crate) fn run() -> Outcome {
    let root = root();
    let rust = read(&root, "rs")?;
    let mut wrong: Vec<String> = rust.iter().flat_map(|(path, text)| sources::check(path, text)).collect();
    wrong.extend(rust.iter().flat_map(|(path, text)| statements::check(path, text)));
    let workspace = document(&root, "Cargo.toml", &mut wrong);
    let crates = PUBLISHED.map(|name| (name, document(&root, &format!("{name}/Cargo.toml"), &mut wrong)));
    wrong.extend(unsafety::check(&workspace, &crates));

    let project = document(&root, "README.md", &mut wrong);
    let krate = document(&root, "consistency-diesel/README.md", &mut wrong);
    let table = document(&root, "tests/README.md", &mut wrong);
    wrong.extend(markdown::check_blocks(&project, &krate));
    wrong.extend(markdown::check_commands(&project));
    for (path, text) in read(&root, "md")? {
        wrong.extend(markdown::check_links(&root.join(&path), &path, &text));
    }
    let states = document(&root, "consistency-core/src/state.rs", &mut wrong);
    let diagram = document(&root, "docs/state-machine.md", &mut wrong);
    wrong.extend(states::check(&states, &diagram));
    wrong.extend(scenarios::check(&table, &rust));

    if wrong.is_empty() {
        println!("tidy: {} source files, the documents and the table of scenarios are in order", rust.len());
    } else {
        wrong.iter().for_each(|line| println!("{line}"));
        println!("tidy: {} to mend", wrong.len());
    }
    Ok(wrong.is_empty())
}

/// Path within the workspace, and text, of every file with this ending.
fn read(root: &Path, ending: &str) -> std::io::Result<Vec<(PathBuf, String)>> {
    let within = |path: PathBuf| -> std::io::Result<(PathBuf, String)> {
        let text = fs::read_to_string(&path)?;
        Ok((path.strip_prefix(root).map(Path::to_path_buf).unwrap_or(path), text))
    };
    sources::files(root, ending)?.into_iter().map(within).collect()
}

fn document(root: &Path, name: &str, wrong: &mut Vec<String>) -> String {
    fs::read_to_string(root.join(name)).unwrap_or_else(|error| {
        wrong.push(format!("{name}: cannot be read ({error}); write it"));
        String::new()
    })
}
