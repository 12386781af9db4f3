//! Rows on their way into the table, on whichever connection the caller's transaction is open.

use std::time::Duration;

use consistency_core::enqueue::{ExistingTask, Receipt};
use consistency_core::new_task::NewTask;
use consistency_core::store::ClaimedTask;
use diesel::result::{DatabaseErrorKind, Error, QueryResult};

use crate::connection::TaskConnection;
use crate::dialect::{Kind, MYSQL_INSERT_ROW, MYSQL_INSERTED, MYSQL_LOCK_ORDER_KEY, POSTGRES_LOCK_ORDER_KEY};
use crate::error::TransactionError;
use crate::micros;
use crate::rows::existing;
use crate::statement::{Bind, Statement};

/// Most rows of one statement, and most bytes of their arguments: below MySQL's smallest usual `max_allowed_packet` (16 MiB)
/// even when every byte is escaped.
const ROWS_MAX: usize = 1000;
const BYTES_MAX: usize = 4 << 20;

/// Who leases the rows marked so, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lessor<'a> {
    pub(crate) node: &'a str,
    pub(crate) lease: Duration,
    /// Whether PostgreSQL shall insert only while the transaction the proof was set in is open.
    pub(crate) guarded: bool,
}

impl Lessor<'_> {
    /// For rows that are not leased.
    pub(crate) const NOBODY: Lessor<'static> = Lessor { node: "", lease: Duration::ZERO, guarded: false };
}

/// Inserts buffered rows, whose handles are our own and so new. Returns those inserted leased, as their node holds them.
pub(crate) async fn insert_buffered<C: TaskConnection>(
    conn: &mut C,
    rows: Vec<NewTask>,
    lessor: Lessor<'_>,
) -> QueryResult<Vec<ClaimedTask>> {
    let mut leased = Vec::new();
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(statement_length(rest));
        rest = behind;
        let wants_ids = part.iter().any(|row| row.leased);
        let ids = insert_rows(conn, part, lessor, wants_ids).await?;
        if C::DIALECT.kind != Kind::Mysql && ids.len() < part.len() {
            // Handles of our own are never doubled: the guard has refused.
            return Err(TransactionError::Lost.into());
        }
        let ids: std::collections::HashMap<&str, i64> =
            ids.iter().map(|(id, task_id)| (task_id.as_str(), *id)).collect();
        for row in part.iter().filter(|row| row.leased) {
            let id = ids.get(row.task_id.as_str()).copied().ok_or(Error::NotFound)?;
            leased.push(ClaimedTask::from_inserted(row.clone(), id));
        }
    }
    Ok(leased)
}

/// How many of the rows fit one statement; at least one.
fn statement_length(rows: &[NewTask]) -> usize {
    let mut bytes = 0;
    let fitting = rows.iter().take(ROWS_MAX).take_while(|row| {
        bytes += row.task_parameter.len() + row.method_sign_name.len();
        bytes <= BYTES_MAX
    });
    fitting.count().max(1)
}

