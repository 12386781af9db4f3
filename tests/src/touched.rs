//! What a statement of the outbox touches: the rows and pages a database reads for it, and the whole-table scans of its plan.
//!
//! The statements are those of `consistency-diesel/sql`, with values as test data: they are run, measured and rolled back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::any_connection::{AnyConnection, PlanLine, TextValue};
use crate::backend::Backend;
use crate::database::Database;

/// The values of the statements, by the names they have there.
pub type Values<'a> = BTreeMap<&'a str, Bound>;

/// A value as the outbox binds it: a whole number of 64 bits, a text, or a list of numbers each by itself.
#[derive(Debug, Clone)]
pub enum Bound {
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// Numbers or pairs of them, as they stand in a list.
    List(String),
}

impl Bound {
    fn literal(&self) -> String {
        match self {
            Bound::Int(number) => number.to_string(),
            Bound::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Bound::List(list) => list.clone(),
        }
    }
}

/// What one execution of a statement touched.
#[derive(Debug, Default)]
pub struct Touched {
    /// Rows and index entries read; none where the database does not count them (SQLite).
    pub rows: Option<u64>,
    /// Pages read, from memory or not; where the database counts them (PostgreSQL).
    pub pages: Option<u64>,
    /// Rows that went through a sort; where the database counts them (PostgreSQL, MariaDB).
    pub sorted: Option<u64>,
    /// What the plan says of reading or sorting whole tables; where only the plan tells (SQLite).
    pub scans: Vec<String>,
    /// The plan, or the counters, for people.
    pub told: String,
}

/// The names of the statements of `backend`, which are those of its files.
pub fn statements(backend: Backend) -> Vec<String> {
    let folder = std::fs::read_dir(folder(backend)).expect("the folder of the statements");
    let file =
        |entry: std::io::Result<std::fs::DirEntry>| entry.expect("a file").file_name().into_string().expect("a text");
    let mut names: Vec<_> = folder.map(file).filter_map(|name| name.strip_suffix(".sql").map(str::to_owned)).collect();
    names.sort();
    names
}

/// Runs the statement `name` with `values`, measures it and rolls it back.
///
/// `blind` has PostgreSQL plan it without looking at the values, as it may after some executions of a prepared statement.
///
/// # Panics
/// When the statement asks for a value that is not there, or fails.
pub fn touched(database: &Database, name: &str, values: &Values<'_>, blind: bool) -> Touched {
    let path = folder(database.backend()).join(format!("{name}.sql"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut conn = AnyConnection::open(database.backend(), database.address()).expect("a connection");
    match database.backend() {
        Backend::Sqlite => on_sqlite(&mut conn, &text, values),
        Backend::Postgres => on_postgres(&mut conn, &text, values, blind),
        Backend::Mysql => on_mysql(&mut conn, &text, values),
    }
}

fn folder(backend: Backend) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../consistency-diesel/sql").join(backend.key())
}

/// The text with what `place` puts in the place of each value, the places counted from 1.
fn filled(text: &str, values: &Values<'_>, mut place: impl FnMut(usize, &Bound) -> String) -> String {
    let (mut filled, mut rest, mut count) = (String::new(), text, 0);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').expect("a closed brace");
        let value = values.get(name).unwrap_or_else(|| panic!("no value `{name}` is known here: add one to the test"));
        count += 1;
        filled.push_str(before);
        filled.push_str(&place(count, value));
        rest = behind;
    }
    filled + rest
}

