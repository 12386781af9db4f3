//! Rows on their way into the table, on whichever connection the caller's transaction is open.

use std::collections::HashMap;
use std::time::Duration;

use consistency_core::enqueue::{ExistingTask, Receipt};
use consistency_core::new_task::NewTask;
use consistency_core::store::ClaimedTask;
use diesel::result::{DatabaseErrorKind, Error, QueryResult};

use crate::connection::TaskConnection;
use crate::dialect::{
    Dialect, Kind, MYSQL_INSERTED, MYSQL_LOCK_ORDER_KEY, POSTGRES_LOCK_ORDER_KEY, SQLITE_INSERT_ROWS,
};
use crate::error::TransactionError;
use crate::insert_columns::{Columns, is_plain, version};
use crate::lists::json;
use crate::proof;
use crate::rows::existing;
use crate::statement::{ByText, Known, Statement};

/// Most rows of one statement, and most bytes of their arguments: below MySQL's smallest usual `max_allowed_packet` (16 MiB)
/// even when every byte is escaped.
const ROWS_MAX: usize = 1000;
const BYTES_MAX: usize = 4 << 20;
/// Up to so many rows of one transaction are inserted in the order they were enqueued in, each run of alike ones by a statement;
/// of more, alike ones are brought together. MySQL's statements take different ones, so there the order stays.
const IN_ORDER_MAX: usize = 20;
/// How many rows a statement of MySQL's has, largest first: it names each value of each row, and stays prepared only if there
/// are few such texts.
const MYSQL_ROWS: [usize; 3] = [100, 10, 1];

/// Who leases the rows marked so, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lessor<'a> {
    pub(crate) node: &'a str,
    pub(crate) lease: Duration,
    /// Whether the next INSERT shall happen only while the transaction the proof was set in is open.
    pub(crate) guarded: bool,
}

impl Lessor<'_> {
    /// For rows that are not leased.
    pub(crate) const NOBODY: Lessor<'static> = Lessor { node: "", lease: Duration::ZERO, guarded: false };
}

/// Inserts buffered rows, whose handles are our own and so new. Returns those inserted leased, as their node holds them, in the
/// order they came in.
pub(crate) async fn insert_buffered<C: TaskConnection>(
    conn: &mut C,
    rows: Vec<NewTask>,
    mut lessor: Lessor<'_>,
) -> QueryResult<Vec<ClaimedTask>> {
    let mut in_batches: Vec<&NewTask> = rows.iter().collect();
    if rows.len() > IN_ORDER_MAX && C::DIALECT.kind != Kind::Mysql {
        in_batches.sort_by(|one, other| one.shared().cmp(&other.shared()));
    }
    let mut ids = HashMap::new();
    let mut rest = in_batches.as_slice();
    while !rest.is_empty() {
        let (batch, behind) = rest.split_at(batch_length(rest, C::DIALECT.kind));
        rest = behind;
        let wants_ids = batch.iter().any(|row| row.leased);
        let inserted = insert_batch(conn, batch, lessor, wants_ids).await;
        ids.extend(inserted.map_err(|error| told_apart(error, lessor))?);
        // The proof of MySQL's is used up by one.
        lessor.guarded &= C::DIALECT.kind == Kind::Postgres;
    }
    let leased = rows.into_iter().filter(|row| row.leased);
    leased
        .map(|row| match ids.get(&row.task_id) {
            Some(id) => Ok(ClaimedTask::from_inserted(row, *id)),
            None => Err(Error::NotFound),
        })
        .collect()
}

/// PostgreSQL refuses a row of a transaction that is not open any more, by its state (`insert_state.sql`).
fn told_apart(error: Error, lessor: Lessor<'_>) -> Error {
    match &error {
        Error::DatabaseError(DatabaseErrorKind::CheckViolation, information)
            if lessor.guarded && information.constraint_name() == Some("consistency_task_state_check") =>
        {
            TransactionError::Lost.into()
        }
        _ => error,
    }
}

