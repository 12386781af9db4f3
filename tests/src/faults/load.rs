//! Reads a history from a database.

use consistency_core::state::State;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};

use crate::backend::Backend;
use crate::database::Database;
use crate::effects::Effects;
use crate::faults::history::{History, Micros, Order, Run, Stored};
use crate::faults::orders::ORDER;
use crate::scene::{micros, now};

#[derive(QueryableByName)]
pub(crate) struct OrderRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = BigInt)]
    calls: i64,
}

#[derive(QueryableByName)]
pub(crate) struct StoredRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<Text>)]
    biz_type: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    biz_id: Option<String>,
    #[diesel(sql_type = BigInt)]
    state: i64,
    #[diesel(sql_type = BigInt)]
    attempts: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    max_attempts: Option<i64>,
    #[diesel(sql_type = BigInt)]
    lost_times: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Nullable<Text>)]
    order_key: Option<String>,
    #[diesel(sql_type = BigInt)]
    changed: Micros,
    #[diesel(sql_type = BigInt)]
    due: Micros,
    #[diesel(sql_type = Nullable<BigInt>)]
    leased_until: Option<Micros>,
}

#[derive(QueryableByName)]
pub(crate) struct RunRow {
    #[diesel(sql_type = BigInt)]
    task: i64,
    #[diesel(sql_type = BigInt)]
    attempt: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    version: Option<i64>,
    #[diesel(sql_type = Text)]
    node: String,
    #[diesel(sql_type = BigInt)]
    started: Micros,
    #[diesel(sql_type = Nullable<BigInt>)]
    leased_until: Option<Micros>,
    #[diesel(sql_type = Nullable<BigInt>)]
    ended: Option<Micros>,
    #[diesel(sql_type = BigInt)]
    failed: i64,
}

impl History {
    /// What a database that [`prepare`](crate::faults::orders::prepare) has set up holds now. Tasks book whose name ends in
    /// `tx` or `tx_caller`. Nobody has been told anything yet: see [`History::hear`].
    pub fn load(database: &Database) -> History {
        let backend = database.backend();
        let orders: Vec<OrderRow> = database.load("SELECT number, calls FROM orders ORDER BY number");
        let tasks: Vec<StoredRow> = database.load(&select_tasks(backend));
        let runs: Vec<RunRow> = database.load(&select_runs(backend));
        History {
            taken: database.number(&micros(backend, now(backend))),
            orders: orders.into_iter().map(|row| Order { number: row.number, calls: row.calls }).collect(),
            tasks: tasks.into_iter().map(stored).collect(),
            runs: runs.into_iter().map(run).collect(),
            bookings: database.load_numbers("SELECT task AS value FROM bookings ORDER BY task"),
            told: Default::default(),
        }
    }
}

fn select_tasks(backend: Backend) -> String {
    let number = |column: &str, name: &str| format!("{} AS {name}", backend.as_bigint(column));
    let time = |column: &str, name: &str| format!("{} AS {name}", micros(backend, column));
    let columns = [
        "id, method_name AS name, biz_type, biz_id, order_key".to_owned(),
        number("state", "state"),
        number("execute_times", "attempts"),
        number("max_execute_times", "max_attempts"),
        number("lost_times", "lost_times"),
        number("version", "version"),
        time("gmt_modified", "changed"),
        time("next_execute_time", "due"),
        time("lease_until", "leased_until"),
    ];
    format!("SELECT {} FROM consistency_task ORDER BY id", columns.join(", "))
}

fn select_runs(backend: Backend) -> String {
    let number = |column: &str| format!("{} AS {column}", backend.as_bigint(column));
    let columns = [number("attempt"), number("failed")].join(", ");
    format!(
        "SELECT task, version, node, started, leased_until, ended, {columns} FROM {} ORDER BY started, version",
        Effects::TABLE
    )
}

fn stored(row: StoredRow) -> Stored {
    let is_order = row.biz_type.as_deref() == Some(ORDER);
    Stored {
        id: row.id,
        books: row.name.ends_with("tx") || row.name.ends_with("tx_caller"),
        name: row.name,
        order: row.biz_id.filter(|_| is_order).and_then(|id| id.parse().ok()),
        state: State::from_code(row.state).expect("a code the CHECK constraint lets in"),
        attempts: row.attempts,
        max_attempts: row.max_attempts,
        lost_times: row.lost_times,
        version: row.version,
        order_key: row.order_key,
        changed: row.changed,
        due: row.due,
        leased_until: row.leased_until,
    }
}

fn run(row: RunRow) -> Run {
    Run {
        task: row.task,
        attempt: row.attempt,
        version: row.version,
        node: row.node,
        started: row.started,
        leased_until: row.leased_until,
        ended: row.ended,
        failed: row.failed != 0,
    }
}
