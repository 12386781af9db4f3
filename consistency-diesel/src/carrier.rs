//! The runtime's own connections: whichever client carries them, its threads call them as if they blocked.
//!
//! A connection of diesel-async is driven by a small Tokio runtime of its own on the thread that calls it, so that a statement
//! needs no change of threads, and neither a blocked nor an ended runtime of the application can hold up a heartbeat.

use std::marker::PhantomData;

use diesel::ConnectionResult;
use diesel::r2d2::{ManageConnection, R2D2Connection};
use diesel::result::QueryResult;

use crate::blocking_connection::BlockingConnection;
use crate::connection::{RunStatement, TaskConnection};
use crate::set_up::SetUp;
use crate::world::now;

/// A connection that a thread of the runtime can call.
pub(crate) trait Carrier: Send + Sized + 'static {
    /// The connection inside.
    type Connection: TaskConnection;

    /// Connects.
    fn connect(url: &str) -> ConnectionResult<Self>;

    /// Runs `work` on the connection, to its end.
    fn run<T>(&mut self, work: impl AsyncFnOnce(&mut Self::Connection) -> QueryResult<T>) -> QueryResult<T>;

    /// Asks the server whether the connection lives.
    fn ping(&mut self) -> QueryResult<()> {
        self.run(async |conn| conn.run_batch("SELECT 1").await)
    }

    /// Whether it is known to be useless.
    fn is_broken(&mut self) -> bool;
}

impl<C: BlockingConnection> Carrier for C {
    type Connection = C;

    fn connect(url: &str) -> ConnectionResult<Self> {
        C::establish(url)
    }

    fn run<T>(&mut self, work: impl AsyncFnOnce(&mut C) -> QueryResult<T>) -> QueryResult<T> {
        now(work(self))
    }

    fn is_broken(&mut self) -> bool {
        R2D2Connection::is_broken(self)
    }
}

/// Opens carriers for a pool, set up for the runtime.
#[derive(Debug)]
pub(crate) struct CarrierManager<K> {
    url: String,
    set_up: SetUp,
    carrier: PhantomData<fn() -> K>,
}

impl<K: Carrier> CarrierManager<K> {
    /// For connections to `url`.
    pub(crate) fn new(url: &str, set_up: SetUp) -> Self {
        Self { url: url.to_owned(), set_up, carrier: PhantomData }
    }
}

impl<K: Carrier> ManageConnection for CarrierManager<K> {
    type Connection = K;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<K, Self::Error> {
        let mut carrier = K::connect(&self.url).map_err(diesel::r2d2::Error::ConnectionError)?;
        carrier.run(async |conn| self.set_up.apply(conn).await).map_err(diesel::r2d2::Error::QueryError)?;
        Ok(carrier)
    }

    fn is_valid(&self, carrier: &mut K) -> Result<(), Self::Error> {
        carrier.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, carrier: &mut K) -> bool {
        std::thread::panicking() || carrier.is_broken()
    }
}
