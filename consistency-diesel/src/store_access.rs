//! The store by itself, for the contract suite of this workspace. Applications hold an `Outbox`.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::store::{ClaimRequest, ClaimedTask, Store};
use diesel::result::QueryResult;

use crate::apart::Apart;
use crate::blocking_connection::BlockingConnection;
use crate::claims;
use crate::own_transactions::BlockingTransactions;
use crate::pool::OwnPool;
use crate::set_up::SetUp;
use crate::store::DieselStore;
use crate::world::now;
use crate::write_gate::WriteGate;

/// The store on the database at `address`, as an outbox would open it: a file for SQLite, else a URL. `limit` is that for each
/// operation, and for a locked SQLite file.
pub fn open<C: BlockingConnection>(address: &str, limit: Duration) -> Arc<dyn Store> {
    let gate = Arc::new(WriteGate::new(C::DIALECT.kind, limit));
    let set_up = SetUp::of::<C>(limit);
    let connections = OwnPool::<Apart<C>>::open(address, 4, set_up.for_statements(limit), limit);
    let of_tasks = OwnPool::<Apart<C>>::open(address, 4, set_up, limit);
    let transactions = BlockingTransactions::new(of_tasks, (4, 4), Arc::clone(&gate), limit, limit);
    Arc::new(DieselStore::new(connections, vec![Box::new(transactions)], gate, limit))
}

/// As [`open`], on connections of diesel-async.
#[cfg(feature = "async")]
pub fn open_async<C: crate::async_connection::AsyncTaskConnection>(address: &str, limit: Duration) -> Arc<dyn Store> {
    use crate::driven::Driven;
    use crate::own_transactions::AsyncTransactions;

    let gate = Arc::new(WriteGate::new(C::DIALECT.kind, limit));
    let set_up = SetUp::of::<C>(limit).for_statements(limit);
    let connections = OwnPool::<Driven<C>>::open(address, 4, set_up, limit);
    let transactions = AsyncTransactions::<C>::new(address, 4, Arc::clone(&gate), limit, limit);
    Arc::new(DieselStore::new(connections, vec![Box::new(transactions)], gate, limit))
}

/// One claim on a connection of the caller's own, so that its transaction can be held open.
///
/// # Errors
/// The database's.
pub fn claim_on<C: BlockingConnection>(conn: &mut C, request: &ClaimRequest<'_>) -> QueryResult<Vec<ClaimedTask>> {
    now(claims::claim(conn, request))
}
