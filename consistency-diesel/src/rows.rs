//! What the statements return, column by column, and what it becomes.

use std::time::Duration;

use consistency_core::enqueue::ExistingTask;
use consistency_core::rescue::Expired;
use consistency_core::retry::Loss;
use consistency_core::state::State;
use consistency_core::store::{ClaimedTask, Head, LeaseId, Outlook, Share, TaskStatus};
use consistency_core::when_dead::WhenDead;
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::sql_types::{BigInt, Nullable, Text};

/// A text, or why it cannot be read. SQLite stores bytes that are no UTF-8 in a column of texts: one such row must not make
/// the answer of a whole statement unreadable.
#[derive(Debug, FromSqlRow)]
pub struct StoredText(Result<String, String>);

impl<DB: Backend> FromSql<Text, DB> for StoredText
where
    String: FromSql<Text, DB>,
{
    fn from_sql(value: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(String::from_sql(value).map_err(|error| error.to_string())))
    }
}

impl StoredText {
    /// The text, or a word in its place.
    pub(crate) fn or_unreadable(self) -> String {
        self.0.unwrap_or_else(|_| "(unreadable)".to_owned())
    }

    /// The text; of the first of several that cannot be read, `unreadable` keeps the reason.
    fn or_note(self, column: &str, unreadable: &mut Option<String>) -> String {
        self.0.unwrap_or_else(|error| {
            unreadable.get_or_insert_with(|| {
                format!(
                    "the column `{column}` cannot be read: {error}; correct it, then retry the row as the README shows"
                )
            });
            String::new()
        })
    }
}

/// Columns of a claim.
pub(crate) type ClaimColumns = (
    BigInt,
    Text,
    Text,
    Text,
    BigInt,
    BigInt,
    BigInt,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<Text>,
    BigInt,
    BigInt,
    BigInt,
    BigInt,
);

/// A claimed row.
pub(crate) type ClaimRow = (
    i64,
    StoredText,
    StoredText,
    StoredText,
    i64,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Option<StoredText>,
    i64,
    i64,
    i64,
    i64,
);

/// A claimed row of `queue`, with the due time to sort by.
pub(crate) fn claimed(row: ClaimRow, queue: &str) -> (i64, ClaimedTask) {
    let (
        id,
        task_id,
        method_name,
        task_parameter,
        version,
        execute_times,
        interval,
        most,
        policy,
        meta,
        failed,
        cancel,
        lost,
        due,
    ) = row;
    let mut unreadable = None;
    let task = ClaimedTask {
        lease: LeaseId { id, version },
        task_id: task_id.or_note("task_id", &mut unreadable),
        method_name: method_name.or_note("method_name", &mut unreadable),
        task_parameter: task_parameter.or_note("task_parameter", &mut unreadable),
        execute_times,
        charged: true,
        execute_interval_second: interval,
        max_execute_times: most,
        when_dead: policy.and_then(WhenDead::from_code),
        meta: meta.map(|meta| meta.or_note("meta", &mut unreadable)),
        queue: queue.to_owned(),
        failed_before: failed != 0,
        cancel_requested: cancel != 0,
        lost_times: lost,
        unreadable,
    };
    (due, task)
}

/// Columns of a look.
pub(crate) type HeadColumns = (Text, BigInt, BigInt, BigInt);

/// Queue, priority, share and wait.
pub(crate) type HeadRow = (String, i64, i64, i64);

/// What a look finds: the first row of each queue, priority and share, and under the priority -1, which no row has, the lease that
/// ends first.
pub(crate) fn outlook(rows: Vec<HeadRow>) -> Outlook {
    let mut outlook = Outlook::default();
    for (queue, priority, share, wait_us) in rows {
        let wait = micros(wait_us);
        let share = if share == Share::SchedulingThread as i64 { Share::SchedulingThread } else { Share::Workers };
        match i16::try_from(priority) {
            Ok(priority @ 0..) => outlook.heads.push(Head { queue, priority, share, wait }),
            _ => outlook.lease_ends_in = Some(wait),
        }
    }
    outlook
}

/// Columns of an inserted row: public handle and id.
pub(crate) type InsertedColumns = (Text, BigInt);

/// Columns of a row that holds a key.
pub(crate) type ExistingColumns = (BigInt, Text, BigInt);

/// The row that holds a key.
pub(crate) fn existing((id, task_id, state): (i64, String, i64)) -> ExistingTask {
    ExistingTask { id, task_id, state: known_state(state) }
}

/// Columns of a renewed lease: id and whether cancellation is asked for.
pub(crate) type RenewedColumns = (BigInt, BigInt);

/// Columns of a row whose lease has ended.
pub(crate) type ExpiredColumns = (BigInt, Text, Text, Text, BigInt, BigInt, Nullable<BigInt>, BigInt, Nullable<BigInt>);

/// A row whose lease has ended, as it is read.
pub(crate) type ExpiredRow = (i64, StoredText, StoredText, StoredText, i64, i64, Option<i64>, i64, Option<i64>);

/// A row whose lease has ended, with what decides about it.
pub(crate) fn expired(row: ExpiredRow) -> Expired {
    let (id, task_id, method_name, node, cancel, execute_times, max_execute_times, lost_before, policy) = row;
    let loss = Loss {
        cancel_requested: cancel != 0,
        execute_times,
        max_execute_times,
        // The column ends there.
        lost_times: lost_before.saturating_add(1).min(i64::from(i32::MAX)),
        when_dead: policy.and_then(WhenDead::from_code),
    };
    Expired {
        id,
        task_id: task_id.or_unreadable(),
        method_name: method_name.or_unreadable(),
        node: node.or_unreadable(),
        loss,
    }
}

/// Columns of a status.
pub(crate) type StatusColumns = (BigInt, Text, Text, BigInt, BigInt, BigInt, Nullable<Text>, Nullable<Text>, BigInt);

/// A status row.
pub(crate) type StatusRow = (i64, String, String, i64, i64, i64, Option<String>, Option<String>, i64);

/// What is known of a task.
pub(crate) fn status(row: StatusRow) -> TaskStatus {
    let (id, task_id, method_name, state, execute_times, lost_times, error_message, lease_owner, due_us) = row;
    TaskStatus {
        id,
        task_id,
        method_name,
        state: known_state(state),
        execute_times,
        lost_times,
        error_message,
        lease_owner,
        due_in: micros(due_us),
    }
}

/// The state of a code; the table takes no others.
fn known_state(code: i64) -> State {
    State::from_code(code).unwrap_or(State::Blocked)
}

fn micros(us: i64) -> Duration {
    Duration::from_micros(u64::try_from(us).unwrap_or(0))
}