/// SQLite tells its plan alone, which does not depend on the values.
fn on_sqlite(conn: &mut AnyConnection, text: &str, values: &Values<'_>) -> Touched {
    let sql = format!("EXPLAIN QUERY PLAN {}", filled(text, values, |place, _| format!("?{place}")));
    let plan: Vec<PlanLine> = conn.load(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let plan: Vec<String> = plan.into_iter().map(|line| line.detail).collect();
    let is_whole = |line: &&String| {
        let scanned = line.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
        scanned.is_some_and(|table| ["consistency_task", "t", "e"].contains(&table)) || line.contains("FOR ORDER BY")
    };
    Touched { scans: plan.iter().filter(is_whole).cloned().collect(), told: plan.join("\n"), ..Touched::default() }
}

fn on_postgres(conn: &mut AnyConnection, text: &str, values: &Values<'_>, blind: bool) -> Touched {
    let (mut types, mut given) = (Vec::new(), Vec::new());
    let prepared = filled(text, values, |place, value| {
        types.push(if matches!(value, Bound::Int(_)) { "bigint" } else { "text" });
        given.push(value.literal());
        format!("${place}")
    });
    let listed = |list: &[String]| if list.is_empty() { String::new() } else { format!("({})", list.join(", ")) };
    let types: Vec<String> = types.into_iter().map(str::to_owned).collect();
    let mode = if blind { "force_generic_plan" } else { "force_custom_plan" };
    let begin = format!(
        "CREATE OR REPLACE FUNCTION pg_temp.explained(statement TEXT) RETURNS TEXT LANGUAGE plpgsql AS $$ \
         DECLARE plan JSON; \
         BEGIN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) ' || statement INTO plan; RETURN plan; END $$; \
         SET plan_cache_mode = {mode}; BEGIN; SELECT set_config('consistency.proof', 'open', true); \
         PREPARE measured{} AS {prepared}",
        listed(&types)
    );
    conn.execute(&begin).unwrap_or_else(|error| panic!("{begin}: {error}"));
    let execute = format!("EXECUTE measured{}", listed(&given)).replace('\'', "''");
    let told: Vec<TextValue> = conn
        .load(&format!("SELECT pg_temp.explained('{execute}') AS value"))
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    conn.execute("ROLLBACK").expect("a roll back");
    let told = told.into_iter().next().expect("a plan").value;
    let plan: Value = serde_json::from_str(&told).expect("a plan in JSON");
    let root = &plan[0]["Plan"];
    let mut touched = Touched { rows: Some(0), sorted: Some(0), told, ..Touched::default() };
    touched.pages = Some(number(root, "Shared Hit Blocks") + number(root, "Shared Read Blocks"));
    add_nodes(root, &mut touched);
    touched
}

/// Adds what `node` of PostgreSQL's plan, and every node below it, read and sorted.
fn add_nodes(node: &Value, touched: &mut Touched) {
    let loops = number(node, "Actual Loops");
    let read = number(node, "Actual Rows")
        + number(node, "Rows Removed by Filter")
        + number(node, "Rows Removed by Index Recheck");
    match node["Node Type"].as_str().unwrap_or_default() {
        "Sort" | "Incremental Sort" => {
            touched.sorted = touched.sorted.map(|sorted| sorted + number(node, "Actual Rows") * loops)
        }
        scan if scan.ends_with("Scan") && node["Relation Name"] == "consistency_task"
            || scan == "Bitmap Index Scan" =>
        {
            touched.rows = touched.rows.map(|rows| rows + read * loops);
        }
        _ => {}
    }
    node["Plans"].as_array().into_iter().flatten().for_each(|node| add_nodes(node, touched));
}

fn number(node: &Value, key: &str) -> u64 {
    node[key].as_f64().unwrap_or_default() as u64
}

/// The server counts what a session reads. The counting reads something too, which is measured first.
fn on_mysql(conn: &mut AnyConnection, text: &str, values: &Values<'_>) -> Touched {
    let sql = filled(text, values, |_, value| value.literal());
    conn.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN").expect("a transaction");
    let first = counters(conn);
    let second = counters(conn);
    conn.execute(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let third = counters(conn);
    conn.execute("ROLLBACK").expect("a roll back");
    let of_the_statement = |name: &String| {
        let at = |counters: &BTreeMap<String, u64>| counters.get(name).copied().unwrap_or_default();
        (at(&third) - at(&second)).saturating_sub(at(&second) - at(&first))
    };
    let counted: BTreeMap<&String, u64> = third.keys().map(|name| (name, of_the_statement(name))).collect();
    let sum =
        |wanted: &dyn Fn(&str) -> bool| counted.iter().filter(|(name, _)| wanted(name)).map(|(_, count)| count).sum();
    Touched {
        rows: Some(sum(&|name| name.starts_with("HANDLER_READ") || name == "HANDLER_ICP_ATTEMPTS")),
        sorted: Some(sum(&|name| name == "SORT_ROWS")),
        told: counted
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, count)| format!("{name} {count}\n"))
            .collect(),
        ..Touched::default()
    }
}

fn counters(conn: &mut AnyConnection) -> BTreeMap<String, u64> {
    // MariaDB keeps them in the one place, MySQL in the other.
    let read = |conn: &mut AnyConnection, place: &str| {
        conn.load::<TextValue>(&format!(
            "SELECT CONCAT(UPPER(VARIABLE_NAME), ' ', VARIABLE_VALUE) AS value FROM {place} \
             WHERE VARIABLE_NAME LIKE 'Handler\\_%' OR VARIABLE_NAME = 'Sort_rows'"
        ))
    };
    let lines = read(conn, "information_schema.SESSION_STATUS")
        .or_else(|_| read(conn, "performance_schema.session_status"))
        .expect("the session's counters");
    let pair = |line: TextValue| {
        let (name, count) = line.value.split_once(' ').expect("a name and a number");
        (name.to_owned(), count.parse().expect("a number"))
    };
    lines.into_iter().map(pair).collect()
}
