//! What a storm has left in the database, as far as the verdict needs it.

use std::collections::{BTreeMap, HashMap};

use consistency_core::state::State;
use consistency_tests::database::Database;

use crate::number;

/// What is in the tables.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// How many calls each order was stored with.
    pub(crate) orders: HashMap<i64, i64>,
    /// The rows by id.
    pub(crate) tasks: BTreeMap<i64, Task>,
    /// How often each task has booked.
    pub(crate) bookings: HashMap<i64, i64>,
}

/// A row of the outbox.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) order: Option<i64>,
    pub(crate) state: State,
    pub(crate) books: bool,
    pub(crate) key: Option<String>,
}

impl Found {
    /// Reads all of it.
    pub(crate) fn read(database: &Database) -> Self {
        Self {
            orders: pairs(database, "number", "calls", "orders"),
            tasks: tasks(database),
            bookings: pairs(database, "task", "COUNT(*)", "bookings GROUP BY task"),
        }
    }
}

/// The rows of the table by id, which read less than all their columns.
fn tasks(database: &Database) -> BTreeMap<i64, Task> {
    let rows = database.texts(
        "SELECT CONCAT_WS('|', id, state, method_name, COALESCE(biz_id, ''), COALESCE(order_key, '')) AS value \
         FROM consistency_task",
    );
    let task = |row: String| {
        let words: Vec<&str> = row.splitn(5, '|').collect();
        let task = Task {
            order: words[3].parse().ok(),
            state: State::from_code(number(words[1])).expect("a code the CHECK constraint lets in"),
            books: words[2].starts_with("storm.book"),
            key: (!words[4].is_empty()).then(|| words[4].to_owned()),
        };
        (number(words[0]), task)
    };
    rows.into_iter().map(task).collect()
}

/// Two columns of whole numbers.
fn pairs(database: &Database, first: &str, second: &str, from: &str) -> HashMap<i64, i64> {
    let rows = database.texts(&format!("SELECT CONCAT_WS('|', {first}, {second}) AS value FROM {from}"));
    let pair = |row: String| row.split_once('|').map(|(first, second)| (number(first), number(second)));
    rows.into_iter().map(|row| pair(row).expect("two numbers")).collect()
}