/// How many of the rows fit one statement; at least one.
fn batch_length(rows: &[&NewTask], kind: Kind) -> usize {
    let mut bytes = 0;
    let fitting = rows.iter().take(ROWS_MAX).take_while(|row| {
        bytes += row.task_parameter.len() + row.method_sign_name.len();
        bytes <= BYTES_MAX && (kind == Kind::Mysql || row.shared() == rows[0].shared())
    });
    let fitting = fitting.count().max(1);
    match kind {
        Kind::Mysql => MYSQL_ROWS.into_iter().find(|rows| *rows <= fitting).unwrap_or(1),
        Kind::Postgres | Kind::Sqlite => fitting,
    }
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
        match insert_unless_there(conn, row, lessor).await {
            Ok(true) => return Ok(Receipt::Enqueued(row.task_id.clone())),
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
    let statement = Statement::new(C::DIALECT.sql.existing, [("task_id", task_id.into())]);
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
    let locked = conn.load_ids(Statement::new(text, [("order_key", order_key.into())])).await?;
    if locked.is_empty() {
        let reason = "the table `consistency_order_lock` has lost its rows; run the migration's INSERT into it again";
        return Err(Error::QueryBuilderError(reason.into()));
    }
    Ok(())
}

/// Inserts one row, or nothing where its key is taken; MySQL refuses then. Whether it did.
async fn insert_unless_there<C: TaskConnection>(conn: &mut C, row: &NewTask, lessor: Lessor<'_>) -> QueryResult<bool> {
    let statement = each_row(C::DIALECT, &[row], lessor);
    let statement = match C::DIALECT.kind {
        Kind::Mysql => statement,
        Kind::Postgres | Kind::Sqlite => statement.and("ON CONFLICT (task_id) DO NOTHING", []),
    };
    Ok(conn.run(statement).await? > 0)
}

/// The INSERT of one row of a call that says nothing special: what nearly every transaction sends, as a statement that is known
/// without its text.
struct Plain<const LEASED: bool, const GUARDED: bool>;

impl<const LEASED: bool, const GUARDED: bool> Known for Plain<LEASED, GUARDED> {}

/// Inserts rows whose handles are new; returns the handle and the id of each where `wants_ids`.
async fn insert_batch<C: TaskConnection>(
    conn: &mut C,
    rows: &[&NewTask],
    lessor: Lessor<'_>,
    wants_ids: bool,
) -> QueryResult<Vec<(String, i64)>> {
    let is_plain = matches!(rows, [row] if is_plain(row));
    if C::DIALECT.kind != Kind::Mysql {
        let statement = match rows {
            [_] => each_row(C::DIALECT, rows, lessor),
            rows => many_rows(C::DIALECT, rows, lessor)?,
        };
        let statement = if wants_ids { statement.and("RETURNING CAST(task_id AS TEXT), id", []) } else { statement };
        return match (is_plain, wants_ids, lessor.guarded) {
            (true, true, true) => conn.load_inserted(statement.known_as::<Plain<true, true>>()).await,
            (true, true, false) => conn.load_inserted(statement.known_as::<Plain<true, false>>()).await,
            (true, false, true) => conn.run(statement.known_as::<Plain<false, true>>()).await.map(|_| Vec::new()),
            (true, false, false) => conn.run(statement.known_as::<Plain<false, false>>()).await.map(|_| Vec::new()),
            (false, true, _) => conn.load_inserted(statement).await,
            (false, false, _) => conn.run(statement).await.map(|_| Vec::new()),
        };
    }
    let statement = || each_row(C::DIALECT, rows, lessor);
    match (lessor.guarded, is_plain, wants_ids) {
        (false, ..) => conn.run(statement()).await?,
        (true, false, _) => proof::run_redeeming::<C, ByText>(conn, statement).await?,
        (true, true, true) => proof::run_redeeming::<C, Plain<true, true>>(conn, statement).await?,
        (true, true, false) => proof::run_redeeming::<C, Plain<false, true>>(conn, statement).await?,
    };
    if !wants_ids {
        return Ok(Vec::new());
    }
    // MySQL has no RETURNING.
    let task_ids: Vec<&str> = rows.iter().map(|row| row.task_id.as_str()).collect();
    conn.load_inserted(Statement::new(MYSQL_INSERTED, [("task_ids", json(&task_ids)?)])).await
}

/// A statement that lists the values of each row.
fn each_row(dialect: Dialect, rows: &[&NewTask], lessor: Lessor<'_>) -> Statement {
    let columns = Columns::of(rows, lessor);
    let columns = if dialect.kind == Kind::Sqlite { columns.with_the_time() } else { columns };
    let mut statement = columns.insert_into().and("VALUES ", []);
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            statement = statement.and(", ", []);
        }
        statement = columns.add_values(statement, dialect.sql, row, lessor);
    }
    statement
}

/// Rows with the same [`NewTask::shared`] in one statement: it is bound once.
fn many_rows(dialect: Dialect, rows: &[&NewTask], lessor: Lessor<'_>) -> QueryResult<Statement> {
    let columns = Columns::of(rows, lessor);
    let statement = columns.add_selected(columns.insert_into(), dialect.sql, rows[0], lessor);
    if dialect.kind == Kind::Postgres {
        return Ok(columns.add_unnested(statement, rows));
    }
    let columns = rows.iter().map(|row| (&row.task_id, &row.task_parameter, &row.biz_id, &row.meta, version(row)));
    let rows: Vec<_> = columns.collect();
    Ok(statement.and(SQLITE_INSERT_ROWS, [("rows", json(&rows)?.hidden())]))
}
