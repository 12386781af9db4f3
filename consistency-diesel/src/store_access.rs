//! The store by itself, for the contract suite of this workspace. Applications hold an `Outbox`.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::store::{ClaimRequest, ClaimedTask, Store};
use diesel::result::QueryResult;

use crate::blocking_connection::BlockingConnection;
use crate::carrier::CarrierManager;
use crate::operations;
use crate::own_transactions::BlockingTransactions;
use crate::pool::Connections;
use crate::store::DieselStore;
use crate::world::now;
use crate::write_gate::WriteGate;

/// The store on the database at `address`, as an outbox would open it: a file for SQLite, else a URL.
pub fn open<C: BlockingConnection>(address: &str, busy_wait: Duration) -> Arc<dyn Store> {
    let gate = Arc::new(WriteGate::new(C::DIALECT.kind, busy_wait));
    let connections = || Connections::<CarrierManager<C>>::open(address, 4, busy_wait);
    let transactions = BlockingTransactions::new(connections(), 4, Arc::clone(&gate), busy_wait);
    Arc::new(DieselStore::new(connections(), vec![Box::new(transactions)], gate))
}

/// As [`open`], on connections of diesel-async.
#[cfg(feature = "async")]
pub fn open_async<C: crate::async_connection::AsyncTaskConnection>(
    address: &str,
    busy_wait: Duration,
) -> Arc<dyn Store> {
    use crate::driven::Driven;
    use crate::own_transactions::AsyncTransactions;

    let gate = Arc::new(WriteGate::new(C::DIALECT.kind, busy_wait));
    let connections = Connections::<CarrierManager<Driven<C>>>::open(address, 4, busy_wait);
    let transactions = AsyncTransactions::<C>::new(address, 4, Arc::clone(&gate), busy_wait);
    Arc::new(DieselStore::new(connections, vec![Box::new(transactions)], gate))
}

/// One claim on a connection of the caller's own, so that its transaction can be held open.
///
/// # Errors
/// The database's.
pub fn claim_on<C: BlockingConnection>(conn: &mut C, request: &ClaimRequest<'_>) -> QueryResult<Vec<ClaimedTask>> {
    now(operations::claim(conn, request))
}
