//! Outcomes on their way into the table: how an attempt ended, with the rows that go with it.

use std::collections::{HashMap, HashSet};

use consistency_core::state::State;
use consistency_core::store::{LeaseId, Losses, Settled, Settlement};
use diesel::result::QueryResult;
use serde::Serialize;

use crate::connection::TaskConnection;
use crate::dialect::Kind;
use crate::insert::{Lessor, insert_keyed};
use crate::lists::{batches, charged_leases, json};
use crate::micros;
use crate::operations::{close_transaction, open_transaction};
use crate::statement::Statement;

/// One settlement as the statements read it.
#[derive(Serialize)]
struct SettlementRow<'a> {
    id: i64,
    version: i64,
    state: i16,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_us: Option<i64>,
    charge: i64,
    losses: i16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Writes outcomes, each with the rows that go with it.
pub(crate) async fn settle<C: TaskConnection>(conn: &mut C, settlements: &[Settlement]) -> QueryResult<Vec<Settled>> {
    let is_alone = |settlement: &Settlement| settlement.follow_ups.is_empty();
    if settlements.iter().all(is_alone) {
        return write_outcomes(conn, settlements).await;
    }
    // Rows that go with an outcome may have to wait for a key that somebody else's transaction holds. Each such outcome is
    // written by itself, so that nobody waits with it.
    let (alone, with_rows): (Vec<_>, Vec<_>) = settlements.iter().cloned().partition(is_alone);
    let mut answers: HashMap<LeaseId, Settled> = HashMap::new();
    if !alone.is_empty() {
        let written = write_outcomes(conn, &alone).await?;
        answers.extend(alone.iter().map(|settlement| settlement.lease).zip(written));
    }
    for settlement in with_rows {
        open_transaction(conn).await?;
        let written = write_with_rows(conn, &settlement).await;
        let answer = close_transaction(conn, written).await?;
        answers.insert(settlement.lease, answer);
    }
    Ok(settlements.iter().map(|settlement| answers.get(&settlement.lease).copied().unwrap_or(Settled::Lost)).collect())
}

async fn write_with_rows<C: TaskConnection>(conn: &mut C, settlement: &Settlement) -> QueryResult<Settled> {
    let answer = write_outcomes(conn, std::slice::from_ref(settlement)).await?.pop().unwrap_or(Settled::Lost);
    if answer == Settled::Written {
        for row in &settlement.follow_ups {
            // On a repeated call the row is there already, under its own handle: then nothing changes.
            insert_keyed(conn, row, Lessor::NOBODY).await?;
        }
    }
    Ok(answer)
}

async fn write_outcomes<C: TaskConnection>(conn: &mut C, settlements: &[Settlement]) -> QueryResult<Vec<Settled>> {
    let (successes, others): (Vec<_>, Vec<_>) = settlements.iter().partition(|settlement| is_plain_success(settlement));
    let leases = successes.iter().map(|success| (success.lease, success.charge)).collect();
    let batches = batches(C::DIALECT.kind, leases);
    let written = if batches.len() + usize::from(!others.is_empty()) < 2 {
        write_each(conn, &batches, &successes, &others).await?
    } else {
        open_transaction(conn).await?;
        let written = write_each(conn, &batches, &successes, &others).await;
        close_transaction(conn, written).await?
    };
    let answer = |settlement: &Settlement| match &written {
        None => Settled::Written,
        Some(ids) if ids.contains(&settlement.lease.id) => Settled::Written,
        Some(_) => Settled::Lost,
    };
    Ok(settlements.iter().map(answer).collect())
}

/// Writes them, the successes in these batches; `None` when all of them were, else the ids of those that are in the table.
async fn write_each<C: TaskConnection>(
    conn: &mut C,
    batches: &[Vec<(LeaseId, i64)>],
    successes: &[&Settlement],
    others: &[&Settlement],
) -> QueryResult<Option<HashSet<i64>>> {
    let (mut count, mut ids) = (0, HashSet::new());
    for leases in batches {
        let values = charged_leases(C::DIALECT.kind, leases)?;
        count += conn.run(Statement::new(C::DIALECT.sql.succeed, values)).await?;
    }
    if !others.is_empty() {
        let rows: Vec<_> = others.iter().copied().map(settlement_row).collect();
        let statement = Statement::new(C::DIALECT.sql.settle, [("rows", json(&rows)?)]);
        if C::DIALECT.kind == Kind::Mysql {
            count += conn.run(statement).await?;
        } else {
            // A row that may be claimed again is not looked for afterwards.
            ids.extend(conn.load_ids(statement).await?);
            count += ids.len();
        }
    }
    if count == successes.len() + others.len() {
        return Ok(None);
    }
    // Some are not ours any more, or were written by a call whose answer got lost.
    let rows: Vec<_> = successes.iter().chain(others).copied().map(settlement_row).collect();
    ids.extend(conn.load_ids(Statement::new(C::DIALECT.sql.settled_before, [("rows", json(&rows)?)])).await?);
    Ok(Some(ids))
}

/// What nearly all outcomes are, and a far smaller statement says.
fn is_plain_success(settlement: &Settlement) -> bool {
    let Settlement { lease: _, state, due_in, charge, losses, error, follow_ups: _ } = settlement;
    *state == State::Succeeded
        && *losses == Losses::Cleared
        && due_in.is_none()
        && error.is_none()
        && matches!(charge, 0 | 1)
}

fn settlement_row(settlement: &Settlement) -> SettlementRow<'_> {
    SettlementRow {
        id: settlement.lease.id,
        version: settlement.lease.version,
        state: settlement.state.code(),
        due_us: settlement.due_in.map(micros),
        charge: settlement.charge,
        losses: settlement.losses as i16,
        error: settlement.error.as_deref(),
    }
}

/// Completes one row inside the open transaction of its own attempt; `false` when the lease is lost.
pub(crate) async fn complete<C: TaskConnection>(conn: &mut C, lease: LeaseId, charge: i64) -> QueryResult<bool> {
    let values = [("id", lease.id.into()), ("version", lease.version.into()), ("charge", charge.into())];
    Ok(conn.run(Statement::new(C::DIALECT.sql.complete, values)).await? == 1)
}
