//! A second r2d2 pool of the application's, as the source of the runtime's connections.
//!
//! What is asked on them is asked on stand-ins, so that a connection which is never answered hangs no thread of the runtime's.
//! The server is told no limits on them: the application may use them too. The last free connection is never taken.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::error::{Problem, StoreError};
use consistency_core::settings::Settings;
use consistency_core::store::Store;
use consistency_core::task::NeededType;
use diesel::r2d2::{ConnectionManager, Pool, PooledConnection};
use diesel::result::{Error, QueryResult};
use parking_lot::Mutex;

use crate::apart::missed_error;
use crate::blocking_connection::BlockingConnection;
use crate::database::{MIGRATIONS_MAY_TAKE, limit, migration_failed};
use crate::dialect::Kind;
use crate::error::{is_prepared_elsewhere, store_error};
use crate::migrations;
use crate::open::Open;
use crate::own_transactions::BlockingTransactions;
use crate::pool::{Connections, Lent, OWN_CONNECTIONS, begins_apart};
use crate::pooler;
use crate::set_up::SetUp;
use crate::stand_in::{GivenUp, StandIn};
use crate::store::DieselStore;
use crate::transaction;
use crate::waiting::Waiting;
use crate::world::now;
use crate::write_gate::WriteGate;

/// How often a full pool is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// What messages call it.
const NAME: &str = "the given pool";

/// A pool that the application gives away.
pub(crate) struct GivenPool<C: BlockingConnection>(pub(crate) Pool<ConnectionManager<C>>);

/// A connection that can run its database's migrations.
pub(crate) trait Migrate: BlockingConnection {
    /// Runs the pending ones.
    fn migrate(&mut self) -> QueryResult<()>;
}

#[cfg(feature = "sqlite")]
impl Migrate for diesel::SqliteConnection {
    fn migrate(&mut self) -> QueryResult<()> {
        migrations::run_on_sqlite(self)
    }
}

#[cfg(feature = "postgres")]
impl Migrate for diesel::PgConnection {
    fn migrate(&mut self) -> QueryResult<()> {
        migrations::run_on_postgres(self)
    }
}

#[cfg(feature = "mysql")]
impl Migrate for diesel::MysqlConnection {
    fn migrate(&mut self) -> QueryResult<()> {
        migrations::run_on_mysql(self)
    }
}

/// The runtime's share of the pool: as many at a time as its threads ask for, but for the last free one.
struct Share<C: BlockingConnection> {
    source: Arc<Takings<C>>,
    stand_ins: Mutex<Vec<StandIn>>,
    given_up: Arc<GivenUp>,
}

struct Takings<C: BlockingConnection> {
    pool: Pool<ConnectionManager<C>>,
    set_up: SetUp,
    /// How many threads of the runtime's are about to take one.
    taking: Mutex<u32>,
}

type Guard<C> = PooledConnection<ConnectionManager<C>>;

impl<C: BlockingConnection> Takings<C> {
    /// A connection, set up: the pool's others may have changed it.
    fn take(&self, waiting: Waiting) -> Result<Guard<C>, StoreError> {
        self.wait_for_room(waiting)?;
        let got = self.pool.get_timeout(waiting.left());
        *self.taking.lock() -= 1;
        let mut conn = got.map_err(|error| StoreError::Transient(waiting.no_connection(&error).into()))?;
        now(self.set_up.apply(&mut *conn)).map_err(store_error)?;
        Ok(conn)
    }

    /// Waits until two are free, so that one is left to the application, and counts one as taken.
    fn wait_for_room(&self, waiting: Waiting) -> Result<(), StoreError> {
        loop {
            {
                let mut taking = self.taking.lock();
                let state = self.pool.state();
                let in_use = state.connections - state.idle_connections;
                if in_use + *taking + 1 < self.pool.max_size() {
                    *taking += 1;
                    return Ok(());
                }
            }
            if waiting.left().is_zero() {
                let all = format!(
                    "all {} of the given pool are in use, but one left to the application",
                    self.pool.max_size()
                );
                return Err(StoreError::Transient(waiting.no_connection(&all).into()));
            }
            std::thread::sleep(LOOK_AGAIN.min(waiting.left()));
        }
    }
}

impl<C: BlockingConnection> Share<C> {
    fn of(pool: &Pool<ConnectionManager<C>>, set_up: SetUp) -> Self {
        let source = Arc::new(Takings { pool: pool.clone(), set_up, taking: Mutex::new(0) });
        Self { source, stand_ins: Mutex::default(), given_up: Arc::default() }
    }

    /// The same share, asked on other stand-ins.
    fn again(&self) -> Self {
        Self { source: Arc::clone(&self.source), stand_ins: Mutex::default(), given_up: Arc::clone(&self.given_up) }
    }

