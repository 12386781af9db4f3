//! The proof that the caller's transaction still lives before anything of ours is written into it.
//!
//! MariaDB ends a transaction silently on a deadlock the caller ignored, SQLite on a full disk, and anybody can send COMMIT:
//! our INSERT would then commit by itself and its task run without the business data. On SQLite and MySQL a savepoint of our
//! own, set right after BEGIN, is gone when the transaction is. On PostgreSQL, where savepoints cost more, a setting made with
//! SET LOCAL is: what the flush writes is written only while it holds, and where it writes nothing the setting is asked for.
//! PostgreSQL answers a COMMIT of a transaction that has failed or ended without an error, and diesel-async does not look.

use std::future::Future;

use consistency_core::enqueue::EnqueueScope;
use diesel::result::{Error, QueryResult};

use crate::compound;
use crate::connection::TaskConnection;
use crate::dialect::Kind;
use crate::error::{TransactionError, is_disconnected, is_prepared_elsewhere};
use crate::statement::{Known, Statement};

/// Runs a statement of the transaction, unless its answer could be mistaken for that of an earlier one that was given up.
pub(crate) async fn answered<C: TaskConnection, T>(
    scope: &EnqueueScope,
    statement: impl Future<Output = QueryResult<T>>,
) -> QueryResult<T> {
    if C::MISTAKES_ANSWERS && scope.answers().given_up() {
        return Err(Error::BrokenTransactionManager);
    }
    scope.answers().of(statement).await
}

struct Set;
impl Known for Set {}

struct Release;
impl Known for Release {}

/// Sets the proof for this `level` of savepoints (0 is the transaction itself).
pub(crate) async fn set<C: TaskConnection>(conn: &mut C, level: usize) -> QueryResult<()> {
    match C::DIALECT.kind {
        // Set together with BEGIN, for every level.
        Kind::Postgres => Ok(()),
        Kind::Sqlite if level == 0 => {
            conn.run(Statement::new("SAVEPOINT consistency_proof_0", []).known_as::<Set>()).await.map(drop)
        }
        // SQL: the level is a number of our own.
        Kind::Sqlite | Kind::Mysql => conn.run_batch(&format!("SAVEPOINT consistency_proof_{level}")).await,
    }
}

/// Proves that the transaction lives, and sets the proof anew.
pub(crate) async fn renew<C: TaskConnection>(conn: &mut C, level: usize) -> QueryResult<()> {
    redeem(conn, level).await?;
    ask(conn).await?;
    set(conn, level).await
}

/// Proves on PostgreSQL that the transaction lives, by the setting; elsewhere redeeming has.
///
/// # Errors
/// [`TransactionError::Lost`] when it does not.
pub(crate) async fn ask<C: TaskConnection>(conn: &mut C) -> QueryResult<()> {
    if C::DIALECT.kind != Kind::Postgres {
        return Ok(());
    }
    let text = "SELECT 1::bigint WHERE current_setting('consistency.proof', true) = 'open'";
    match conn.load_ids(Statement::new(text, [])).await {
        Ok(proven) if !proven.is_empty() => Ok(()),
        // It says what is wrong: the connection is gone, or shares its session with others.
        Err(error) if is_disconnected(&error) || is_prepared_elsewhere(&error.to_string()) => Err(error),
        // The setting is gone, or a failed transaction answers nothing.
        Ok(_) | Err(_) => Err(TransactionError::Lost.into()),
    }
}

/// Proves that the transaction lives, for the last time at this level; on PostgreSQL as far as the driver knows, the rest is
/// proven by what the flush writes, or by [`ask`].
///
/// # Errors
/// [`TransactionError::Lost`] when it does not; the database's own where the connection is gone.
pub(crate) async fn redeem<C: TaskConnection>(conn: &mut C, level: usize) -> QueryResult<()> {
    let proven = is_healthy(conn, level)
        && match C::DIALECT.kind {
            Kind::Postgres => true,
            Kind::Sqlite | Kind::Mysql => accepted(release(conn, level).await)?,
        };
    if proven { Ok(()) } else { Err(TransactionError::Lost.into()) }
}

