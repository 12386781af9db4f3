//! What every request and every task works with: the pool of connections and the outbox.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use consistency_diesel::async_prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::{Object, Pool};

use crate::args::Arguments;
use crate::error::AppError;
use crate::health::Readiness;
use crate::schema;
use crate::shipper::Shipper;
use crate::tasks;

/// The pool of connections; handed to handlers by axum and to tasks by the outbox.
pub(crate) type Connections = Pool<AsyncPgConnection>;

/// Connections of the requests, and of tasks that ask the pool. The outbox has a few of its own.
const CONNECTIONS: usize = 10;

/// The state of the service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) connections: Connections,
    pub(crate) outbox: Outbox,
    pub(crate) readiness: Arc<Readiness>,
}

impl App {
    /// Creates what is missing in the database, and starts to run tasks.
    ///
    /// # Errors
    /// What is wrong with the arguments, the database or the tasks.
    pub(crate) async fn start(arguments: &Arguments, shipper: &str) -> Result<Self> {
        let manager = AsyncDieselConnectionManager::new(&arguments.database_url);
        let connections = Connections::builder(manager).max_size(CONNECTIONS).build().context("no pool")?;
        let readiness = Arc::new(Readiness::default());
        let observer = Arc::clone(&readiness);
        let lease = Duration::from_secs(arguments.lease_secs);
        let outbox = Outbox::builder(&arguments.database_url)
            .inject(connections.clone())
            .inject(Shipper::at(shipper)?)
            .expect_tasks([tasks::take_stock::NAME, tasks::tell_shipper::NAME])
            .listener(move |event| observer.observe(event))
            .lease(lease)
            .heartbeat(lease / 3)
            .shutdown_grace(arguments.limits().grace)
            .migrate();
        // What is wrong with the arguments is said before anything connects.
        outbox.check()?;

        let mut conn = connections.get().await.context("the database does not answer")?;
        schema::create_tables(&mut conn).await.context("cannot create the tables")?;
        drop(conn);
        let outbox = outbox.start().await?;
        Ok(Self { connections, outbox, readiness })
    }

    /// A connection from the pool, of one request's own.
    pub(crate) async fn connection(&self) -> Result<Object<AsyncPgConnection>, AppError> {
        Ok(self.connections.get().await?)
    }
}
