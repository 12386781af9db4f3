//! The documents: the example is the same everywhere, the two commands are two, and no link within the project is dead.

use std::path::Path;

/// The commands a newcomer types, and nothing else.
const TWO_COMMANDS: [&str; 2] = ["cargo run --release -p warehouse", "cargo xtask test"];

/// The contents of the fenced blocks in this language.
fn fenced<'a>(text: &'a str, language: &str) -> Vec<Vec<&'a str>> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, Vec<&str>)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some((wanted, lines))) => {
                if *wanted {
                    blocks.push(std::mem::take(lines));
                }
                open = None;
            }
            (Some(found), None) => {
                open = Some((found.split(',').next().is_some_and(|found| found.trim() == language), Vec::new()))
            }
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    blocks
}

/// Compares the example and the SQL of the project's README with those of the crate's, whose example is a documentation test.
pub(crate) fn check_blocks(project: &str, krate: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for language in ["rust", "sql"] {
        let (shown, tested) = (fenced(project, language), fenced(krate, language));
        if tested.is_empty() {
            wrong.push(format!(
                "consistency-diesel/README.md: has no ```{language} block; write there what README.md shows"
            ));
        } else if shown != tested {
            wrong.push(format!(
                "README.md: its ```{language} blocks differ from those of consistency-diesel/README.md; make them the same"
            ));
        }
    }
    wrong
}

/// Checks the section `## Two commands`.
pub(crate) fn check_commands(project: &str) -> Vec<String> {
    let section = project.split_once("\n## Two commands\n").map_or("", |(_, behind)| behind);
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let blocks = fenced(section, "sh");
    if blocks.len() == 1 && blocks[0] == TWO_COMMANDS {
        return Vec::new();
    }
    vec![format!(
        "README.md: the section `## Two commands` must hold one ```sh block with exactly these lines: {TWO_COMMANDS:?}"
    )]
}

/// The links of a document that lead to no file.
pub(crate) fn check_links(path: &Path, shown: &Path, text: &str) -> Vec<String> {
    let folder = path.parent().unwrap_or(path);
    let targets =
        text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split_once(')')).map(|(target, _)| target);
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#') && !target.contains(char::is_whitespace))
        .filter(|target| !folder.join(target.split('#').next().unwrap_or_default()).exists())
        .map(|target| format!("{}: the link to `{target}` is dead; correct it or write the file", shown.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_commands_must_stand_alone() {
        let good = "# x\n\n## Two commands\n\n```sh\ncargo run --release -p warehouse\ncargo xtask test\n```\n\n## More\n\n```sh\nls\n```\n";
        assert_eq!(check_commands(good), [""; 0]);
        assert_eq!(check_commands(&good.replace("cargo xtask test", "cargo test")).len(), 1);
        assert_eq!(check_commands("# x\n").len(), 1);
    }

    #[test]
    fn the_shown_example_must_be_the_tested_one() {
        let one = "a\n```rust,no_run\nfn main() {}\n```\n```sql\nSELECT 1;\n```\n";
        assert_eq!(check_blocks(one, one), [""; 0]);
        assert_eq!(check_blocks("no example", one).len(), 2);
        assert_eq!(check_blocks(one, &one.replace("SELECT 1", "SELECT 2")).len(), 1);
        assert_eq!(check_blocks(one, "no example").len(), 2);
    }

    #[test]
    fn dead_links_are_named() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let wrong = check_links(
            &path,
            Path::new("README.md"),
            "[a](src/main.rs#x) [b](https://example.org) [c](#d) [e](gone.md)",
        );
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].contains("gone.md"));
    }
}
