//! Where the outbox's table is: a URL or a second pool, told apart once and hidden behind one trait afterwards.

use std::sync::Arc;

use consistency_core::error::Problem;
use consistency_core::settings::Settings;
use consistency_core::store::Store;
use consistency_core::task::NeededType;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};

use crate::connection::TaskConnection;
use crate::dialect::Kind;
use crate::migrations;
use crate::pool::{Connections, OWN_CONNECTIONS, SetUp};
use crate::store::DieselStore;
use crate::write_gate::WriteGate;

/// The database of an outbox. Made from a URL (`sqlite://FILE`, `postgres://..`, `mysql://..`) or an r2d2 pool.
pub struct Source(Result<Box<dyn Open>, Problem>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Ok(open) => write!(f, "Source({})", open.kind().name()),
            Err(problem) => write!(f, "Source({problem})"),
        }
    }
}

impl Source {
    /// The problem with the address, or what opens it.
    pub(crate) fn resolve(&self) -> Result<&dyn Open, Problem> {
        self.0.as_deref().map_err(Clone::clone)
    }
}

/// Opens the database, whichever it is.
pub(crate) trait Open: Send + Sync {
    /// Which database.
    fn kind(&self) -> Kind;
    /// The connection type of its `#[tx]` tasks.
    fn connection(&self) -> NeededType;
    /// Connects once, migrates if asked to, and checks the table.
    fn prepare(&self, settings: &Settings, migrate: bool) -> Result<(), Problem>;
    /// The store. No connection is opened yet.
    fn store(&self, settings: &Settings, gate: Arc<WriteGate>) -> Arc<dyn Store>;
}

/// A connection type with its migrations.
trait Migratable: TaskConnection + MigrationHarness<<Self as diesel::Connection>::Backend> {
    fn migrations() -> EmbeddedMigrations;
}

#[cfg(feature = "sqlite")]
impl Migratable for diesel::SqliteConnection {
    fn migrations() -> EmbeddedMigrations {
        migrations::SQLITE
    }
}

#[cfg(feature = "postgres")]
impl Migratable for diesel::PgConnection {
    fn migrations() -> EmbeddedMigrations {
        migrations::POSTGRES
    }
}

#[cfg(feature = "mysql")]
impl Migratable for diesel::MysqlConnection {
    fn migrations() -> EmbeddedMigrations {
        migrations::MYSQL
    }
}

enum Address<C: TaskConnection> {
    Url(String),
    Pool(Pool<ConnectionManager<C>>),
}

impl<C: Migratable> Open for Address<C> {
    fn kind(&self) -> Kind {
        C::DIALECT.kind
    }

    fn connection(&self) -> NeededType {
        NeededType::of::<C>()
    }

    fn prepare(&self, settings: &Settings, migrate: bool) -> Result<(), Problem> {
        let set_up = SetUp::new(C::DIALECT.kind, settings.busy_wait);
        let prepare = |conn: &mut C| {
            set_up.apply(conn).map_err(|error| Problem::Database(error.to_string()))?;
            if migrate {
                migrations::run(conn, C::migrations()).map_err(Problem::Table)?;
            }
            migrations::check(conn)
        };
        if let Address::Pool(pool) = self
            && pool.max_size() <= OWN_CONNECTIONS
        {
            return Err(Problem::Setting {
                setting: "builder",
                reason: format!(
                    "the given pool has at most {} connections; the outbox needs {OWN_CONNECTIONS} for itself and at least one for `#[tx]` tasks",
                    pool.max_size()
                ),
            });
        }
        match self {
            Address::Url(url) => {
                let mut conn = C::establish(url).map_err(|error| {
                    let reason = error.to_string();
                    Problem::Database(format!("cannot connect to {}: {}", without_password(url), reason.trim()))
                })?;
                prepare(&mut conn)
            }
            Address::Pool(pool) => {
                let mut conn = pool
                    .get()
                    .map_err(|error| Problem::Database(format!("the given pool gives no connection: {error}")))?;
                prepare(&mut conn)
            }
        }
    }

