//! What the statements return, column by column, and what it becomes.

use std::time::Duration;

use consistency_core::enqueue::ExistingTask;
use consistency_core::state::State;
use consistency_core::store::{ClaimedTask, Head, LeaseId, Rescued, TaskStatus};
use diesel::sql_types::{BigInt, Nullable, Text};

/// Columns of a claim.
pub(crate) type ClaimColumns =
    (BigInt, Text, Text, Text, BigInt, BigInt, BigInt, Nullable<BigInt>, Nullable<Text>, BigInt, BigInt, BigInt);

/// A claimed row.
pub(crate) type ClaimRow = (i64, String, String, String, i64, i64, i64, Option<i64>, Option<String>, i64, i64, i64);

/// A claimed row of `queue`, with the due time to sort by.
pub(crate) fn claimed(row: ClaimRow, queue: &str) -> (i64, ClaimedTask) {
    let (id, task_id, method_name, task_parameter, version, execute_times, interval, most, meta, failed, cancel, due) =
        row;
    let task = ClaimedTask {
        lease: LeaseId { id, version },
        task_id,
        method_name,
        task_parameter,
        execute_times,
        charged: true,
        execute_interval_second: interval,
        max_execute_times: most,
        meta,
        queue: queue.to_owned(),
        failed_before: failed != 0,
        cancel_requested: cancel != 0,
    };
    (due, task)
}

/// Columns of a look.
pub(crate) type HeadColumns = (Text, BigInt, BigInt);

/// The first row of a queue and priority.
pub(crate) fn head((queue, priority, wait_us): (String, i64, i64)) -> Head {
    Head { queue, priority: i16::try_from(priority).unwrap_or(0), wait: micros(wait_us) }
}

/// Columns of an inserted row: id and public handle.
pub(crate) type InsertedColumns = (BigInt, Text);

/// Columns of a row that holds a key.
pub(crate) type ExistingColumns = (BigInt, Text, BigInt);

/// The row that holds a key.
pub(crate) fn existing((id, task_id, state): (i64, String, i64)) -> ExistingTask {
    ExistingTask { id, task_id, state: known_state(state) }
}

/// Columns of a renewed lease: id and whether cancellation is asked for.
pub(crate) type RenewedColumns = (BigInt, BigInt);

/// Columns of a row whose lease has ended.
pub(crate) type ExpiredColumns = (BigInt, Text, Text, Text, BigInt, BigInt);

/// A row whose lease has ended, as it is read.
pub(crate) type ExpiredRow = (i64, String, String, String, i64, i64);

/// A row whose lease has ended, with its new state.
pub(crate) fn rescued((id, task_id, method_name, node, state, lost_times): ExpiredRow) -> Rescued {
    Rescued { id, task_id, method_name, node, state: known_state(state), lost_times }
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

/// The state of a code; a CHECK constraint keeps others out of the table.
fn known_state(code: i64) -> State {
    State::from_code(code).unwrap_or(State::Blocked)
}

fn micros(us: i64) -> Duration {
    Duration::from_micros(u64::try_from(us).unwrap_or(0))
}