/// As [`redeem`], before a flush. Returns whether its first INSERT is to be guarded: on PostgreSQL it asks for the setting
/// itself, and on MariaDB it takes the proof with it by [`run_redeeming`], where it is what is sent next.
///
/// # Errors
/// As [`redeem`].
pub(crate) async fn redeem_or_guard<C: TaskConnection>(
    conn: &mut C,
    level: usize,
    inserts_next: bool,
) -> QueryResult<bool> {
    if C::DIALECT.kind == Kind::Mysql && level == 0 && inserts_next && compound::is_worth_a_try() {
        return if is_healthy(conn, level) { Ok(true) } else { Err(TransactionError::Lost.into()) };
    }
    redeem(conn, level).await?;
    Ok(C::DIALECT.kind == Kind::Postgres)
}

/// Runs a statement in the round trip that proves that the transaction lives, known as `K`; on MySQL proves it first.
///
/// # Errors
/// [`TransactionError::Lost`] when it does not, and the statement has not been run; the statement's.
pub(crate) async fn run_redeeming<C: TaskConnection, K: Known>(
    conn: &mut C,
    statement: impl Fn() -> Statement,
) -> QueryResult<usize> {
    let both = Statement::new("BEGIN NOT ATOMIC RELEASE SAVEPOINT consistency_proof_0; ", []);
    match conn.run(both.followed_by(statement()).and("; END", []).known_as::<K>()).await {
        Err(error) if compound::was_refused(&error) => {
            redeem(conn, 0).await?;
            conn.run(statement()).await
        }
        // Refused by its name, in whatever language.
        Err(error) if error.to_string().contains("consistency_proof_0") => Err(TransactionError::Lost.into()),
        answer => answer,
    }
}

/// Whether this level is open, as far as Diesel knows.
fn is_healthy<C: TaskConnection>(conn: &mut C, level: usize) -> bool {
    // Diesel counts the transaction itself as depth 1.
    conn.healthy_depth().is_some_and(|known| known as usize == level + 1)
}

/// Releases the savepoint of this level. That of the transaction itself stays prepared: as plain text it costs Diesel's
/// `MysqlConnection` three round trips.
async fn release<C: TaskConnection>(conn: &mut C, level: usize) -> QueryResult<()> {
    if level == 0 {
        match conn.run(Statement::new("RELEASE SAVEPOINT consistency_proof_0", []).known_as::<Release>()).await {
            Ok(_) => return Ok(()),
            Err(error) if is_disconnected(&error) => return Err(error),
            // MySQL prepares no such statement; MariaDB does since 10.6. As text it is refused once more where nothing is open.
            Err(_) => {}
        }
    }
    // SQL: the level is a number of our own.
    conn.run_batch(&format!("RELEASE SAVEPOINT consistency_proof_{level}")).await
}

/// Whether a statement was accepted that only a living transaction accepts. A connection that is gone says nothing of it.
fn accepted(answer: QueryResult<()>) -> QueryResult<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if is_disconnected(&error) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Proves that a transaction of the caller's own is open.
///
/// # Errors
/// [`TransactionError::NotOpen`] when none is; the database's own where the connection is gone.
pub(crate) async fn of_open_transaction<C: TaskConnection>(conn: &mut C) -> QueryResult<()> {
    match conn.healthy_depth() {
        None => return Err(TransactionError::Lost.into()),
        Some(0) => return Err(TransactionError::NotOpen.into()),
        Some(_) => {}
    }
    let open = match C::DIALECT.kind {
        // Refused outside a transaction, and in a failed one. Storing takes a stronger lock anyway.
        Kind::Postgres => accepted(conn.run_batch("LOCK TABLE consistency_task IN ACCESS SHARE MODE").await)?,
        // Outside a transaction the savepoint is forgotten at once.
        Kind::Mysql => {
            conn.run_batch("SAVEPOINT consistency_join").await?;
            accepted(conn.run_batch("RELEASE SAVEPOINT consistency_join").await)?
        }
        // A second BEGIN is refused exactly when a transaction is open.
        Kind::Sqlite => match conn.run_batch("BEGIN").await {
            Err(_) => true,
            Ok(()) => {
                conn.run_batch("ROLLBACK").await?;
                false
            }
        },
    };
    if open { Ok(()) } else { Err(TransactionError::Lost.into()) }
}
