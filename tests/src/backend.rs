//! The databases the tests run on: which they are, where their servers are, and whether one may be missing.

use std::fmt;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// A file of its own per test.
    Sqlite,
    /// A database of its own per test on the server of `CONSISTENCY_TEST_POSTGRES_URL`.
    Postgres,
    /// A database of its own per test on the server of `CONSISTENCY_TEST_MYSQL_URL`.
    Mysql,
}

impl Backend {
    /// Its name in `CONSISTENCY_TEST_REQUIRE`.
    pub fn key(self) -> &'static str {
        match self {
            Backend::Sqlite => "sqlite",
            Backend::Postgres => "postgres",
            Backend::Mysql => "mysql",
        }
    }

    /// The one of this name.
    pub fn of_key(key: &str) -> Option<Backend> {
        [Backend::Sqlite, Backend::Postgres, Backend::Mysql].into_iter().find(|backend| backend.key() == key)
    }

    /// The kind of database at an address for `Outbox::builder`.
    ///
    /// # Panics
    /// When it is none of them.
    pub fn of_url(url: &str) -> Backend {
        match url.split_once("://") {
            Some(("sqlite", _)) => Backend::Sqlite,
            Some(("postgres" | "postgresql", _)) => Backend::Postgres,
            Some(("mysql", _)) => Backend::Mysql,
            _ => panic!("no kind of database has the address `{url}`"),
        }
    }

    /// Where its server is: a database that exists, for a user that may create others. SQLite has none.
    pub fn admin_url(self) -> String {
        let (variable, default) = match self {
            Backend::Sqlite => return String::new(),
            Backend::Postgres => ("CONSISTENCY_TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres"),
            Backend::Mysql => ("CONSISTENCY_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/mysql"),
        };
        std::env::var(variable).unwrap_or_else(|_| default.to_owned())
    }

    /// Whether `CONSISTENCY_TEST_REQUIRE` (a comma list of `sqlite`, `postgres`, `mysql`, or `all`) names it, so that a
    /// server that does not answer fails the tests instead of skipping them.
    pub fn is_required(self) -> bool {
        let required = std::env::var("CONSISTENCY_TEST_REQUIRE").unwrap_or_default();
        required.split(',').map(str::trim).any(|name| name == "all" || name == self.key())
    }

    /// Its own name for a whole number of 64 bits in a result, so that every database sends the same type.
    pub(crate) fn as_bigint(self, expression: &str) -> String {
        match self {
            Backend::Postgres => format!("({expression})::bigint"),
            Backend::Sqlite | Backend::Mysql => expression.to_owned(),
        }
    }

    /// A time column as UTC text, `2026-01-31 23:59:59.123456` (SQLite: milliseconds).
    pub(crate) fn as_time_text(self, column: &str) -> String {
        match self {
            Backend::Postgres => format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"),
            Backend::Mysql => format!("DATE_FORMAT({column}, '%Y-%m-%d %H:%i:%s.%f')"),
            Backend::Sqlite => column.to_owned(),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Sqlite => "SQLite",
            Backend::Postgres => "PostgreSQL",
            Backend::Mysql => "MySQL or MariaDB",
        })
    }
}
