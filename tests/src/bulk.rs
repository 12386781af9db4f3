//! Many rows of `consistency_task` in seconds: one statement each, written by the database itself.

use crate::backend::Backend;
use crate::database::Database;

/// Rows to load, all alike but for their times, which are a millisecond apart.
#[derive(Debug, Clone, Copy)]
pub struct Bulk<'a> {
    /// The name they carry, and the beginning of their public handles: `{handle} {number}`, from 0.
    pub handle: &'a str,
    /// The name of their task.
    pub name: &'a str,
    /// How many: at most a million.
    pub rows: usize,
    /// The code of their state.
    pub state: i16,
    /// Their queue.
    pub queue: &'a str,
    /// Their priority.
    pub priority: i16,
    /// Whether each has an ordering key of its own.
    pub ordered: bool,
    /// When they are due and were last modified, in seconds from now; a day ago is `-86_400`. Rows in state running have a
    /// lease that ends then.
    pub seconds: i64,
}

impl<'a> Bulk<'a> {
    /// Pending rows of the default queue, due an hour ago.
    pub fn due(handle: &'a str, name: &'a str, rows: usize) -> Self {
        Self { handle, name, rows, state: 0, queue: "default", priority: 5, ordered: false, seconds: -3_600 }
    }

    /// Writes them.
    pub fn load(self, database: &Database) {
        let Self { handle, name, rows, state, queue, priority, ordered, seconds } = self;
        assert!(rows <= 1_000_000, "{rows} rows are more than one statement writes");
        let backend = database.backend();
        let (number, text) = ("a.n * 1000 + b.n", |of: &str| match backend {
            Backend::Mysql => format!("CONCAT('{handle} ', {of})"),
            Backend::Sqlite | Backend::Postgres => format!("'{handle} ' || ({of})"),
        });
        let task_id = text(number);
        let time = after(backend, seconds, number);
        let lease = if state == 1 { format!("'bulk', {time}") } else { "NULL, NULL".to_owned() };
        let key = if ordered { &task_id } else { "NULL" };
        let thousands = rows.div_ceil(1000);
        database.execute(&format!(
            "INSERT INTO consistency_task (task_id, method_name, method_sign_name, parameter_types, task_parameter, state, version, \
               queue, priority, next_execute_time, gmt_create, gmt_modified, lease_owner, lease_until, order_key) \
             WITH RECURSIVE digits (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM digits WHERE n < 999) \
             SELECT {task_id}, '{name}', '', '', '{{}}', {state}, {state} % 2, '{queue}', {priority}, {time}, {time}, {time}, {lease}, {key} \
             FROM digits a CROSS JOIN digits b WHERE a.n < {thousands} AND {number} < {rows}"
        ));
    }
}

/// The time `seconds` from now and `ms` milliseconds later, `ms` being an expression.
fn after(backend: Backend, seconds: i64, ms: &str) -> String {
    match backend {
        Backend::Sqlite => {
            format!("strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.3f seconds', {seconds} + ({ms}) / 1000.0))")
        }
        Backend::Postgres => {
            format!("now() + {seconds} * INTERVAL '1 second' + ({ms}) * INTERVAL '1 millisecond'")
        }
        Backend::Mysql => {
            format!("UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND + INTERVAL ({ms}) * 1000 MICROSECOND")
        }
    }
}
