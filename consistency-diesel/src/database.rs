//! The databases an outbox can run on: which connections the runtime takes to each, and how it opens and prepares them.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use consistency_core::error::Problem;
use consistency_core::settings::Settings;
use consistency_core::store::Store;
use consistency_core::task::NeededType;
use diesel::result::{ConnectionError, QueryResult};

use crate::carrier::{Carrier, CarrierManager};
use crate::connection::TaskConnection;
use crate::dialect::Kind;
use crate::migrations;
use crate::open::{Open, without_password};
use crate::own_transactions::OwnTransactions;
use crate::pool::{Connections, OWN_CONNECTIONS};
use crate::set_up::SetUp;
use crate::store::DieselStore;
use crate::write_gate::WriteGate;

/// A kind of database, as the runtime reaches it by URL.
pub(crate) trait Database: 'static {
    /// What carries the runtime's own work. diesel-async where it is built in, else Diesel's own
    /// client: see `docs/decisions/0015-the-runtimes-own-connections.md`.
    type Carrier: Carrier;

    /// Runs the pending migrations.
    fn migrate(carrier: Self::Carrier) -> QueryResult<()>;

    /// The connection types `#[tx]` tasks can have.
    fn connections() -> Vec<NeededType>;

    /// Where they run, for each of these types.
    fn transactions(own: &OwnUrl<'_>) -> Vec<Box<dyn OwnTransactions>>;
}

/// What opens connections of the runtime's own.
pub(crate) struct OwnUrl<'a> {
    url: &'a str,
    most: usize,
    gate: &'a Arc<WriteGate>,
    busy_wait: Duration,
}

impl OwnUrl<'_> {
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    fn blocking<C: crate::blocking_connection::BlockingConnection>(&self) -> Box<dyn OwnTransactions> {
        let most = u32::try_from(self.most).unwrap_or(u32::MAX);
        let connections = Connections::<CarrierManager<C>>::open(self.url, most, self.busy_wait);
        Box::new(crate::own_transactions::BlockingTransactions::new(
            connections,
            self.most,
            Arc::clone(self.gate),
            self.busy_wait,
        ))
    }

    #[cfg(feature = "async")]
    fn asynchronous<C: crate::async_connection::AsyncTaskConnection>(&self) -> Box<dyn OwnTransactions> {
        Box::new(crate::own_transactions::AsyncTransactions::<C>::new(
            self.url,
            self.most,
            Arc::clone(self.gate),
            self.busy_wait,
        ))
    }
}

/// SQLite, always through Diesel's own connection.
#[cfg(feature = "sqlite")]
pub(crate) struct Sqlite;

#[cfg(feature = "sqlite")]
impl Database for Sqlite {
    type Carrier = diesel::SqliteConnection;

    fn migrate(mut carrier: diesel::SqliteConnection) -> QueryResult<()> {
        migrations::run_on_sqlite(&mut carrier)
    }

    fn connections() -> Vec<NeededType> {
        vec![
            NeededType::of::<diesel::SqliteConnection>(),
            #[cfg(feature = "async-sqlite")]
            NeededType::of::<diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>>(),
        ]
    }

    fn transactions(own: &OwnUrl<'_>) -> Vec<Box<dyn OwnTransactions>> {
        vec![
            own.blocking::<diesel::SqliteConnection>(),
            #[cfg(feature = "async-sqlite")]
            own.asynchronous::<diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>>(
            ),
        ]
    }
}

