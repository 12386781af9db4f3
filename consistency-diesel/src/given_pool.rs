//! A second r2d2 pool of the application's, as the source of the runtime's connections.

use std::sync::Arc;

use consistency_core::error::Problem;
use consistency_core::settings::Settings;
use consistency_core::store::Store;
use consistency_core::task::NeededType;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::QueryResult;

use crate::blocking_connection::BlockingConnection;
use crate::database::migration_failed;
use crate::dialect::Kind;
use crate::migrations;
use crate::open::Open;
use crate::own_transactions::BlockingTransactions;
use crate::pool::{Connections, OWN_CONNECTIONS};
use crate::set_up::SetUp;
use crate::store::DieselStore;
use crate::world::now;
use crate::write_gate::WriteGate;

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
        let unreachable = |error| Problem::Database(format!("the given pool gives no connection: {error}"));
        let mut conn = self.0.get().map_err(unreachable)?;
        now(SetUp::of::<C>(settings.busy_wait).apply(&mut *conn))
            .map_err(|error| Problem::Database(error.to_string()))?;
        if migrate {
            conn.migrate().map_err(migration_failed)?;
        }
        now(migrations::check(&mut *conn))
    }

    fn store(&self, settings: &Settings, gate: Arc<WriteGate>) -> Arc<dyn Store> {
        let connections = || Connections::given(self.0.clone(), settings.busy_wait);
        let most = match self.kind() {
            Kind::Sqlite => 1,
            // Tasks must leave the runtime's own work its connections.
            _ => settings.transaction_connections.min((self.0.max_size().saturating_sub(OWN_CONNECTIONS)) as usize),
        };
        let transactions = BlockingTransactions::new(connections(), most, Arc::clone(&gate), settings.busy_wait);
        Arc::new(DieselStore::new(connections(), vec![Box::new(transactions)], gate))
    }
}
