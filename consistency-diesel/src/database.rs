//! The databases an outbox can run on: which connections the runtime takes to each, and how it opens and prepares them.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use consistency_core::error::Problem;
use consistency_core::settings::Settings;
use consistency_core::store::Store;
use consistency_core::task::NeededType;
use diesel::result::{ConnectionError, Error, QueryResult};

use crate::carrier::Carrier;
use crate::connection::TaskConnection;
use crate::dialect::Kind;
use crate::error::is_prepared_elsewhere;
use crate::migrations;
use crate::open::{Open, without_password};
use crate::own_transactions::OwnTransactions;
use crate::pool::{OWN_CONNECTIONS, OwnPool};
use crate::pooler;
use crate::set_up::SetUp;
use crate::store::DieselStore;
use crate::waiting::Waiting;
use crate::write_gate::WriteGate;

/// A kind of database, as the runtime reaches it by URL.
pub(crate) trait Database: 'static {
    /// What carries the runtime's own work. diesel-async where it is built in, else Diesel's own
    /// client: see `docs/decisions/0015-the-runtimes-own-connections.md`.
    type Carrier: Carrier;

    /// Runs the pending migrations.
    fn migrate(carrier: Self::Carrier, waiting: Waiting) -> QueryResult<()>;

    /// The connection types `#[tx]` tasks can have.
    fn connections() -> Vec<NeededType>;

    /// Where they run, for each of these types.
    fn transactions(own: &OwnUrl<'_>) -> Vec<Box<dyn OwnTransactions>>;
}

/// What opens connections of the runtime's own.
pub(crate) struct OwnUrl<'a> {
    url: &'a str,
    most: usize,
    /// Blocking attempts given up that may go on beside those.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    abandoned: usize,
    gate: &'a Arc<WriteGate>,
    busy_wait: Duration,
    limit: Duration,
}

impl OwnUrl<'_> {
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    fn blocking<C: crate::blocking_connection::BlockingConnection>(&self) -> Box<dyn OwnTransactions> {
        let lendable = self.most.saturating_add(self.abandoned);
        let size = u32::try_from(lendable).unwrap_or(u32::MAX);
        let connections =
            OwnPool::<crate::apart::Apart<C>>::open(self.url, size, SetUp::of::<C>(self.busy_wait), self.limit);
        Box::new(crate::own_transactions::BlockingTransactions::new(
            connections,
            (self.most, lendable),
            Arc::clone(self.gate),
            self.busy_wait,
            self.limit,
        ))
    }

    #[cfg(feature = "async")]
    fn asynchronous<C: crate::async_connection::AsyncTaskConnection>(&self) -> Box<dyn OwnTransactions> {
        Box::new(crate::own_transactions::AsyncTransactions::<C>::new(
            self.url,
            self.most,
            Arc::clone(self.gate),
            self.busy_wait,
            self.limit,
        ))
    }
}

/// SQLite, always through Diesel's own connection.
#[cfg(feature = "sqlite")]
pub(crate) struct Sqlite;

#[cfg(feature = "sqlite")]
impl Database for Sqlite {
    type Carrier = crate::apart::Apart<diesel::SqliteConnection>;

    fn migrate(mut carrier: Self::Carrier, waiting: Waiting) -> QueryResult<()> {
        carrier.run(waiting, async |conn| migrations::run_on_sqlite(conn))
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
            type Carrier = crate::apart::Apart<$connection>;

            #[cfg(feature = $async_feature)]
            fn migrate(carrier: Self::Carrier, waiting: Waiting) -> QueryResult<()> {
                carrier.use_as_blocking(waiting, |conn| $migrate(conn))?
            }

            #[cfg(not(feature = $async_feature))]
            fn migrate(mut carrier: Self::Carrier, waiting: Waiting) -> QueryResult<()> {
                carrier.run(waiting, async |conn| $migrate(conn))
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
        D::transactions(&OwnUrl {
            url: &self.url,
            most,
            #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
            abandoned: settings.max_abandoned_threads,
            gate,
            busy_wait: settings.busy_wait,
            limit: limit(self.kind(), settings),
        })
    }

    fn connect(&self, limit: Duration) -> Result<D::Carrier, Problem> {
        let connected = D::Carrier::connect(&self.url, Waiting::begin("the first connection", limit), &Arc::default());
        connected.map_err(|error| self.unreachable(error))
    }

    fn unreachable(&self, error: ConnectionError) -> Problem {
        let (reason, address) = (error.to_string(), without_password(&self.url));
        if self.kind() == Kind::Postgres && is_prepared_elsewhere(&reason) {
            return pooler::refused(&address);
        }
        Problem::Database(format!("cannot connect to {address}: {}", reason.trim()))
    }

    /// A second connection, where it is wanted to see that both have sessions of their own.
    fn connect_beside(&self, first: &mut D::Carrier, limit: Duration) -> Result<Option<D::Carrier>, Problem> {
        if self.kind() != Kind::Postgres {
            return Ok(None);
        }
        let mut second = self.connect(limit)?;
        let waiting = Waiting::begin("the question for the session", limit);
        pooler::refuse_shared_sessions(&without_password(&self.url), |turn| {
            let carrier = if turn == 0 { &mut *first } else { &mut second };
            carrier.run(waiting, async |conn| pooler::session(conn).await)
        })?;
        Ok(Some(second))
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
        let limit = limit(self.kind(), settings);
        let set_up = SetUp::of::<Connection<D>>(settings.busy_wait);
        let mut checking = self.connect(limit)?;
        // Before anything is set up: settings would stay with sessions that others use.
        let second = self.connect_beside(&mut checking, limit)?;
        if migrate {
            let waiting = Waiting::begin("the migrations", limit.saturating_mul(MIGRATIONS_MAY_TAKE));
            let mut migrating = second.map_or_else(|| self.connect(limit), Ok)?;
            migrating.run(waiting, async move |conn| set_up.apply(conn).await).map_err(failed)?;
            D::migrate(migrating, waiting).map_err(migration_failed)?;
        }
        let check = checking.run(Waiting::begin("the check of the table", limit), async move |conn| {
            set_up.apply(conn).await?;
            Ok(migrations::check(conn).await)
        });
        check.map_err(failed)?
    }

    fn store(&self, settings: &Settings, gate: Arc<WriteGate>) -> Arc<dyn Store> {
        let limit = limit(self.kind(), settings);
        let set_up = SetUp::of::<Connection<D>>(settings.busy_wait).for_statements(limit);
        let connections = OwnPool::<D::Carrier>::open(&self.url, OWN_CONNECTIONS, set_up, limit);
        let transactions = self.own_transactions(settings, &gate);
        Arc::new(DieselStore::new(connections, transactions, gate, limit))
    }
}

/// How many times the limit of one operation the migrations may take, with the wait for another process that runs them.
pub(crate) const MIGRATIONS_MAY_TAKE: u32 = 60;

/// The client's limit for one operation. SQLite, which has no network, keeps to its own.
pub(crate) fn limit(kind: Kind, settings: &Settings) -> Duration {
    if kind == Kind::Sqlite { settings.busy_wait } else { settings.store_timeout }
}

fn failed(error: Error) -> Problem {
    Problem::Database(error.to_string())
}

/// What a failed migration means for the start.
pub(crate) fn migration_failed(error: Error) -> Problem {
    Problem::Table(format!("the migrations of `consistency_task` failed: {error}"))
}
