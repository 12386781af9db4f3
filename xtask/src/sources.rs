//! The files of the workspace, and the rules every Rust source file keeps.

use std::io;
use std::path::{Path, PathBuf};

/// More lines than this are more than one idea.
const LINES_MAX: usize = 400;
/// Names that say nothing about the contents.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"];
/// Folders that are not ours.
const SKIPPED: [&str; 3] = ["target", ".git", "node_modules"];

/// Every file below `folder` with this ending, in a fixed order.
///
/// # Errors
/// When a folder cannot be read.
pub(crate) fn files(folder: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !SKIPPED.contains(&name.as_str()) {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What is wrong with one source file, each with its mend.
pub(crate) fn check(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display();
    let mut wrong = Vec::new();
    let in_src = path.components().any(|part| part.as_os_str() == "src");
    if in_src && !opens_with_a_sentence(text) {
        wrong.push(format!(
            "{shown}: does not open with a `//!` sentence; say in one what the module is for, in its first line"
        ));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        wrong
            .push(format!("{shown}: {lines} lines, at most {LINES_MAX}; move one of its ideas to a module of its own"));
    }
    let parts: Vec<String> = path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if let Some(name) = parts.iter().find(|part| EMPTY_NAMES.contains(&part.as_str())) {
        wrong.push(format!("{shown}: `{name}` says nothing; name it after what it does"));
    }
    wrong
}

/// Whether the text begins with a `//!` paragraph that ends like a sentence.
fn opens_with_a_sentence(text: &str) -> bool {
    let paragraph: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
    let paragraph = paragraph.join(" ");
    let sentence = paragraph.split_once(". ").map_or(paragraph.as_str(), |(first, _)| first);
    let starts_well = sentence.starts_with(|first: char| !first.is_lowercase());
    starts_well && sentence.split_whitespace().count() >= 3 && paragraph.trim_end().ends_with(['.', ':', ')', '`'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_heard() {
        let good = "//! Does one thing well.\n\nfn main() {}\n";
        assert_eq!(check(Path::new("a/src/lib.rs"), good), [""; 0]);
        assert_eq!(check(Path::new("a/src/lib.rs"), "fn main() {}\n").len(), 1);
        assert_eq!(check(Path::new("a/src/lib.rs"), "//! todo\n").len(), 1);
        assert_eq!(check(Path::new("a/tests/one.rs"), "fn main() {}\n"), [""; 0]);
        assert_eq!(check(Path::new("a/src/utils.rs"), good).len(), 1);
        assert_eq!(check(Path::new("a/src/helpers/one.rs"), good).len(), 1);
        assert_eq!(check(Path::new("a/src/lib.rs"), &format!("{good}{}", "\n".repeat(400))).len(), 1);
    }
}
