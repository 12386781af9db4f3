//! Where the outbox's table is: a URL or a second pool, told apart once and hidden behind one trait afterwards.

use consistency_core::error::Problem;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use diesel::r2d2::{ConnectionManager, Pool};

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use crate::given_pool::GivenPool;
use crate::open::{Open, without_password};

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
                Source(Ok(Box::new(GivenPool(pool))))
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
    return Ok(Box::new(crate::database::Url::<crate::database::Sqlite>::new(file)));
    #[cfg(not(feature = "sqlite"))]
    not_built_in("SQLite", "sqlite")
}

fn postgres(url: &str) -> Result<Box<dyn Open>, Problem> {
    #[cfg(any(feature = "postgres", feature = "async-postgres"))]
    return Ok(Box::new(crate::database::Url::<crate::database::Postgres>::new(url)));
    #[cfg(not(any(feature = "postgres", feature = "async-postgres")))]
    not_built_in(url, "postgres` or `async-postgres")
}

fn mysql(url: &str) -> Result<Box<dyn Open>, Problem> {
    #[cfg(any(feature = "mysql", feature = "async-mysql"))]
    return Ok(Box::new(crate::database::Url::<crate::database::Mysql>::new(url)));
    #[cfg(not(any(feature = "mysql", feature = "async-mysql")))]
    not_built_in(url, "mysql` or `async-mysql")
}

#[cfg(not(all(
    feature = "sqlite",
    any(feature = "postgres", feature = "async-postgres"),
    any(feature = "mysql", feature = "async-mysql")
)))]
fn not_built_in(url: &str, feature: &str) -> Result<Box<dyn Open>, Problem> {
    Err(Problem::Database(format!(
        "this build has no driver for `{}`; add the feature `{feature}` to `consistency-diesel`",
        without_password(url)
    )))
}
