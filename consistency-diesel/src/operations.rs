//! Claim, settle, renew, rescue, prune: each as its statement, or the few statements of one transaction, on one connection.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use consistency_core::state::State;
use consistency_core::store::{
    ClaimRequest, ClaimedTask, Head, LeaseId, Renewed, Rescued, Settled, Settlement, TaskStatus, rescue_pause,
};
use diesel::result::QueryResult;
use serde::Serialize;

use crate::connection::TaskConnection;
use crate::dialect::{Kind, MYSQL_CLAIMABLE, MYSQL_PRUNABLE, MYSQL_RENEWABLE};
use crate::insert::{Lessor, insert_keyed, json};
use crate::rows::{claimed, head, rescued, status};
use crate::statement::Statement;
use crate::{count, micros};

/// When the first row of each queue and priority is due.
pub(crate) fn look<C: TaskConnection>(conn: &mut C, queues: &[String]) -> QueryResult<Vec<Head>> {
    let rows = conn.load_heads(Statement::new(C::DIALECT.sql.look, &[("queues", json(queues)?)]))?;
    Ok(rows.into_iter().map(head).collect())
}

/// Takes due rows, oldest first.
pub(crate) fn claim<C: TaskConnection>(conn: &mut C, request: &ClaimRequest<'_>) -> QueryResult<Vec<ClaimedTask>> {
    let values = [
        ("node", request.node.into()),
        ("lease_us", micros(request.lease).into()),
        ("queue", request.queue.into()),
        ("priority", i64::from(request.priority).into()),
        ("names", json(request.names)?),
        ("serial", i64::from(request.serial).into()),
        ("limit", count(request.limit).into()),
    ];
    let rows = if C::DIALECT.kind == Kind::Mysql {
        // MySQL cannot return what it updates. Locked rows are skipped, so nobody waits for this transaction.
        begin(conn, |conn| {
            let rows = conn.load_claimed(Statement::new(MYSQL_CLAIMABLE, &values))?;
            if !rows.is_empty() {
                let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
                let [node, lease, ..] = values.clone();
                conn.run(Statement::new(C::DIALECT.sql.claim, &[("ids", json(&ids)?), node, lease]))?;
            }
            Ok(rows)
        })?
    } else {
        conn.load_claimed(Statement::new(C::DIALECT.sql.claim, &values))?
    };
    let mut tasks: Vec<_> = rows.into_iter().map(|row| claimed(row, request.queue)).collect();
    // What is returned does not keep the order it was taken in.
    tasks.sort_by_key(|(due, task)| (*due, task.lease.id));
    Ok(tasks.into_iter().map(|(_, task)| task).collect())
}

/// One settlement as the statements read it.
#[derive(Serialize)]
struct SettlementRow<'a> {
    id: i64,
    version: i64,
    state: i16,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_us: Option<i64>,
    charge: i64,
    clears_losses: i16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Writes outcomes, each with the rows that go with it.
pub(crate) fn settle<C: TaskConnection>(conn: &mut C, settlements: &[Settlement]) -> QueryResult<Vec<Settled>> {
    let is_alone = |settlement: &Settlement| settlement.follow_ups.is_empty();
    if settlements.iter().all(is_alone) {
        return write_outcomes(conn, settlements);
    }
    // Rows that go with an outcome may have to wait for a key that somebody else's transaction holds. Each such outcome is
    // written by itself, so that nobody waits with it.
    let (alone, with_rows): (Vec<_>, Vec<_>) = settlements.iter().cloned().partition(is_alone);
    let mut answers: HashMap<LeaseId, Settled> = HashMap::new();
    if !alone.is_empty() {
        let written = write_outcomes(conn, &alone)?;
        answers.extend(alone.iter().map(|settlement| settlement.lease).zip(written));
    }
    for settlement in with_rows {
        let answer = begin(conn, |conn| write_with_rows(conn, &settlement))?;
        answers.insert(settlement.lease, answer);
    }
    Ok(settlements.iter().map(|settlement| answers.get(&settlement.lease).copied().unwrap_or(Settled::Lost)).collect())
}

