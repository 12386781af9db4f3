//! A row of `consistency_task` as a test reads it: every column a test asks about, with the same type on each database.

use consistency_core::state::State;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};

use crate::backend::Backend;

/// A row of `consistency_task`.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(missing_docs, reason = "the columns are described in the table's migration")]
pub struct TaskRow {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = Text)]
    pub task_id: String,
    #[diesel(sql_type = Text)]
    pub method_name: String,
    #[diesel(sql_type = BigInt)]
    pub state: i64,
    #[diesel(sql_type = BigInt)]
    pub execute_times: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub max_execute_times: Option<i64>,
    #[diesel(sql_type = BigInt)]
    pub lost_times: i64,
    #[diesel(sql_type = BigInt)]
    pub version: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub error_message: Option<String>,
    #[diesel(sql_type = Text)]
    pub task_parameter: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub lease_owner: Option<String>,
    #[diesel(sql_type = Text)]
    pub next_execute_time: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub lease_until: Option<String>,
    #[diesel(sql_type = Text)]
    pub gmt_create: String,
    #[diesel(sql_type = Text)]
    pub gmt_modified: String,
    #[diesel(sql_type = BigInt)]
    pub execute_mode: i64,
    #[diesel(sql_type = BigInt)]
    pub thread_way: i64,
    #[diesel(sql_type = BigInt)]
    pub execute_interval_second: i64,
    #[diesel(sql_type = BigInt)]
    pub delay_time: i64,
    #[diesel(sql_type = Text)]
    pub queue: String,
    #[diesel(sql_type = BigInt)]
    pub priority: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub order_key: Option<String>,
    #[diesel(sql_type = BigInt)]
    pub order_policy: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub meta: Option<String>,
    #[diesel(sql_type = BigInt)]
    pub cancel_requested: i64,
}

impl TaskRow {
    /// How many owners it has had: those of a row inserted leased are counted from a random number on.
    pub fn owners(&self) -> i64 {
        self.version % 65_536
    }

    /// The state of its code.
    pub fn state(&self) -> State {
        State::from_code(self.state).expect("a code the CHECK constraint lets in")
    }

    /// The statement that reads rows, without its condition.
    pub(crate) fn select(backend: Backend) -> String {
        let number = |column: &str| format!("{} AS {column}", backend.as_bigint(column));
        let time = |column: &str| format!("{} AS {column}", backend.as_time_text(column));
        let columns = [
            "id, task_id, method_name, error_message, task_parameter, queue, order_key, meta".to_owned(),
            // MySQL keeps room for it in a row that waits: blanks, which equal an empty text.
            "NULLIF(lease_owner, '') AS lease_owner".to_owned(),
            number("state"),
            number("execute_times"),
            number("max_execute_times"),
            number("lost_times"),
            number("version"),
            number("execute_mode"),
            number("thread_way"),
            number("execute_interval_second"),
            number("delay_time"),
            number("priority"),
            number("cancel_requested"),
            number("order_policy"),
            time("next_execute_time"),
            time("lease_until"),
            time("gmt_create"),
            time("gmt_modified"),
        ];
        format!("SELECT {} FROM consistency_task", columns.join(", "))
    }
}
