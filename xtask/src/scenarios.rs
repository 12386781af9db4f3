//! The table of reliability scenarios in `tests/README.md`: complete, and every test it names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The scenarios of the catalogue that must have a test.
const REQUIRED: [RangeInclusive<u32>; 13] = [
    1..=10,
    12..=15,
    17..=20,
    24..=24,
    26..=28,
    32..=33,
    40..=42,
    44..=44,
    46..=46,
    52..=53,
    56..=56,
    60..=61,
    71..=75,
];

/// What is wrong with the table, each with its mend. `sources` are the files a test may stand in.
pub(crate) fn check(table: &str, sources: &[(PathBuf, String)]) -> Vec<String> {
    let rows = rows(table);
    let mut wrong = Vec::new();
    for number in REQUIRED.into_iter().flatten().collect::<BTreeSet<u32>>() {
        match rows.get(&number) {
            None => wrong.push(format!(
                "tests/README.md: scenario {number} has no row; add `| {number} | what is promised | file::function |`"
            )),
            Some(tests) if tests.is_empty() => {
                wrong.push(format!(
                    "tests/README.md: scenario {number} names no test; write `file::function` into its last cell"
                ));
            }
            Some(_) => {}
        }
    }
    for (number, tests) in &rows {
        for test in tests.iter().filter(|test| !exists(test, sources)) {
            wrong.push(format!(
                "tests/README.md: scenario {number} names `{test}`, which does not exist; write the test, or correct the name to `file::function`"
            ));
        }
    }
    wrong
}

/// Number and tests of every row.
fn rows(table: &str) -> BTreeMap<u32, Vec<String>> {
    let mut rows: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for line in table.lines().filter(|line| line.trim_start().starts_with('|')) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let (Some(first), Some(last)) = (cells.first(), cells.last()) else { continue };
        let Ok(number) = first.parse() else { continue };
        // Tests stand between backticks; words beside them are for people.
        let tests = last.split('`').skip(1).step_by(2).filter(|test| test.contains("::")).map(str::to_owned);
        rows.entry(number).or_default().extend(tests);
    }
    rows
}

/// Whether `file::function` is a function of a file of that name.
fn exists(test: &str, sources: &[(PathBuf, String)]) -> bool {
    let mut parts = test.rsplit("::");
    let (Some(function), Some(file)) = (parts.next(), test.split("::").next()) else { return false };
    let Some(file) = Path::new(file).file_stem() else { return false };
    sources.iter().any(|(path, text)| {
        let named = path.with_extension("").iter().any(|part| part == file);
        named && defines(text, function)
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
    fn missing_rows_and_missing_tests_are_named() {
        let sources =
            [(PathBuf::from("tests/tests/atomicity.rs"), "#[test]\nfn rolled_back(db: Database) {}".to_owned())];
        let table = "| number | scenario | test |\n|---|---|---|\n| 1 | roll back | `atomicity::rolled_back` |\n| 2 | commit | `atomicity::rolled`, `other::x` |\n| 3 | panic | |\n";
        let wrong = check(table, &sources);
        let about = |number: u32| wrong.iter().filter(|text| text.contains(&format!("scenario {number} "))).count();
        assert_eq!((about(1), about(2), about(3), about(4), about(16)), (0, 2, 1, 1, 0));
    }
}
