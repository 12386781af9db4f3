//! No statement of the outbox reads more than it is asked for, however much else lies in the table.
//!
//! The table holds finished rows, rows of the future (half of them of a better priority) and due rows of two kinds. Each
//! statement of `consistency-diesel/sql` is run there with a small limit, with statistics of the database and without, and
//! what it touched is counted: see `touched.rs`.

use consistency_tests::backend::Backend;
use consistency_tests::bulk::Bulk;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::length::is_long;
use consistency_tests::touched::{Bound, Touched, Values, statements, touched};
use serde_json::json;

/// The name this process knows.
const KNOWN: &str = "plans.known";
/// How many rows each statement is asked for, or given.
const LIMIT: usize = 50;
/// Rows and index entries a statement may read: some for each row it is asked for, and a few to get there.
const ROWS: u64 = 8 * LIMIT as u64 + 100;
/// Pages: a row lies in a page, and an update writes one more and one of each index, some steps below its root.
const PAGES: u64 = 40 * LIMIT as u64 + 200;

/// How many due rows a search for unknown names looks at, and no more.
const EXAMINED: u64 = 10_000;

/// How many rows of each kind.
struct Sizes {
    finished: usize,
    future: usize,
    due: usize,
    /// Due rows that are more than anybody is asked for.
    backlog: usize,
}

fn sizes() -> Sizes {
    if is_long() {
        Sizes { finished: 1_000_000, future: 1_000_000, due: 10_000, backlog: 1_000_000 }
    } else {
        Sizes { finished: 60_000, future: 60_000, due: 2_000, backlog: 60_000 }
    }
}

/// A table as a busy year leaves it behind, without any statistics of it.
fn fill(database: &Database, sizes: &Sizes) {
    database.migrate();
    match database.backend() {
        Backend::Sqlite => {}
        Backend::Postgres => database.execute("ALTER TABLE consistency_task SET (autovacuum_enabled = off)"),
        Backend::Mysql => database.execute("ALTER TABLE consistency_task STATS_AUTO_RECALC = 0"),
    }
    let (due, day) = (Bulk::due("due", KNOWN, sizes.due), 86_400);
    // What waits for months has small ids.
    Bulk { handle: "better", rows: sizes.future / 2, priority: 0, seconds: 90 * day, ..due }.load(database);
    Bulk { handle: "finished", rows: sizes.finished, state: 2, seconds: -day, ..due }.load(database);
    Bulk { handle: "later", rows: sizes.future / 2, seconds: 90 * day, ..due }.load(database);
    // Of keys, a few due rows in front of the others, and many that have finished.
    Bulk { handle: "ordered", rows: 10, ordered: true, seconds: -day, ..due }.load(database);
    Bulk { handle: "finished of keys", rows: sizes.finished, state: 2, ordered: true, seconds: -day, ..due }
        .load(database);
    due.load(database);
    Bulk { handle: "backlog", rows: sizes.backlog, ..due }.load(database);
    // As many as the limit of each statement are its own; the others are those of other nodes, and orphans.
    Bulk { handle: "running", rows: LIMIT, state: 1, seconds: day, ..due }.load(database);
    Bulk { handle: "elsewhere", state: 1, seconds: day, ..due }.load(database);
    Bulk { handle: "orphaned", state: 1, ..due }.load(database);
}

fn take_statistics(database: &Database) {
    database.execute(match database.backend() {
        Backend::Sqlite | Backend::Postgres => "ANALYZE",
        Backend::Mysql => "ANALYZE TABLE consistency_task",
    });
}

