//! No SQL is built from values: what goes to a database without binds is a constant, or says beside it why it may be more.

use std::path::Path;

/// The crate that speaks SQL.
const SPEAKS_SQL: &str = "consistency-diesel/src";
/// Calls that send a text as it is. `Statement` is not among them: it takes `&'static str` alone, and binds.
const SENDS: [&str; 5] = [".run_batch(", ".open_with(", ".batch_execute(", "::batch_execute(self,", "sql_query("];
/// Makes a `&'static str` of a value.
const LEAKS: [&str; 2] = [".leak()", "Box::leak("];
/// Begins the reason, on the line of the call or one of the two above.
const REASON: &str = "// SQL: ";

/// What is wrong with one source file, each with its mend.
pub(crate) fn check(path: &Path, text: &str) -> Vec<String> {
    if !path.starts_with(SPEAKS_SQL) {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let offenders = (0..lines.len()).filter(|at| is_wrong(&lines, *at));
    let complaint = |at: usize| {
        format!(
            "{}:{}: SQL that is no constant; bind the value with `Statement`, or write `{REASON}<why no value can be in it>` above",
            path.display(),
            at + 1
        )
    };
    offenders.map(complaint).collect()
}

fn is_wrong(lines: &[&str], at: usize) -> bool {
    let line = lines[at];
    if line.trim_start().starts_with("//") || lines[at.saturating_sub(2)..=at].iter().any(|line| line.contains(REASON))
    {
        return false;
    }
    let leaks = LEAKS.iter().any(|leak| line.contains(leak));
    let sends = SENDS.iter().any(|send| {
        line.match_indices(send).any(|(position, _)| {
            let behind = lines[at + 1..].iter().take(2).copied();
            let argument = std::iter::once(&line[position + send.len()..]).chain(behind).collect::<Vec<_>>().join(" ");
            !is_constant(argument.trim_start())
        })
    });
    leaks || sends
}

/// Whether `code` begins with one text literal or one constant, and nothing is done to it.
fn is_constant(code: &str) -> bool {
    let behind = match code.strip_prefix('"') {
        Some(literal) => {
            let mut escaped = false;
            let end = literal.find(|letter| {
                let ends = letter == '"' && !escaped;
                escaped = letter == '\\' && !escaped;
                ends
            });
            end.map(|end| &literal[end + 1..])
        }
        None => {
            let end = code.find(|letter: char| !letter.is_ascii_uppercase() && letter != '_').unwrap_or(code.len());
            (end > 1).then(|| &code[end..])
        }
    };
    behind.is_some_and(|behind| behind.trim_start().starts_with([')', ',']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> usize {
        check(Path::new("consistency-diesel/src/one.rs"), text).len()
    }

    #[test]
    fn constants_are_let_pass() {
        assert_eq!(complaints("conn.run_batch(\"BEGIN\").await"), 0);
        assert_eq!(complaints("conn.run_batch(\"SET x = \\\"'y'\\\"\").await"), 0);
        assert_eq!(complaints("conn.open_with(\n    \"BEGIN; SAVEPOINT a\",\n)"), 0);
        assert_eq!(complaints("conn.run_batch(LISTEN).await"), 0);
        assert_eq!(complaints("// conn.run_batch(&format!(..))"), 0);
    }

    #[test]
    fn whatever_is_built_needs_a_reason() {
        for built in ["&format!(\"SET {x}\")", "&text", "\"SET \".to_owned() + x", "CONSTANT.replace(a, b)", "query"] {
            assert_eq!(complaints(&format!("conn.run_batch({built}).await")), 1, "{built}");
            assert_eq!(complaints(&format!("diesel::sql_query({built}).execute(conn)")), 1, "{built}");
            assert_eq!(
                complaints(&format!("// SQL: a number of our own.\nconn.run_batch({built}).await")),
                0,
                "{built}"
            );
        }
        assert_eq!(complaints("Statement::new(text.leak(), &[])"), 1);
        assert_eq!(check(Path::new("tests/src/one.rs"), "conn.run_batch(&text)"), [""; 0]);
    }
}
