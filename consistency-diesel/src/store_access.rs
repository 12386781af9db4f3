//! The store by itself, for the contract suite of this workspace. Applications hold an `Outbox`.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::store::{ClaimRequest, ClaimedTask, Store};
use diesel::result::QueryResult;

use crate::connection::TaskConnection;
use crate::operations;
use crate::pool::Connections;
use crate::store::DieselStore;
use crate::write_gate::WriteGate;

/// The store on the database at `address`, as an outbox would open it: a file for SQLite, else a URL.
pub fn open<C: TaskConnection>(address: &str, busy_wait: Duration) -> Arc<dyn Store> {
    let connections = Connections::<C>::open(address, 4, busy_wait);
    let gate = Arc::new(WriteGate::new(C::DIALECT.kind, busy_wait));
    Arc::new(DieselStore::new(connections, 4, busy_wait, gate))
}

/// One claim on a connection of the caller's own, so that its transaction can be held open.
///
/// # Errors
/// The database's.
pub fn claim_on<C: TaskConnection>(conn: &mut C, request: &ClaimRequest<'_>) -> QueryResult<Vec<ClaimedTask>> {
    operations::claim(conn, request)
}
