//! Look, renew, rescue, prune: each as its statement, or the few statements of one transaction, on one connection.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use consistency_core::rescue::{Rescued, rescue_pause};
use consistency_core::state::State;
use consistency_core::store::{LeaseId, Outlook, Renewed, TaskStatus};
use diesel::result::QueryResult;
use serde::Serialize;

use crate::connection::TaskConnection;
use crate::dialect::{Kind, MYSQL_PRUNABLE, MYSQL_RENEWABLE};
use crate::error::is_transient;
use crate::lists::json;
use crate::opened::nothing_is_open;
use crate::rows::{StoredText, expired, outlook, status};
use crate::statement::{Bind, Statement};
use crate::{count, micros};

/// When the first row of each queue, priority and share is due, and when the first lease ends.
pub(crate) async fn look<C: TaskConnection>(conn: &mut C, queues: &[String]) -> QueryResult<Outlook> {
    let rows = conn.load_heads(Statement::new(C::DIALECT.sql.look, [("queues", json(queues)?)])).await?;
    Ok(outlook(rows))
}

#[derive(Serialize)]
struct LeaseRow {
    id: i64,
    version: i64,
}

/// Extends leases, passing over rows somebody else has locked; what is not answered is lost.
pub(crate) async fn renew<C: TaskConnection>(
    conn: &mut C,
    leases: &[LeaseId],
    length: Duration,
) -> QueryResult<Vec<Renewed>> {
    let rows: Vec<_> = leases.iter().map(|lease| LeaseRow { id: lease.id, version: lease.version }).collect();
    let (rows, length) = (json(&rows)?, micros(length));
    let extended = if C::DIALECT.kind == Kind::Mysql {
        open_transaction(conn).await?;
        let renewed = renew_on_mysql(conn, &rows, length).await;
        close_transaction(conn, renewed).await?
    } else {
        let values = [("rows", rows.clone()), ("lease_us", length.into())];
        conn.load_renewed(Statement::new(C::DIALECT.sql.renew, values)).await?
    };
    let renewed = |(id, cancel): (i64, i64), extended| Renewed { id, cancel_requested: cancel != 0, extended };
    let mut answers: Vec<_> = extended.iter().map(|row| renewed(*row, true)).collect();
    if answers.len() < leases.len() {
        // Locked by somebody, or lost: only the row itself can tell.
        let known: HashSet<i64> = extended.iter().map(|row| row.0).collect();
        let held = conn.load_renewed(Statement::new(C::DIALECT.sql.held, [("rows", rows)])).await?;
        answers.extend(held.into_iter().filter(|row| !known.contains(&row.0)).map(|row| renewed(row, false)));
    }
    Ok(answers)
}

async fn renew_on_mysql<C: TaskConnection>(conn: &mut C, rows: &Bind, length: i64) -> QueryResult<Vec<(i64, i64)>> {
    let free = conn.load_renewed(Statement::new(MYSQL_RENEWABLE, [("rows", rows.clone())])).await?;
    if !free.is_empty() {
        let ids: Vec<i64> = free.iter().map(|row| row.0).collect();
        let values = [("ids", json(&ids)?), ("lease_us", length.into())];
        conn.run(Statement::new(C::DIALECT.sql.renew, values)).await?;
    }
    Ok(free)
}

/// One rescued row as the statements read it.
#[derive(Serialize)]
struct RescueRow {
    id: i64,
    state: i16,
    lost_times: i64,
    pause_us: i64,
    error: String,
}

/// Takes rows back whose lease has ended.
pub(crate) async fn rescue<C: TaskConnection>(
    conn: &mut C,
    crash_budget: u32,
    limit: usize,
) -> QueryResult<Vec<Rescued>> {
    open_transaction(conn).await?;
    let rescued = rescue_expired(conn, crash_budget, limit).await;
    close_transaction(conn, rescued).await
}

async fn rescue_expired<C: TaskConnection>(conn: &mut C, crash_budget: u32, limit: usize) -> QueryResult<Vec<Rescued>> {
    let found = conn.load_expired(Statement::new(C::DIALECT.sql.expired, [("limit", count(limit).into())])).await?;
    let mut rescued: Vec<Rescued> = found.into_iter().map(|row| expired(row).rescued(crash_budget)).collect();
    rescued.sort_by_key(|row| row.id);
    if rescued.is_empty() {
        return Ok(rescued);
    }
    match take_back(conn, &rescued).await {
        Ok(()) => return Ok(rescued),
        Err(error) if is_transient(&error) => return Err(error),
        Err(_) => {}
    }
    // One row that the database refuses must not keep the others.
    let mut taken_back = Vec::with_capacity(rescued.len());
    for row in rescued {
        match take_back(conn, std::slice::from_ref(&row)).await {
            Ok(()) => taken_back.push(row),
            Err(error) if is_transient(&error) => return Err(error),
            Err(error) => tracing::error!(id = row.id, %error, "a row whose lease has ended cannot be taken back"),
        }
    }
    Ok(taken_back)
}