macro_rules! server {
    (
        $(#[$doc:meta])*
        $name:ident, $feature:literal, $connection:ty, $async_feature:literal, $async_connection:ty, $migrate:path
    ) => {
        $(#[$doc])*
        #[cfg(any(feature = $feature, feature = $async_feature))]
        pub(crate) struct $name;

        #[cfg(any(feature = $feature, feature = $async_feature))]
        impl Database for $name {
            #[cfg(feature = $async_feature)]
            type Carrier = crate::driven::Driven<$async_connection>;
            #[cfg(not(feature = $async_feature))]
            type Carrier = $connection;

            #[cfg(feature = $async_feature)]
            fn migrate(carrier: Self::Carrier) -> QueryResult<()> {
                carrier.use_as_blocking(|conn| $migrate(conn))?
            }

            #[cfg(not(feature = $async_feature))]
            fn migrate(mut carrier: Self::Carrier) -> QueryResult<()> {
                $migrate(&mut carrier)
            }

            fn connections() -> Vec<NeededType> {
                vec![
                    #[cfg(feature = $feature)]
                    NeededType::of::<$connection>(),
                    #[cfg(feature = $async_feature)]
                    NeededType::of::<$async_connection>(),
                ]
            }

            fn transactions(own: &OwnUrl<'_>) -> Vec<Box<dyn OwnTransactions>> {
                vec![
                    #[cfg(feature = $feature)]
                    own.blocking::<$connection>(),
                    #[cfg(feature = $async_feature)]
                    own.asynchronous::<$async_connection>(),
                ]
            }
        }
    };
}

server!(
    /// PostgreSQL.
    Postgres,
    "postgres",
    diesel::PgConnection,
    "async-postgres",
    diesel_async::AsyncPgConnection,
    migrations::run_on_postgres
);
server!(
    /// MySQL and MariaDB.
    Mysql,
    "mysql",
    diesel::MysqlConnection,
    "async-mysql",
    diesel_async::AsyncMysqlConnection,
    migrations::run_on_mysql
);

/// A database by its address.
pub(crate) struct Url<D> {
    url: String,
    database: PhantomData<fn() -> D>,
}

impl<D: Database> Url<D> {
    /// At `url`, as its driver takes it.
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), database: PhantomData }
    }

    fn own_transactions(&self, settings: &Settings, gate: &Arc<WriteGate>) -> Vec<Box<dyn OwnTransactions>> {
        // SQLite has one writer: a second transaction would only wait for the first one's lock.
        let most = if self.kind() == Kind::Sqlite { 1 } else { settings.transaction_connections };
        D::transactions(&OwnUrl { url: &self.url, most, gate, busy_wait: settings.busy_wait })
    }

    fn connect(&self, settings: &Settings) -> Result<D::Carrier, Problem> {
        let mut carrier = D::Carrier::connect(&self.url).map_err(|error| self.unreachable(error))?;
        let set_up = SetUp::of::<Connection<D>>(settings.busy_wait);
        carrier.run(async |conn| set_up.apply(conn).await).map_err(|error| Problem::Database(error.to_string()))?;
        Ok(carrier)
    }

    fn unreachable(&self, error: ConnectionError) -> Problem {
        let reason = error.to_string();
        Problem::Database(format!("cannot connect to {}: {}", without_password(&self.url), reason.trim()))
    }
}

/// The connection inside a database's carrier.
type Connection<D> = <<D as Database>::Carrier as Carrier>::Connection;

impl<D: Database> Open for Url<D> {
    fn kind(&self) -> Kind {
        Connection::<D>::DIALECT.kind
    }

    fn url(&self) -> Option<&str> {
        Some(&self.url)
    }

    fn connections(&self) -> Vec<NeededType> {
        D::connections()
    }

    fn prepare(&self, settings: &Settings, migrate: bool) -> Result<(), Problem> {
        if migrate {
            D::migrate(self.connect(settings)?).map_err(migration_failed)?;
        }
        let mut checked = Ok(());
        self.connect(settings)?
            .run(async |conn| {
                checked = migrations::check(conn).await;
                Ok(())
            })
            .map_err(|error| Problem::Database(error.to_string()))?;
        checked
    }

    fn store(&self, settings: &Settings, gate: Arc<WriteGate>) -> Arc<dyn Store> {
        let connections =
            Connections::<CarrierManager<D::Carrier>>::open(&self.url, OWN_CONNECTIONS, settings.busy_wait);
        let transactions = self.own_transactions(settings, &gate);
        Arc::new(DieselStore::new(connections, transactions, gate))
    }
}

/// What a failed migration means for the start.
pub(crate) fn migration_failed(error: diesel::result::Error) -> Problem {
    Problem::Table(format!("the migrations of `consistency_task` failed: {error}"))
}
