//! What the contract suite asks of a store beyond the contract itself.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::store::Store;
use consistency_diesel::blocking_connection::BlockingConnection;
use consistency_diesel::store_access;

use crate::database::Database;
use crate::memory_store::MemoryStore;
use crate::scene::now;

/// How long a store waits for SQLite's write lock and for its own connections.
const BUSY_WAIT: Duration = Duration::from_secs(20);

/// A store, and what a person can do to its rows without it.
pub trait StoreUnderTest: Sync {
    /// The store.
    fn store(&self) -> &dyn Store;

    /// Asks to cancel a task, as a person does with SQL.
    fn request_cancel(&self, id: i64);

    /// Has a dead or cancelled row due again with all attempts anew, as a person does with SQL.
    fn put_back(&self, id: i64);

    /// Lets at least this time pass on the store's clock. Time itself is what is waited for: nothing else tells of it.
    fn let_time_pass(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

impl StoreUnderTest for MemoryStore {
    fn store(&self) -> &dyn Store {
        self
    }

    fn request_cancel(&self, id: i64) {
        MemoryStore::request_cancel(self, id);
    }

    fn put_back(&self, id: i64) {
        MemoryStore::put_back(self, id);
    }

    fn let_time_pass(&self, time: Duration) {
        self.advance(time);
    }
}

/// The Diesel store on a test's database.
pub struct DatabaseStore<'a> {
    database: &'a Database,
    store: Arc<dyn Store>,
}

impl<'a> DatabaseStore<'a> {
    /// Migrates the database and opens the store on it, as an outbox would.
    pub fn open<C: BlockingConnection>(database: &'a Database) -> Self {
        database.migrate();
        Self { database, store: store_access::open::<C>(database.address(), BUSY_WAIT) }
    }

    /// As [`open`](Self::open), on connections of diesel-async.
    #[cfg(feature = "async")]
    pub fn open_async<C: consistency_diesel::async_connection::AsyncTaskConnection>(database: &'a Database) -> Self {
        database.migrate();
        Self { database, store: store_access::open_async::<C>(database.address(), BUSY_WAIT) }
    }
}

impl StoreUnderTest for DatabaseStore<'_> {
    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn request_cancel(&self, id: i64) {
        self.database.execute(&format!("UPDATE consistency_task SET cancel_requested = 1 WHERE id = {id}"));
    }

    fn put_back(&self, id: i64) {
        self.database.execute(&format!(
            "UPDATE consistency_task SET state = 0, execute_times = 0, lost_times = 0, cancel_requested = 0, \
             next_execute_time = {} WHERE id = {id} AND state IN (4, 6)",
            now(self.database.backend())
        ));
    }
}

impl std::fmt::Debug for DatabaseStore<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DatabaseStore({:?})", self.database)
    }
}
