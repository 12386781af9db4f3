//! Claims, and what is put back of them when their answer was lost.

use std::time::Duration;

use consistency_core::store::{ClaimRequest, ClaimedTask, Share};
use diesel::result::{DatabaseErrorKind, Error, QueryResult};

use crate::connection::TaskConnection;
use crate::dialect::{Kind, MYSQL_CLAIMABLE, MYSQL_CLAIMABLE_SERIAL, MYSQL_DOUBLED, SQLITE_CLAIMABLE};
use crate::lists::{MYSQL_LONGEST, json, padded};
use crate::operations::{close_transaction, open_transaction};
use crate::rows::{ClaimRow, claimed};
use crate::statement::{Bind, Statement};
use crate::{count, micros};

/// How often a claim is made when it would have let two rows of an ordering key run.
const CLAIM_TRIES: usize = 5;

/// Takes due rows, oldest first.
pub(crate) async fn claim<C: TaskConnection>(
    conn: &mut C,
    request: &ClaimRequest<'_>,
) -> QueryResult<Vec<ClaimedTask>> {
    let values = [
        ("node", request.node.into()),
        ("lease_us", micros(request.lease).into()),
        ("queue", request.queue.into()),
        ("priority", i64::from(request.priority).into()),
        ("names", json(request.names)?),
        ("share", (request.share as i64).into()),
        ("limit", count(request.limit).into()),
    ];
    let mut tries = 1;
    let rows = loop {
        match claim_once(conn, request.share, &values).await {
            Err(error) if would_run_two_of_a_key(&error) && tries < CLAIM_TRIES => tries += 1,
            claimed => break claimed?,
        }
    };
    let mut tasks: Vec<_> = rows.into_iter().map(|row| claimed(row, request.queue)).collect();
    if C::DIALECT.kind != Kind::Sqlite {
        // What an UPDATE returns does not keep the order it was taken in, and MySQL reads the scheduling thread's rows of one
        // time from the back.
        tasks.sort_by_key(|(due, task)| (*due, task.lease.id));
    }
    Ok(tasks.into_iter().map(|(_, task)| task).collect())
}

async fn claim_once<C: TaskConnection>(
    conn: &mut C,
    share: Share,
    values: &[(&'static str, Bind); 7],
) -> QueryResult<Vec<ClaimRow>> {
    match C::DIALECT.kind {
        Kind::Postgres => conn.load_claimed(Statement::new(C::DIALECT.sql.claim, values.clone())).await,
        Kind::Sqlite => {
            open_transaction(conn).await?;
            let claimed = claim_on_sqlite(conn, values).await;
            close_transaction(conn, claimed).await
        }
        Kind::Mysql => {
            open_transaction(conn).await?;
            let claimed = claim_on_mysql(conn, share, values).await;
            close_transaction(conn, claimed).await
        }
    }
}

/// SQLite puts the rows that an UPDATE returns into a table of its own first; two statements are cheaper. The transaction
/// holds the one lock for writers from its begin.
async fn claim_on_sqlite<C: TaskConnection>(
    conn: &mut C,
    values: &[(&'static str, Bind); 7],
) -> QueryResult<Vec<ClaimRow>> {
    let rows = conn.load_claimed(Statement::new(SQLITE_CLAIMABLE, values.clone())).await?;
    if !rows.is_empty() {
        let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let [node, lease, ..] = values.clone();
        conn.run(Statement::new(C::DIALECT.sql.claim, [("ids", json(&ids)?), node, lease])).await?;
    }
    Ok(rows)
}

/// Whether a claim was refused, and nothing claimed, because two rows of an ordering key would have run: a person has put an
/// old row back while somebody else was claiming the one whose turn it had been. The next try sees both. Two claims that look
/// for one another's rows may also meet in a deadlock.
fn would_run_two_of_a_key(error: &Error) -> bool {
    use DatabaseErrorKind::{SerializationFailure, UniqueViolation};
    match error {
        Error::RollbackTransaction | Error::DatabaseError(UniqueViolation | SerializationFailure, _) => true,
        // diesel-async knows no kind for MySQL's.
        Error::DatabaseError(_, information) => information.message().contains("Deadlock found"),
        _ => false,
    }
}

/// MySQL cannot return what it updates. Locked rows are skipped, so nobody waits for this transaction.
async fn claim_on_mysql<C: TaskConnection>(
    conn: &mut C,
    share: Share,
    values: &[(&'static str, Bind); 7],
) -> QueryResult<Vec<ClaimRow>> {
    let claimable = match share {
        Share::Workers => MYSQL_CLAIMABLE,
        Share::SchedulingThread => MYSQL_CLAIMABLE_SERIAL,
    };
    let rows = conn.load_claimed(Statement::new(claimable, values.clone())).await?;
    if !rows.is_empty() {
        let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
        for ids in ids.chunks(MYSQL_LONGEST) {
            let [node, lease, ..] = values.clone();
            let ids = Bind::Ids(padded(ids.iter().copied()));
            conn.run(Statement::new(C::DIALECT.sql.claim, [("id_list", ids), node, lease])).await?;
        }
        // A unique index, as on the other databases, would have claims of different keys wait for one another's gaps. So the
        // claim looks for others after it has written: an update, which waits for what others are about to commit, and whose
        // deadlock is told at once. (In a cached SELECT it comes while rows are fetched, after which the client hangs.)
        let is_ordered = rows.iter().any(|row| row.8.is_some());
        if is_ordered && conn.run(Statement::new(MYSQL_DOUBLED, [("ids", json(&ids)?)])).await? > 0 {
            return Err(Error::RollbackTransaction);
        }
    }
    Ok(rows)
}

/// Puts back what this node has claimed within the last `since` and does not hold.
pub(crate) async fn put_back_unheld<C: TaskConnection>(
    conn: &mut C,
    node: &str,
    held: &[i64],
    since: Duration,
    lease: Duration,
) -> QueryResult<usize> {
    // A lease that began since then ends later than this.
    let ends = micros(lease).saturating_sub(micros(since));
    let values = [("node", node.into()), ("ids", json(held)?), ("ends_us", ends.into())];
    conn.run(Statement::new(C::DIALECT.sql.unheld, values)).await
}