    fn store(&self, settings: &Settings, gate: Arc<WriteGate>) -> Arc<dyn Store> {
        // SQLite has one writer: a second transaction would only wait for the first one's lock.
        let transactions = if self.kind() == Kind::Sqlite { 1 } else { settings.transaction_connections };
        let transactions = match self {
            Address::Url(_) => transactions,
            // Tasks must leave the runtime's own work its connections.
            Address::Pool(pool) => transactions.min((pool.max_size().saturating_sub(OWN_CONNECTIONS)) as usize),
        };
        let connections = match self {
            Address::Url(url) => Connections::<C>::open(url, transactions, settings.busy_wait),
            Address::Pool(pool) => Connections::given(pool.clone(), settings.busy_wait),
        };
        Arc::new(DieselStore::new(connections, transactions, settings.busy_wait, gate))
    }
}

impl From<&str> for Source {
    fn from(url: &str) -> Self {
        Source(from_url(url))
    }
}

impl From<String> for Source {
    fn from(url: String) -> Self {
        Source(from_url(&url))
    }
}

impl From<&String> for Source {
    fn from(url: &String) -> Self {
        Source(from_url(url))
    }
}

macro_rules! from_pool {
    ($connection:ty, $feature:literal) => {
        #[cfg(feature = $feature)]
        impl From<Pool<ConnectionManager<$connection>>> for Source {
            fn from(pool: Pool<ConnectionManager<$connection>>) -> Self {
                Source(Ok(Box::new(Address::<$connection>::Pool(pool))))
            }
        }
    };
}

from_pool!(diesel::SqliteConnection, "sqlite");
from_pool!(diesel::PgConnection, "postgres");
from_pool!(diesel::MysqlConnection, "mysql");

fn from_url(url: &str) -> Result<Box<dyn Open>, Problem> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    match scheme {
        "sqlite" => sqlite(rest.strip_prefix("//").unwrap_or(rest)),
        "postgres" | "postgresql" => postgres(url),
        "mysql" | "mariadb" => mysql(&format!("mysql:{rest}")),
        _ => Err(Problem::Database(format!(
            "the address `{}` is not understood; write `sqlite://FILE`, `postgres://user@host/name` or `mysql://user@host/name`",
            without_password(url)
        ))),
    }
}

fn sqlite(file: &str) -> Result<Box<dyn Open>, Problem> {
    if file.is_empty() {
        return Err(Problem::Database("`sqlite://` needs a file: write `sqlite://shop.db`".to_owned()));
    }
    if file.contains(":memory:") || file.contains("mode=memory") {
        return Err(Problem::Database(
            "SQLite `:memory:` is refused: every connection would see a database of its own, and nothing survives the process; name a file"
                .to_owned(),
        ));
    }
    #[cfg(feature = "sqlite")]
    return Ok(Box::new(Address::<diesel::SqliteConnection>::Url(file.to_owned())));
    #[cfg(not(feature = "sqlite"))]
    not_built_in("SQLite", "sqlite")
}

fn postgres(url: &str) -> Result<Box<dyn Open>, Problem> {
    #[cfg(feature = "postgres")]
    return Ok(Box::new(Address::<diesel::PgConnection>::Url(url.to_owned())));
    #[cfg(not(feature = "postgres"))]
    not_built_in(url, "postgres")
}

fn mysql(url: &str) -> Result<Box<dyn Open>, Problem> {
    #[cfg(feature = "mysql")]
    return Ok(Box::new(Address::<diesel::MysqlConnection>::Url(url.to_owned())));
    #[cfg(not(feature = "mysql"))]
    not_built_in(url, "mysql")
}

#[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mysql")))]
fn not_built_in(url: &str, feature: &str) -> Result<Box<dyn Open>, Problem> {
    Err(Problem::Database(format!(
        "this build has no driver for `{}`; add the feature `{feature}` to `consistency-diesel`",
        without_password(url)
    )))
}

/// The address as it may stand in a message.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(name, _)| name);
            format!("{scheme}://{user}@{host}")
        }
        None => url.to_owned(),
    }
}
