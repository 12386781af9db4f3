//! BEGIN and COMMIT of Diesel's `MysqlConnection`, prepared: as plain text each costs it three round trips.

use std::num::NonZeroU32;

use diesel::connection::{
    AnsiTransactionManager, Connection, InstrumentationEvent, TransactionDepthChange, TransactionManager,
    TransactionManagerStatus,
};
use diesel::result::{Error, QueryResult};
use diesel::{MysqlConnection, RunQueryDsl};

use crate::compound;
use crate::statement::{Known, Statement};

/// As `opened::MYSQL_BEGIN`.
const COMPOUND_BEGIN: &str = "BEGIN NOT ATOMIC SET @@tx_read_only = @@session.tx_read_only; START TRANSACTION; \
     SAVEPOINT consistency_proof_0; END";

struct Begin;
impl Known for Begin {}

struct CompoundBegin;
impl Known for CompoundBegin {}

struct Commit;
impl Known for Commit {}

/// The steps of a transaction, as `AnsiTransactionManager` has them.
pub(crate) struct Prepared;

impl Prepared {
    /// Opens a transaction by [`COMPOUND_BEGIN`], or where the server has no such thing by `sql`.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn begin_transaction_sql(conn: &mut MysqlConnection, sql: &str) -> QueryResult<()> {
        if depth(conn)?.is_some() || !compound::is_worth_a_try() {
            return AnsiTransactionManager::begin_transaction_sql(conn, sql);
        }
        match begin::<CompoundBegin>(conn, COMPOUND_BEGIN) {
            Err(error) if compound::was_refused(&error) => AnsiTransactionManager::begin_transaction_sql(conn, sql),
            begun => begun,
        }
    }

    /// Opens a transaction, or sets a savepoint inside one.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn begin_transaction(conn: &mut MysqlConnection) -> QueryResult<()> {
        if depth(conn)?.is_some() || !compound::is_worth_a_try() {
            return AnsiTransactionManager::begin_transaction(conn);
        }
        // In this form, so that MySQL refuses it by name, in whatever language.
        match begin::<Begin>(conn, "BEGIN NOT ATOMIC START TRANSACTION; END") {
            Err(error) if compound::was_refused(&error) => AnsiTransactionManager::begin_transaction(conn),
            begun => begun,
        }
    }

    /// Commits a transaction, or releases a savepoint. As Diesel does it, a COMMIT that failed is rolled back.
    ///
    /// # Errors
    /// The database's, or [`Error::RollbackErrorOnCommit`].
    pub(crate) fn commit_transaction(conn: &mut MysqlConnection) -> QueryResult<()> {
        if depth(conn)? != Some(NonZeroU32::MIN) {
            return AnsiTransactionManager::commit_transaction(conn);
        }
        conn.instrumentation().on_connection_event(InstrumentationEvent::commit_transaction(NonZeroU32::MIN));
        // Never a second time: after a COMMIT that was refused, another one has nothing to commit and is answered well.
        let Err(commit_error) = Statement::new("COMMIT", []).known_as::<Commit>().execute(conn) else {
            return change_depth(conn, TransactionDepthChange::DecreaseDepth);
        };
        match AnsiTransactionManager::rollback_transaction(conn) {
            Ok(()) => Err(commit_error),
            Err(rollback_error) => {
                AnsiTransactionManager::transaction_manager_status_mut(conn).set_in_error();
                let (rollback_error, commit_error) = (Box::new(rollback_error), Box::new(commit_error));
                Err(Error::RollbackErrorOnCommit { rollback_error, commit_error })
            }
        }
    }
}

fn begin<K: Known>(conn: &mut MysqlConnection, text: &'static str) -> QueryResult<()> {
    conn.instrumentation().on_connection_event(InstrumentationEvent::begin_transaction(NonZeroU32::MIN));
    Statement::new(text, []).known_as::<K>().execute(conn)?;
    change_depth(conn, TransactionDepthChange::IncreaseDepth)
}

fn depth(conn: &mut MysqlConnection) -> QueryResult<Option<NonZeroU32>> {
    AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth()
}

fn change_depth(conn: &mut MysqlConnection, change: TransactionDepthChange) -> QueryResult<()> {
    match AnsiTransactionManager::transaction_manager_status_mut(conn) {
        TransactionManagerStatus::Valid(status) => status.change_transaction_depth(change),
        TransactionManagerStatus::InError => Err(Error::BrokenTransactionManager),
    }
}