    /// Has a stand-in make `call`, at most a quarter longer than the wait.
    fn call<T: Send + 'static>(
        &self,
        waiting: Waiting,
        call: impl FnOnce(&Takings<C>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if C::DIALECT.kind == Kind::Sqlite {
            return call(&self.source);
        }
        let idle = self.stand_ins.lock().pop();
        let mut stand_in = match idle {
            Some(stand_in) => stand_in,
            None => StandIn::start(&self.given_up).map_err(|error| StoreError::Transient(Box::new(error)))?,
        };
        let source = Arc::clone(&self.source);
        match stand_in.call(waiting.longest(), move || call(&source)) {
            Ok(called) => {
                self.stand_ins.lock().push(stand_in);
                called
            }
            Err(missed) => Err(store_error(missed_error(missed, waiting, &self.given_up))),
        }
    }
}

impl<C: BlockingConnection> Connections for Share<C> {
    type Connection = C;
    type Lent = Guard<C>;

    fn run<T: Send + 'static>(
        &self,
        waiting: Waiting,
        work: impl AsyncFnOnce(&mut C) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(waiting, move |source| now(work(&mut *source.take(waiting)?)).map_err(store_error))
    }

    fn lend(&self, waiting: Waiting) -> Result<Guard<C>, StoreError> {
        self.call(waiting, move |source| {
            let mut conn = source.take(waiting)?;
            if begins_apart::<C>() {
                now(transaction::send_begin(&mut *conn, Duration::ZERO)).map_err(store_error)?;
            }
            Ok(conn)
        })
    }
}

impl<C: BlockingConnection> Lent<C> for Guard<C> {
    fn connection(&mut self) -> Option<&mut C> {
        Some(self)
    }
}

impl<C: Migrate> Open for GivenPool<C> {
    fn kind(&self) -> Kind {
        C::DIALECT.kind
    }

    fn url(&self) -> Option<&str> {
        None
    }

    fn connections(&self) -> Vec<NeededType> {
        vec![NeededType::of::<C>()]
    }

    fn prepare(&self, settings: &Settings, migrate: bool) -> Result<(), Problem> {
        if self.0.max_size() <= OWN_CONNECTIONS {
            return Err(Problem::Setting {
                setting: "builder",
                reason: format!(
                    "the given pool has at most {} connections; the outbox needs {OWN_CONNECTIONS} for itself and at least one for `#[tx]` tasks",
                    self.0.max_size()
                ),
            });
        }
        let unreachable = |error: StoreError| match error.to_string() {
            error if self.kind() == Kind::Postgres && is_prepared_elsewhere(&error) => pooler::refused(NAME),
            error => Problem::Database(format!("{NAME} gives no connection: {error}")),
        };
        let limit = limit(self.kind(), settings);
        let share = Share::of(&self.0, SetUp::of::<C>(settings.busy_wait).shared());
        let (pool, postgres) = (self.0.clone(), self.kind() == Kind::Postgres);
        let waiting = Waiting::begin("the first connection", limit);
        let apart = share.run(waiting, async move |conn| {
            if !postgres {
                return Ok(Ok(()));
            }
            let mut other = pool.get_timeout(waiting.left()).map_err(|error| Error::QueryBuilderError(error.into()))?;
            Ok(pooler::refuse_shared_sessions(NAME, |turn| {
                now(pooler::session(if turn == 0 { &mut *conn } else { &mut *other }))
            }))
        });
        apart.map_err(unreachable)??;
        if migrate {
            let waiting = Waiting::begin("the migrations", limit.saturating_mul(MIGRATIONS_MAY_TAKE));
            let migrated = share.run(waiting, async |conn| Ok(conn.migrate()));
            migrated.map_err(unreachable)?.map_err(migration_failed)?;
        }
        let waiting = Waiting::begin("the check of the table", limit);
        share.run(waiting, async |conn| Ok(migrations::check(conn).await)).map_err(unreachable)?
    }

    fn store(&self, settings: &Settings, gate: Arc<WriteGate>) -> Arc<dyn Store> {
        let limit = limit(self.kind(), settings);
        let connections = Share::of(&self.0, SetUp::of::<C>(settings.busy_wait).shared());
        // Tasks must leave the runtime's own work its connections, also those whose attempt was given up.
        let lendable = self.0.max_size().saturating_sub(OWN_CONNECTIONS) as usize;
        let most = if self.kind() == Kind::Sqlite { 1 } else { settings.transaction_connections.min(lendable) };
        let wait = settings.busy_wait;
        let transactions =
            BlockingTransactions::new(connections.again(), (most, lendable), Arc::clone(&gate), wait, limit);
        Arc::new(DieselStore::new(connections, vec![Box::new(transactions)], gate, limit))
    }
}