/// Inserts one row whose key may exist. A duplicate changes nothing and leaves the transaction usable.
pub(crate) async fn insert_keyed<C: TaskConnection>(
    conn: &mut C,
    row: &NewTask,
    lessor: Lessor<'_>,
) -> QueryResult<Receipt> {
    if let Some(order_key) = &row.order_key {
        lock_order_key(conn, order_key).await?;
    }
    // The twin may vanish between our insert and our look at it: rolled back, or pruned. Then ours is due again.
    for _ in 0..3 {
        match insert_rows(conn, std::slice::from_ref(row), lessor, true).await {
            Ok(inserted) if !inserted.is_empty() => return Ok(Receipt::Enqueued(row.task_id.clone())),
            Ok(_) | Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
                if let Some(twin) = find_existing(conn, &row.task_id).await? {
                    return Ok(Receipt::Duplicate(twin));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::NotFound)
}

async fn find_existing<C: TaskConnection>(conn: &mut C, task_id: &str) -> QueryResult<Option<ExistingTask>> {
    let statement = Statement::new(C::DIALECT.sql.existing, &[("task_id", task_id.into())]);
    Ok(conn.load_existing(statement).await?.into_iter().next().map(existing))
}

/// Holds the ordering key until the transaction ends, so that the ids of its rows are in the order of the commits.
async fn lock_order_key<C: TaskConnection>(conn: &mut C, order_key: &str) -> QueryResult<()> {
    let text = match C::DIALECT.kind {
        Kind::Postgres => POSTGRES_LOCK_ORDER_KEY,
        Kind::Mysql => MYSQL_LOCK_ORDER_KEY,
        // One writer at a time: whoever inserts holds every key.
        Kind::Sqlite => return Ok(()),
    };
    let locked = conn.load_ids(Statement::new(text, &[("order_key", order_key.into())])).await?;
    if locked.is_empty() {
        let reason = "the table `consistency_order_lock` has lost its rows; run the migration's INSERT into it again";
        return Err(Error::QueryBuilderError(reason.into()));
    }
    Ok(())
}

/// Inserts rows; returns id and handle of each inserted one, where `wants_ids` or the database tells them anyway.
async fn insert_rows<C: TaskConnection>(
    conn: &mut C,
    rows: &[NewTask],
    lessor: Lessor<'_>,
    wants_ids: bool,
) -> QueryResult<Vec<(i64, String)>> {
    if C::DIALECT.kind == Kind::Mysql {
        return insert_rows_mysql(conn, rows, lessor, wants_ids).await;
    }
    let values = [
        ("rows", json(&rows)?.hidden()),
        ("node", lessor.node.into()),
        ("lease_us", micros(lessor.lease).into()),
        ("guarded", i64::from(lessor.guarded).into()),
    ];
    conn.load_inserted(Statement::new(C::DIALECT.sql.insert, &values)).await
}

/// MySQL has no RETURNING, and `INSERT .. SELECT` would hold its auto-increment lock while waiting for a twin.
async fn insert_rows_mysql<C: TaskConnection>(
    conn: &mut C,
    rows: &[NewTask],
    lessor: Lessor<'_>,
    wants_ids: bool,
) -> QueryResult<Vec<(i64, String)>> {
    let mut statement = Statement::new(C::DIALECT.sql.insert, &[]);
    for (position, row) in rows.iter().enumerate() {
        if position > 0 {
            statement = statement.and(", ", &[]);
        }
        statement = statement.and(MYSQL_INSERT_ROW, &row_values(row, lessor));
    }
    conn.run(if rows.len() > 1 { statement.uncached() } else { statement }).await?;
    if !wants_ids {
        return Ok(Vec::new());
    }
    let task_ids: Vec<&str> = rows.iter().map(|row| row.task_id.as_str()).collect();
    conn.load_inserted(Statement::new(MYSQL_INSERTED, &[("task_ids", json(&task_ids)?)])).await
}

fn row_values<'a>(row: &NewTask, lessor: Lessor<'_>) -> Vec<(&'a str, Bind)> {
    let lease = row.leased.then(|| micros(lessor.lease));
    vec![
        ("task_id", row.task_id.as_str().into()),
        ("leased", i64::from(row.leased).into()),
        ("version", (if row.leased { row.first_version } else { 0 }).into()),
        ("charged", i64::from(row.leased && row.max_execute_times.is_some()).into()),
        ("due_at_us", row.due_at_us.into()),
        ("delay_us", row.delay_us.into()),
        ("parameter_types", row.parameter_types.as_str().into()),
        ("method_name", row.method_name.as_str().into()),
        ("method_sign_name", row.method_sign_name.as_str().into()),
        ("execute_interval_second", row.execute_interval_second.into()),
        ("delay_time", row.delay_time.into()),
        ("task_parameter", Bind::from(row.task_parameter.as_str()).hidden()),
        ("execute_mode", i64::from(row.execute_mode).into()),
        ("thread_way", i64::from(row.thread_way).into()),
        ("queue", row.queue.as_str().into()),
        ("priority", i64::from(row.priority).into()),
        ("max_execute_times", row.max_execute_times.into()),
        ("lease_owner", row.leased.then(|| lessor.node.to_owned()).into()),
        ("lease_us", lease.into()),
        ("order_key", row.order_key.clone().into()),
        ("order_policy", i64::from(row.order_policy).into()),
        ("biz_type", row.biz_type.clone().into()),
        ("biz_id", row.biz_id.clone().into()),
        ("meta", row.meta.clone().into()),
    ]
}

/// Many rows as one bound value.
pub(crate) fn json<T: serde::Serialize + ?Sized>(rows: &T) -> QueryResult<Bind> {
    serde_json::to_string(rows).map(Bind::from).map_err(|error| Error::SerializationError(Box::new(error)))
}