fn write_with_rows<C: TaskConnection>(conn: &mut C, settlement: &Settlement) -> QueryResult<Settled> {
    let answer = write_outcomes(conn, std::slice::from_ref(settlement))?.pop().unwrap_or(Settled::Lost);
    if answer == Settled::Written {
        for row in &settlement.follow_ups {
            // On a repeated call the row is there already, under its own handle: then nothing changes.
            insert_keyed(conn, row, Lessor::NOBODY)?;
        }
    }
    Ok(answer)
}

fn write_outcomes<C: TaskConnection>(conn: &mut C, settlements: &[Settlement]) -> QueryResult<Vec<Settled>> {
    let rows: Vec<_> = settlements.iter().map(settlement_row).collect();
    let rows = json(&rows)?;
    let statement = Statement::new(C::DIALECT.sql.settle, &[("rows", rows.clone())]);
    let (all, mut written) = if C::DIALECT.kind == Kind::Mysql {
        (conn.run(statement)? == settlements.len(), HashSet::new())
    } else {
        let written: HashSet<i64> = conn.load_ids(statement)?.into_iter().collect();
        (written.len() == settlements.len(), written)
    };
    if all {
        return Ok(vec![Settled::Written; settlements.len()]);
    }
    // Some are not ours any more, or were written by a call whose answer got lost.
    written.extend(conn.load_ids(Statement::new(C::DIALECT.sql.settled_before, &[("rows", rows)]))?);
    let answer = |settlement: &Settlement| {
        if written.contains(&settlement.lease.id) { Settled::Written } else { Settled::Lost }
    };
    Ok(settlements.iter().map(answer).collect())
}

fn settlement_row(settlement: &Settlement) -> SettlementRow<'_> {
    SettlementRow {
        id: settlement.lease.id,
        version: settlement.lease.version,
        state: settlement.state.code(),
        due_us: settlement.due_in.map(micros),
        charge: settlement.charge,
        clears_losses: i16::from(settlement.clears_losses),
        error: settlement.error.as_deref(),
    }
}

/// Completes one row inside the open transaction of its own attempt; `false` when the lease is lost.
pub(crate) fn complete<C: TaskConnection>(conn: &mut C, lease: LeaseId, charge: i64) -> QueryResult<bool> {
    let values = [("id", lease.id.into()), ("version", lease.version.into()), ("charge", charge.into())];
    Ok(conn.run(Statement::new(C::DIALECT.sql.complete, &values))? == 1)
}

#[derive(Serialize)]
struct LeaseRow {
    id: i64,
    version: i64,
}