/// Writes that rows are taken back, in a savepoint.
async fn take_back<C: TaskConnection>(conn: &mut C, rescued: &[Rescued]) -> QueryResult<()> {
    let rows: Vec<_> = rescued.iter().map(rescue_row).collect();
    let statement = Statement::new(C::DIALECT.sql.rescue, [("rows", json(&rows)?)]);
    conn.open().await?;
    let written = conn.run(statement).await.map(drop);
    close_transaction(conn, written).await
}

fn rescue_row(row: &Rescued) -> RescueRow {
    let Rescued { id, node, state, lost_times, .. } = row;
    let what_now = match state {
        State::Dead | State::Skipped => "; it is given up: it may be what ends its workers",
        _ => "",
    };
    let error =
        format!("the worker died or lost touch: node {node} let its lease run out ({lost_times} in a row){what_now}");
    RescueRow {
        id: *id,
        state: state.code(),
        lost_times: *lost_times,
        pause_us: micros(rescue_pause(*lost_times)),
        error,
    }
}

/// Names of due rows of `queues` that are not in `names`. Each queue, priority and share with due rows is asked by itself, so
/// that the index answers, and only for its first rows: known ones may be many.
pub(crate) async fn unknown_names<C: TaskConnection>(
    conn: &mut C,
    queues: &[String],
    names: &[String],
    limit: usize,
) -> QueryResult<Vec<String>> {
    let mut unknown = BTreeSet::new();
    for head in look(conn, queues).await?.heads.into_iter().filter(|head| head.wait.is_zero()) {
        let values = [
            ("queue", head.queue.into()),
            ("priority", i64::from(head.priority).into()),
            ("share", (head.share as i64).into()),
            ("names", json(names)?),
            ("limit", count(limit).into()),
        ];
        let found = conn.load_texts(Statement::new(C::DIALECT.sql.unknown_names, values)).await?;
        unknown.extend(found.into_iter().map(StoredText::or_unreadable));
    }
    Ok(unknown.into_iter().take(limit).collect())
}

/// What is known of a task.
pub(crate) async fn find_status<C: TaskConnection>(conn: &mut C, task_id: &str) -> QueryResult<Option<TaskStatus>> {
    let rows = conn.load_status(Statement::new(C::DIALECT.sql.status, [("task_id", task_id.into())])).await?;
    Ok(rows.into_iter().next().map(status))
}

/// Deletes finished rows.
pub(crate) async fn prune<C: TaskConnection>(conn: &mut C, older_than: Duration, limit: usize) -> QueryResult<usize> {
    let values = [("older_us", micros(older_than).into()), ("limit", count(limit).into())];
    if C::DIALECT.kind != Kind::Mysql {
        return conn.run(Statement::new(C::DIALECT.sql.prune, values)).await;
    }
    open_transaction(conn).await?;
    let pruned = prune_on_mysql(conn, values).await;
    close_transaction(conn, pruned).await
}

async fn prune_on_mysql<C: TaskConnection>(conn: &mut C, values: [(&'static str, Bind); 2]) -> QueryResult<usize> {
    let ids = conn.load_ids(Statement::new(MYSQL_PRUNABLE, values)).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    conn.run(Statement::new(C::DIALECT.sql.prune, [("ids", json(&ids)?)])).await
}

/// Opens a transaction for a few statements; on SQLite with the write lock from the start, so that it is waited for and not
/// refused.
pub(crate) async fn open_transaction<C: TaskConnection>(conn: &mut C) -> QueryResult<()> {
    // Inside an open transaction (a user's test) a savepoint serves as well.
    if C::DIALECT.kind == Kind::Sqlite && conn.healthy_depth() == Some(0) {
        return conn.open_with("BEGIN IMMEDIATE").await;
    }
    conn.open().await
}

/// Commits what [`open_transaction`] opened, or rolls it back when it was not `done`.
pub(crate) async fn close_transaction<C: TaskConnection, T>(conn: &mut C, done: QueryResult<T>) -> QueryResult<T> {
    match done {
        Ok(value) => match conn.commit().await {
            Ok(()) => Ok(value),
            Err(error) => {
                if conn.open_depth() == Some(0) && !nothing_is_open(conn).await {
                    conn.abandon();
                }
                Err(error)
            }
        },
        Err(error) => {
            // Should this fail too, the connection is broken and the database does it.
            conn.roll_back().await.ok();
            Err(error)
        }
    }
}
