//! The figures of `cargo xtask reliability`: kept line by line as they come, and written into docs/reliability.md as tables.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::workspace::{list, root, text, today};

/// With this line ends in a document what no hand has written.
const END: &str = "<!-- end of the figures -->";

/// A long test and how it went.
pub(crate) struct Tested {
    pub(crate) test: String,
    pub(crate) passed: bool,
    pub(crate) seconds: u64,
}

impl Tested {
    /// Under which the tests stand.
    const PART: &str = "tests";

    pub(crate) fn to_json(&self) -> Value {
        json!({ "name": Self::PART, "database": self.test, "passed": self.passed, "seconds": self.seconds })
    }
}

/// One line of JSON per part and database, the newest of each.
fn figures_file() -> PathBuf {
    root().join("docs").join("reliability.json")
}

/// Keeps what a part held, in place of what it held before.
pub(crate) fn keep(figures: &Value) -> Result<(), Box<dyn Error>> {
    let mut kept = read()?;
    let mut figures = figures.clone();
    figures["date"] = today()?.into();
    let same = |kept: &Value| kept["name"] == figures["name"] && kept["database"] == figures["database"];
    kept.retain(|kept| !same(kept));
    kept.push(figures);
    kept.sort_by_key(|figures| (text(&figures["name"]).to_owned(), text(&figures["database"]).to_owned()));
    let lines: Vec<String> = kept.iter().map(|figures| format!("  {figures}")).collect();
    std::fs::write(figures_file(), format!("[\n{}\n]\n", lines.join(",\n")))?;
    Ok(())
}

fn read() -> Result<Vec<Value>, Box<dyn Error>> {
    match std::fs::read_to_string(figures_file()) {
        Ok(kept) => Ok(list(&serde_json::from_str(&kept)?).to_vec()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Writes the tables into the document.
pub(crate) fn write() -> Result<(), Box<dyn Error>> {
    replace_figures("reliability.md", "reliability", &tables(&read()?))
}

/// Writes `figures` into a document, between the line that says that `command` wrote them and the line of their end.
pub(crate) fn replace_figures(document: &str, command: &str, figures: &str) -> Result<(), Box<dyn Error>> {
    let path = root().join("docs").join(document);
    let begin = format!("<!-- figures: written by `cargo xtask {command}` -->");
    let before = std::fs::read_to_string(&path)?;
    let lost = |what: &str| format!("docs/{document} has lost the line where its figures {what}");
    let (head, rest) = before.split_once(&begin).ok_or_else(|| lost("begin"))?;
    let (_, tail) = rest.split_once(END).ok_or_else(|| lost("end"))?;
    std::fs::write(path, format!("{head}{begin}\n\n{figures}{END}{tail}"))?;
    Ok(())
}

/// A table per part: what was counted, line by line, for each database; the tests have a line each.
fn tables(kept: &[Value]) -> String {
    let mut parts: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for figures in kept {
        parts.entry(text(&figures["name"])).or_default().push(figures);
    }
    let mut tables = String::new();
    for (part, columns) in parts {
        let mut names: Vec<String> = columns.iter().flat_map(|figures| flat(figures)).map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        let mut lines = vec![std::iter::once(String::new()).chain(names.iter().cloned()).collect::<Vec<_>>()];
        for figures in columns {
            let mut values: BTreeMap<String, String> = flat(figures).into_iter().collect();
            let values = names.iter().map(|name| values.remove(name).unwrap_or_default());
            lines.push(std::iter::once(text(&figures["database"]).to_owned()).chain(values).collect());
        }
        if part != Tested::PART {
            lines = turned(&lines);
        }
        // Writing to a String does not fail.
        let _ = writeln!(tables, "### {part}\n");
        for (at, line) in lines.iter().enumerate() {
            let _ = writeln!(tables, "| {} |", line.join(" | "));
            if at == 0 {
                let _ = writeln!(tables, "|{}", "---|".repeat(line.len()));
            }
        }
        tables.push('\n');
    }
    tables
}

/// Lines as columns.
fn turned(lines: &[Vec<String>]) -> Vec<Vec<String>> {
    let width = lines.first().map_or(0, Vec::len);
    (0..width).map(|at| lines.iter().map(|line| line[at].clone()).collect()).collect()
}

/// The figures by name; those inside others under both names.
fn flat(figures: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (name, value) in figures.as_object().into_iter().flatten() {
        match value {
            _ if name == "name" || name == "database" => {}
            Value::Object(_) => {
                all.extend(flat(value).into_iter().map(|(inner, value)| (format!("{name}, {inner}"), value)));
            }
            Value::Array(values) => all.push((name.replace('_', " "), course(values))),
            Value::String(text) => all.push((name.replace('_', " "), text.clone())),
            Value::Number(number) if number.is_f64() => {
                all.push((name.replace('_', " "), shown(number.as_f64().unwrap_or(f64::NAN))));
            }
            other => all.push((name.replace('_', " "), other.to_string())),
        }
    }
    all
}

/// To the third digit behind the point.
fn shown(number: f64) -> String {
    // Adding 0 makes a zero of a negative one.
    ((number * 1000.0).round() / 1000.0 + 0.0).to_string()
}

/// What was looked at again and again: where it began and ended, and what was most.
fn course(values: &[Value]) -> String {
    let numbers = || values.iter().filter_map(Value::as_f64);
    let most = numbers().fold(f64::NEG_INFINITY, f64::max);
    match (numbers().next(), numbers().next_back()) {
        (Some(first), Some(last)) => format!("{} to {}, most {}", shown(first), shown(last), shown(most)),
        _ => String::new(),
    }
}

/// The question everybody asks, over all storms.
pub(crate) fn summary() -> Result<String, Box<dyn Error>> {
    let kept = read()?;
    let sum = |name: &str| -> u64 { kept.iter().filter_map(|figures| figures[name].as_u64()).sum() };
    Ok(format!(
        "lost {}, ghosts {}, doubled outside the windows {}, stuck {}; {} doubled in them, by {} kills",
        sum("lost"),
        sum("ghosts"),
        sum("doubled_outside"),
        sum("stuck"),
        sum("doubled_in_windows"),
        sum("kills")
    ))
}
