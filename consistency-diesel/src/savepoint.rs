//! Savepoints inside a [`TaskTx`], with the calls enqueued in them: the same steps for both worlds' transaction managers.

use diesel::result::{Error, QueryResult};

use crate::connection::TaskConnection;
use crate::proof::{self, answered};
use crate::task_tx::TaskTx;

/// Sets a savepoint, and the proof that belongs to it.
pub(crate) async fn set<C: TaskConnection>(tx: &mut TaskTx<'_, C>) -> QueryResult<()> {
    check_known(tx)?;
    answered::<C, _>(tx.scope, tx.conn.open()).await?;
    tx.scope.savepoint_set();
    answered::<C, _>(tx.scope, proof::set(&mut *tx.conn, tx.scope.level())).await
}

/// Rolls back to the innermost savepoint, with the calls enqueued since.
pub(crate) async fn roll_back<C: TaskConnection>(tx: &mut TaskTx<'_, C>) -> QueryResult<()> {
    if tx.scope.depth() == 0 {
        return Err(Error::NotInTransaction);
    }
    // Whatever becomes of the statement, the calls are not wanted any more.
    tx.scope.savepoint_rolled_back();
    check_known(tx)?;
    answered::<C, _>(tx.scope, tx.conn.roll_back()).await
}

/// Releases the innermost savepoint: its calls belong to the level around it.
pub(crate) async fn release<C: TaskConnection>(tx: &mut TaskTx<'_, C>) -> QueryResult<()> {
    if tx.scope.depth() == 0 {
        return Err(Error::NotInTransaction);
    }
    check_known(tx)?;
    match answered::<C, _>(tx.scope, tx.conn.commit()).await {
        Ok(()) => {
            tx.scope.savepoint_released();
            Ok(())
        }
        Err(error) => {
            tx.scope.savepoint_rolled_back();
            Err(error)
        }
    }
}

/// Whether anybody knows what is open: not after a future was dropped in the middle of setting or ending a savepoint.
fn check_known<C: TaskConnection>(tx: &mut TaskTx<'_, C>) -> QueryResult<()> {
    if tx.conn.is_cut_off() { Err(Error::BrokenTransactionManager) } else { Ok(()) }
}
