//! Connections of diesel-async as the runtime's own: each with a small Tokio runtime that drives it while it is called.

use diesel::ConnectionResult;
use diesel::result::{ConnectionError, Error, QueryResult};
#[cfg(any(feature = "async-postgres", feature = "async-mysql"))]
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use tokio::runtime::{Builder, Runtime};

use crate::async_connection::AsyncTaskConnection;
use crate::carrier::Carrier;

/// An asynchronous connection that a plain thread can call.
pub(crate) struct Driven<C> {
    conn: C,
    runtime: OwnRuntime,
}

impl<C: AsyncTaskConnection> Driven<C> {
    /// Lends the connection to `work` as one of Diesel's own, and closes it.
    #[cfg(any(feature = "async-postgres", feature = "async-mysql"))]
    pub(crate) fn use_as_blocking<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut AsyncConnectionWrapper<C>) -> T + Send + 'static,
    ) -> QueryResult<T> {
        let Driven { conn, runtime } = self;
        // On a thread of the runtime, so that the wrapper finds it and does not bring another.
        let lent = async { tokio::task::spawn_blocking(move || work(&mut AsyncConnectionWrapper::from(conn))).await };
        runtime.block_on(async { lent.await.map_err(|error| Error::QueryBuilderError(error.into())) })
    }
}

impl<C: AsyncTaskConnection> Carrier for Driven<C> {
    type Connection = C;

    fn connect(url: &str) -> ConnectionResult<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ConnectionError::BadConnection(format!("no Tokio runtime: {error}")))?;
        let conn = runtime.block_on(C::dial(url))?;
        Ok(Self { conn, runtime: OwnRuntime(Some(runtime)) })
    }

    fn run<T>(&mut self, work: impl AsyncFnOnce(&mut C) -> QueryResult<T>) -> QueryResult<T> {
        self.runtime.block_on(work(&mut self.conn))
    }

    fn is_broken(&mut self) -> bool {
        self.conn.is_broken()
    }
}

/// A runtime that may be dropped anywhere, also inside another one.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn block_on<T>(&self, future: impl Future<Output = QueryResult<T>>) -> QueryResult<T> {
        match &self.0 {
            Some(runtime) => runtime.block_on(future),
            None => Err(Error::BrokenTransactionManager),
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