/// A value for every name in the statements.
fn values(database: &Database) -> Values<'static> {
    let running = database.rows("task_id LIKE 'running %'");
    assert_eq!(running.len(), LIMIT);
    let ids: Vec<i64> = running.iter().map(|row| row.id).collect();
    let rows: Vec<_> = running
        .iter()
        .map(|row| {
            json!({
                "id": row.id, "version": row.version, "state": 3, "due_us": 1, "charge": 0, "losses": 2, "error": "no",
                "lost_times": 1, "pause_us": 0,
            })
        })
        .collect();
    let versions: Vec<i64> = running.iter().map(|row| row.version).collect();
    let list = |of: &dyn Fn(usize) -> String| Bound::List((0..LIMIT).map(of).collect::<Vec<_>>().join(", "));
    let by_id: serde_json::Map<_, _> = running.iter().map(|row| (row.id.to_string(), json!(row.version))).collect();
    let array = |numbers: &[i64]| Bound::Text(json!(numbers).to_string().replace('[', "{").replace(']', "}"));
    let task_ids: Vec<&str> = running.iter().map(|row| row.task_id.as_str()).collect();
    let text = |value: serde_json::Value| Bound::Text(value.to_string());
    Values::from([
        ("charge", Bound::Int(0)),
        ("charge_array", array(&vec![0; LIMIT])),
        ("charged", text(json!(&ids[..1]))),
        ("crash_budget", Bound::Int(5)),
        ("id", Bound::Int(running[0].id)),
        ("id_array", array(&ids)),
        ("id_list", list(&|at| ids[at].to_string())),
        ("ids", text(json!(ids))),
        ("lease_list", list(&|at| format!("({}, {})", ids[at], versions[at]))),
        ("lease_us", Bound::Int(10_000_000)),
        ("limit", Bound::Int(LIMIT as i64)),
        ("names", text(json!([KNOWN, "plans.another"]))),
        ("node", Bound::Text("node".to_owned())),
        ("older_us", Bound::Int(3_600_000_000)),
        ("order_key", Bound::Text("key".to_owned())),
        ("priority", Bound::Int(5)),
        ("queue", Bound::Text("default".to_owned())),
        ("queues", text(json!(["default", "another"]))),
        ("rows", text(json!(rows))),
        ("share", Bound::Int(0)),
        ("task_id", Bound::Text(running[0].task_id.clone())),
        ("task_ids", text(json!(task_ids))),
        ("ends_us", Bound::Int(9_000_000)),
        ("version", Bound::Int(running[0].version)),
        ("version_array", array(&versions)),
        ("versions_by_id", text(serde_json::Value::Object(by_id))),
    ])
}

/// The statements to measure. An INSERT is put together from several files, and reads nothing.
fn measured(backend: Backend) -> Vec<String> {
    let mut names = statements(backend);
    names.retain(|name| !name.starts_with("insert") || name == "inserted");
    names
}

/// Measures `statement` in both ways of planning it, and tells what is too much.
fn too_much(database: &Database, statement: &str, values: &Values<'_>, rows: u64, pages: u64) -> Vec<String> {
    let ways: &[bool] = if database.backend() == Backend::Postgres { &[false, true] } else { &[false] };
    let judge = |blind: &bool| {
        let Touched { rows: read, pages: seen, sorted, scans, told } = touched(database, statement, values, *blind);
        eprintln!("{statement}: rows {read:?}, pages {seen:?}, sorted {sorted:?}, scans {scans:?}");
        let most = |count: Option<u64>, most: u64| count.is_none_or(|count| count <= most);
        let fine = most(read, rows) && most(seen, pages) && most(sorted, rows) && scans.is_empty();
        (!fine)
            .then(|| format!("{statement}: rows {read:?}, pages {seen:?}, sorted {sorted:?}, scans {scans:?}\n{told}"))
    };
    ways.iter().filter_map(judge).collect()
}

for_each_database! {
    fn no_statement_reads_more_than_it_is_asked_for(database: &Database) {
        let sizes = sizes();
        fill(database, &sizes);
        let values = values(database);
        // Of the scheduling thread's share there is nothing, behind all that is due for workers.
        let mut others = values.clone();
        others.insert("share", Bound::Int(1));
        let mut failures = Vec::new();
        for with_statistics in [false, true] {
            if with_statistics {
                take_statistics(database);
            }
            eprintln!("{BACKEND}, statistics: {with_statistics}");
            for statement in measured(BACKEND) {
                // It names columns for the start, and reads no row.
                if statement == "check" {
                    continue;
                }
                let more = match statement.as_str() {
                    // Puts them aside before it looks at their names.
                    "unknown_names" => 3 * EXAMINED,
                    // Goes through what runs anywhere, and nothing else; asked only after a claim has failed.
                    "unheld" => 4 * sizes.due as u64,
                    // Until it has statistics, PostgreSQL takes orphans and finished rows for few, and sorts all of them.
                    "expired" if !with_statistics => 2 * sizes.due as u64,
                    "prune" if !with_statistics => 2 * sizes.finished as u64,
                    _ => 0,
                };
                for failure in too_much(database, &statement, &values, ROWS + more, PAGES + more) {
                    failures.push(format!("with statistics: {with_statistics}: {failure}"));
                }
                // MySQL and MariaDB have a statement of its own for each share.
                if matches!(statement.as_str(), "claim" | "unknown_names") && BACKEND != Backend::Mysql {
                    let failed = too_much(database, &statement, &others, ROWS, PAGES);
                    failures.extend(failed.iter().map(|failure| format!("of the scheduling thread: {failure}")));
                }
            }
        }
        assert!(failures.is_empty(), "{BACKEND}: {}", failures.join("\n\n"));
    }
}
