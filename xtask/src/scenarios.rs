//! The table of scenarios in `tests/README.md`: every test it names exists, and no file of tests is missing in it.

use std::path::{Path, PathBuf};

/// Where the table begins.
const HEAD: &str = "| scenario | test |";
/// The folder whose files must be named.
const TESTS: &str = "tests/tests";

/// What is wrong with the table, each with its mend. `sources` are the files a test may stand in.
pub(crate) fn check(table: &str, sources: &[(PathBuf, String)]) -> Vec<String> {
    let rows = rows(table);
    let mut wrong = Vec::new();
    if rows.is_empty() {
        wrong.push(format!("tests/README.md: the table below `{HEAD}` is gone"));
    }
    for (scenario, tests) in &rows {
        if tests.is_empty() {
            wrong.push(format!(
                "tests/README.md: `{scenario}` names no test; write `file::function` into its last cell"
            ));
        }
        for test in tests.iter().filter(|test| !exists(test, sources)) {
            wrong.push(format!(
                "tests/README.md: `{scenario}` names `{test}`, which does not exist; write the test, or correct the name to `file::function`"
            ));
        }
    }
    let named = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        rows.iter().flat_map(|(_, tests)| tests).any(|test| test.split("::").next() == Some(name))
    };
    let files = sources.iter().map(|(path, _)| path.as_path()).filter(|path| path.parent() == Some(Path::new(TESTS)));
    for file in files.filter(|path| !named(path)) {
        wrong.push(format!(
            "tests/README.md: no row names {}; add `| what it promises | file::function |`",
            file.display()
        ));
    }
    wrong
}

/// Scenario and tests of every row.
fn rows(table: &str) -> Vec<(String, Vec<String>)> {
    let lines = table.lines().skip_while(|line| *line != HEAD).skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let (scenario, tests) = line.trim().trim_matches('|').rsplit_once(" | ")?;
        // Tests stand between backticks; words beside them are for people.
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Some((scenario.trim().to_owned(), tests))
    };
    lines.filter_map(row).collect()
}

/// Whether `file::function` is a function of a file of that name, or `file` a file.
fn exists(test: &str, sources: &[(PathBuf, String)]) -> bool {
    let mut parts = test.split("::");
    let file = parts.next().unwrap_or_default().trim_end_matches(".rs");
    let function = parts.last();
    sources.iter().any(|(path, text)| {
        // A whole path, the name of a file, or that of a folder of files.
        let path = path.with_extension("");
        let named = path.ends_with(file) || path.iter().any(|part| part == file);
        named && function.is_none_or(|function| defines(text, function))
    })
}

fn defines(text: &str, function: &str) -> bool {
    let definition = format!("fn {function}");
    text.match_indices(&definition).any(|(at, _)| {
        let next = text[at + definition.len()..].chars().next();
        next.is_some_and(|next| !next.is_alphanumeric() && next != '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tests_and_files_without_a_row_are_named() {
        let source = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let sources = [
            source("tests/tests/atomicity.rs", "#[test]\nfn rolled_back(db: Database) {}"),
            source("tests/tests/left_out.rs", ""),
            source("core/src/retry.rs", "fn bounded() {}"),
        ];
        let table = "| a | b |\n|---|---|\n\n| scenario | test |\n|---|---|\n| roll back | `atomicity.rs::rolled_back` |\n\
                     | commit | `atomicity.rs::rolled`, `other::x` |\n| panic | |\n| all | `atomicity.rs` (all), `core/src/retry.rs::bounded` |\n";
        let wrong = check(table, &sources);
        let about = |what: &str| wrong.iter().filter(|text| text.contains(what)).count();
        assert_eq!(
            (about("`roll back`"), about("`commit`"), about("`panic`"), about("`all`")),
            (0, 2, 1, 0),
            "{wrong:?}"
        );
        assert_eq!((about("left_out.rs"), wrong.len()), (1, 4), "{wrong:?}");
        assert_eq!(check("", &sources).len(), 3);
    }
}
