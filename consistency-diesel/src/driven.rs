//! Connections of diesel-async as the runtime's own: each with a small Tokio runtime that drives it while it is called.

use std::sync::Arc;

use diesel::ConnectionResult;
use diesel::result::{ConnectionError, Error, QueryResult};
#[cfg(any(feature = "async-postgres", feature = "async-mysql"))]
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use tokio::runtime::{Builder, Runtime};

use crate::async_connection::AsyncTaskConnection;
use crate::carrier::Carrier;
use crate::stand_in::GivenUp;
use crate::waiting::Waiting;

/// An asynchronous connection that a plain thread can call.
pub(crate) struct Driven<C> {
    conn: C,
    runtime: OwnRuntime,
    /// An answer did not come in time.
    given_up: bool,
}

impl<C: AsyncTaskConnection> Driven<C> {
    /// Lends the connection to `work` as one of Diesel's own, and closes it. After the wait it is left to itself.
    #[cfg(any(feature = "async-postgres", feature = "async-mysql"))]
    pub(crate) fn use_as_blocking<T: Send + 'static>(
        self,
        waiting: Waiting,
        work: impl FnOnce(&mut AsyncConnectionWrapper<C>) -> T + Send + 'static,
    ) -> QueryResult<T> {
        let Driven { conn, runtime, .. } = self;
        // On a thread of the runtime, so that the wrapper finds it and does not bring another.
        let lent = async { tokio::task::spawn_blocking(move || work(&mut AsyncConnectionWrapper::from(conn))).await };
        let ended = runtime.block_on(async { Ok(tokio::time::timeout(waiting.left(), lent).await) })?;
        ended.map_err(|_| waiting.in_vain(""))?.map_err(|error| Error::QueryBuilderError(error.into()))
    }
}

impl<C: AsyncTaskConnection> Carrier for Driven<C> {
    type Connection = C;

    fn connect(url: &str, waiting: Waiting, _given_up: &Arc<GivenUp>) -> ConnectionResult<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ConnectionError::BadConnection(format!("no Tokio runtime: {error}")))?;
        // Let go of without waiting for a name that is still being looked up.
        let runtime = OwnRuntime(Some(runtime));
        let dialled = runtime.block_on(async { Ok(tokio::time::timeout(waiting.left(), C::dial(url)).await) });
        let dialled = dialled.map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
        let conn = dialled.map_err(|_| ConnectionError::BadConnection(waiting.in_vain("").to_string()))??;
        Ok(Self { conn, runtime, given_up: false })
    }

    fn run<T: Send + 'static>(
        &mut self,
        waiting: Waiting,
        work: impl AsyncFnOnce(&mut C) -> QueryResult<T> + Send + 'static,
    ) -> QueryResult<T> {
        if self.given_up {
            return Err(Error::BrokenTransactionManager);
        }
        let conn = &mut self.conn;
        // Set until the answer is here: what is dropped in the middle leaves nobody knows what behind.
        self.given_up = true;
        let work = async { Ok(tokio::time::timeout(waiting.left_for_work(), work(conn)).await) };
        let answer = self.runtime.block_on(work)?.map_err(|_| waiting.in_vain(""))?;
        self.given_up = false;
        answer
    }

    fn connection(&mut self) -> Option<&mut C> {
        (!self.given_up).then_some(&mut self.conn)
    }

    fn is_broken(&mut self) -> bool {
        self.given_up || self.conn.is_broken()
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