/// Extends leases, passing over rows somebody else has locked; what is not answered is lost.
pub(crate) fn renew<C: TaskConnection>(
    conn: &mut C,
    leases: &[LeaseId],
    length: Duration,
) -> QueryResult<Vec<Renewed>> {
    let rows: Vec<_> = leases.iter().map(|lease| LeaseRow { id: lease.id, version: lease.version }).collect();
    let (rows, length) = (json(&rows)?, micros(length));
    let extended = if C::DIALECT.kind == Kind::Mysql {
        begin(conn, |conn| {
            let free = conn.load_renewed(Statement::new(MYSQL_RENEWABLE, &[("rows", rows.clone())]))?;
            if !free.is_empty() {
                let ids: Vec<i64> = free.iter().map(|row| row.0).collect();
                conn.run(Statement::new(C::DIALECT.sql.renew, &[("ids", json(&ids)?), ("lease_us", length.into())]))?;
            }
            Ok(free)
        })?
    } else {
        let values = [("rows", rows.clone()), ("lease_us", length.into())];
        conn.load_renewed(Statement::new(C::DIALECT.sql.renew, &values))?
    };
    let renewed = |(id, cancel): (i64, i64), extended| Renewed { id, cancel_requested: cancel != 0, extended };
    let mut answers: Vec<_> = extended.iter().map(|row| renewed(*row, true)).collect();
    if answers.len() < leases.len() {
        // Locked by somebody, or lost: only the row itself can tell.
        let known: HashSet<i64> = extended.iter().map(|row| row.0).collect();
        let held = conn.load_renewed(Statement::new(C::DIALECT.sql.held, &[("rows", rows)]))?;
        answers.extend(held.into_iter().filter(|row| !known.contains(&row.0)).map(|row| renewed(row, false)));
    }
    Ok(answers)
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
pub(crate) fn rescue<C: TaskConnection>(conn: &mut C, crash_budget: u32, limit: usize) -> QueryResult<Vec<Rescued>> {
    begin(conn, |conn| {
        let values = [("crash_budget", i64::from(crash_budget).into()), ("limit", count(limit).into())];
        let expired = conn.load_expired(Statement::new(C::DIALECT.sql.expired, &values))?;
        let mut rescued: Vec<Rescued> = expired.into_iter().map(rescued).collect();
        rescued.sort_by_key(|row| row.id);
        if !rescued.is_empty() {
            let rows: Vec<_> = rescued.iter().map(rescue_row).collect();
            conn.run(Statement::new(C::DIALECT.sql.rescue, &[("rows", json(&rows)?)]))?;
        }
        Ok(rescued)
    })
}

fn rescue_row(row: &Rescued) -> RescueRow {
    let Rescued { id, node, state, lost_times, .. } = row;
    let what_now = match state {
        State::Dead => "; it is given up: it may be what ends its workers",
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

/// Names of due rows that are not in `names`.
pub(crate) fn unknown_names<C: TaskConnection>(
    conn: &mut C,
    names: &[String],
    limit: usize,
) -> QueryResult<Vec<String>> {
    conn.load_texts(Statement::new(
        C::DIALECT.sql.unknown_names,
        &[("names", json(names)?), ("limit", count(limit).into())],
    ))
}

/// What is known of a task.
pub(crate) fn find_status<C: TaskConnection>(conn: &mut C, task_id: &str) -> QueryResult<Option<TaskStatus>> {
    let rows = conn.load_status(Statement::new(C::DIALECT.sql.status, &[("task_id", task_id.into())]))?;
    Ok(rows.into_iter().next().map(status))
}

/// Deletes finished rows.
pub(crate) fn prune<C: TaskConnection>(conn: &mut C, older_than: Duration, limit: usize) -> QueryResult<usize> {
    let values = [("older_us", micros(older_than).into()), ("limit", count(limit).into())];
    if C::DIALECT.kind != Kind::Mysql {
        return conn.run(Statement::new(C::DIALECT.sql.prune, &values));
    }
    begin(conn, |conn| {
        let ids = conn.load_ids(Statement::new(MYSQL_PRUNABLE, &values))?;
        if ids.is_empty() { Ok(0) } else { conn.run(Statement::new(C::DIALECT.sql.prune, &[("ids", json(&ids)?)])) }
    })
}

/// Runs `work` in a transaction; on SQLite with the write lock from the start, so that it is waited for and not refused.
pub(crate) fn begin<C: TaskConnection, T>(conn: &mut C, work: impl FnOnce(&mut C) -> QueryResult<T>) -> QueryResult<T> {
    use diesel::connection::{AnsiTransactionManager, TransactionManager};
    // Inside an open transaction (a user's test) a savepoint serves as well.
    if C::DIALECT.kind != Kind::Sqlite || conn.healthy_depth() != Some(0) {
        return conn.transaction(work);
    }
    AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")?;
    match work(conn) {
        Ok(value) => AnsiTransactionManager::commit_transaction(conn).map(|()| value),
        Err(error) => {
            AnsiTransactionManager::rollback_transaction(conn).ok();
            Err(error)
        }
    }
}
