//! The same work written by hand on a table of its own, with none of the outbox's promises but durability: what the machine
//! and the client allow. Every case is measured beside it.
//!
//! One table with the few columns the work needs, one index for the claim, batches of a thousand, statements prepared once.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use consistency_diesel::blocking_connection::BlockingConnection;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Text};

use crate::options::By;
use crate::prepared::Prepared;
use crate::steady_tasks::Booking;

/// A row that was claimed.
#[derive(Debug, diesel::QueryableByName)]
pub(crate) struct Claimed {
    /// Its place in the table.
    #[diesel(sql_type = BigInt)]
    pub(crate) id: i64,
    /// Its arguments.
    #[diesel(sql_type = Text)]
    pub(crate) payload: String,
}

/// What becomes of a row whose work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// It stays in the table.
    Update,
    /// It leaves it.
    Delete,
}

/// A connection on which the work is written by hand.
pub(crate) trait HandWritten: BlockingConnection + Booking {
    /// Sets a new connection up as its owner would: SQLite in WAL with its `synchronous` as given, MySQL at READ COMMITTED.
    fn set_up(&mut self, synchronous: &str) -> QueryResult<()>;

    /// Makes the tables `measure_business` and `measure_hand_written`.
    fn make_tables(&mut self) -> QueryResult<()>;

    /// Runs a statement that answers nothing.
    fn send(&mut self, statement: Prepared) -> QueryResult<()>;

    /// Stores a business row, in the transaction that is open.
    fn insert_business(&mut self, number: i64) -> QueryResult<()> {
        let text = "INSERT INTO measure_business (number, note) VALUES (?, 'a line of an order')";
        self.send(Prepared::new(text, [number.into()]))
    }

    /// Stores a task.
    fn insert_task(&mut self, payload: &str) -> QueryResult<()> {
        let text = "INSERT INTO measure_hand_written (name, payload) VALUES ('measure.noop', ?)";
        self.send(Prepared::new(text, [payload.into()]))
    }

    /// Stores as many tasks with one statement.
    fn insert_tasks(&mut self, payloads: &[String]) -> QueryResult<()>;

    /// Claims up to `limit` tasks with a lease, the oldest first.
    fn claim(&mut self, limit: i64) -> QueryResult<Vec<Claimed>>;

    /// Ends what was claimed.
    fn finish(&mut self, ids: &[i64], how: Finish) -> QueryResult<()>;

    /// Stores rows that are no work: due in a year, or finished.
    fn insert_backlog(&mut self, rows: usize, finished: bool) -> QueryResult<()>;

    /// Stores the same kind of rows in the outbox's table; `first` numbers them.
    fn insert_outbox_backlog(&mut self, first: usize, rows: usize, finished: bool) -> QueryResult<()>;

    /// Has the server look at the tables' shape.
    fn analyze(&mut self) -> QueryResult<()>;

    /// What the server has counted so far, under which name, and whether it only grows.
    fn counters(&mut self) -> QueryResult<Vec<Counter>>;
}

/// What the server counts.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub(crate) struct Counter {
    /// Its name in the figures.
    #[diesel(sql_type = Text)]
    pub(crate) name: String,
    /// Its value.
    #[diesel(sql_type = BigInt)]
    pub(crate) value: i64,
}

/// How many rows are in the table that `by` stores its tasks in.
pub(crate) fn stored<C: HandWritten>(conn: &mut C, by: By) -> QueryResult<usize> {
    count(conn, by, "1 = 1")
}

/// How many of them wait, run or are to be tried again.
pub(crate) fn unfinished<C: HandWritten>(conn: &mut C, by: By) -> QueryResult<usize> {
    count(conn, by, "state <> 2")
}

fn count<C: HandWritten>(conn: &mut C, by: By, condition: &str) -> QueryResult<usize> {
    let table = match by {
        By::Outbox | By::AsyncOutbox => "consistency_task",
        By::Hand | By::HandDeleting => "measure_hand_written",
        By::Business => "measure_business",
    };
    // SQL: the program's own words.
    let rows = conn.number(&format!("COUNT(*) AS value FROM {table} WHERE {condition}"))?;
    Ok(usize::try_from(rows).unwrap_or(0))
}

/// The numbers as a list with `open` before and `close` behind it.
fn listed(ids: &[i64], open: char, close: char) -> String {
    let mut list = String::with_capacity(ids.len() * 8 + 2);
    list.push(open);
    for (at, id) in ids.iter().enumerate() {
        if at > 0 {
            list.push(',');
        }
        list.push_str(&id.to_string());
    }
    list.push(close);
    list
}
