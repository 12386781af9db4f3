//! The statements of each database, by name: the only place that knows which text belongs to which.

/// A database the outbox runs on, and its statements.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    pub(crate) kind: Kind,
    pub(crate) sql: &'static Sql,
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    Sqlite,
    #[cfg_attr(not(any(feature = "postgres", feature = "async-postgres")), allow(dead_code))]
    Postgres,
    #[cfg_attr(not(any(feature = "mysql", feature = "async-mysql")), allow(dead_code))]
    Mysql,
}

impl Kind {
    /// Its name, for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Sqlite => "SQLite",
            Kind::Postgres => "PostgreSQL",
            Kind::Mysql => "MySQL or MariaDB",
        }
    }
}

/// The texts every database has. What one of them alone needs stands beside its steps.
#[derive(Debug)]
pub(crate) struct Sql {
    pub(crate) insert_state: &'static str,
    pub(crate) insert_lease: &'static str,
    pub(crate) insert_due: &'static str,
    pub(crate) existing: &'static str,
    pub(crate) look: &'static str,
    pub(crate) claim: &'static str,
    pub(crate) unheld: &'static str,
    pub(crate) succeed: &'static str,
    pub(crate) settle: &'static str,
    pub(crate) settled_before: &'static str,
    pub(crate) complete: &'static str,
    pub(crate) renew: &'static str,
    pub(crate) held: &'static str,
    pub(crate) expired: &'static str,
    pub(crate) rescue: &'static str,
    pub(crate) unknown_names: &'static str,
    pub(crate) status: &'static str,
    pub(crate) prune: &'static str,
    pub(crate) check: &'static str,
}

macro_rules! dialect {
    ($name:ident, $kind:ident, $folder:literal, $feature:literal, $async_feature:literal) => {
        #[cfg(any(feature = $feature, feature = $async_feature))]
        pub(crate) const $name: Dialect = Dialect {
            kind: Kind::$kind,
            sql: &Sql {
                insert_state: include_str!(concat!("../sql/", $folder, "/insert_state.sql")),
                insert_lease: include_str!(concat!("../sql/", $folder, "/insert_lease.sql")),
                insert_due: include_str!(concat!("../sql/", $folder, "/insert_due.sql")),
                existing: include_str!(concat!("../sql/", $folder, "/existing.sql")),
                look: include_str!(concat!("../sql/", $folder, "/look.sql")),
                claim: include_str!(concat!("../sql/", $folder, "/claim.sql")),
                unheld: include_str!(concat!("../sql/", $folder, "/unheld.sql")),
                succeed: include_str!(concat!("../sql/", $folder, "/succeed.sql")),
                settle: include_str!(concat!("../sql/", $folder, "/settle.sql")),
                settled_before: include_str!(concat!("../sql/", $folder, "/settled_before.sql")),
                complete: include_str!(concat!("../sql/", $folder, "/complete.sql")),
                renew: include_str!(concat!("../sql/", $folder, "/renew.sql")),
                held: include_str!(concat!("../sql/", $folder, "/held.sql")),
                expired: include_str!(concat!("../sql/", $folder, "/expired.sql")),
                rescue: include_str!(concat!("../sql/", $folder, "/rescue.sql")),
                unknown_names: include_str!(concat!("../sql/", $folder, "/unknown_names.sql")),
                status: include_str!(concat!("../sql/", $folder, "/status.sql")),
                prune: include_str!(concat!("../sql/", $folder, "/prune.sql")),
                check: include_str!(concat!("../sql/", $folder, "/check.sql")),
            },
        };
    };
}

dialect!(SQLITE, Sqlite, "sqlite", "sqlite", "async-sqlite");
dialect!(POSTGRES, Postgres, "postgres", "postgres", "async-postgres");
dialect!(MYSQL, Mysql, "mysql", "mysql", "async-mysql");

pub(crate) const POSTGRES_LOCK_ORDER_KEY: &str = include_str!("../sql/postgres/lock_order_key.sql");
pub(crate) const MYSQL_LOCK_ORDER_KEY: &str = include_str!("../sql/mysql/lock_order_key.sql");
pub(crate) const MYSQL_INSERTED: &str = include_str!("../sql/mysql/inserted.sql");
pub(crate) const SQLITE_INSERT_ROWS: &str = include_str!("../sql/sqlite/insert_rows.sql");
pub(crate) const SQLITE_CLAIMABLE: &str = include_str!("../sql/sqlite/claimable.sql");
pub(crate) const MYSQL_CLAIMABLE: &str = include_str!("../sql/mysql/claimable.sql");
pub(crate) const MYSQL_CLAIMABLE_SERIAL: &str = include_str!("../sql/mysql/claimable_serial.sql");
pub(crate) const MYSQL_DOUBLED: &str = include_str!("../sql/mysql/doubled.sql");
pub(crate) const MYSQL_RENEWABLE: &str = include_str!("../sql/mysql/renewable.sql");
pub(crate) const MYSQL_PRUNABLE: &str = include_str!("../sql/mysql/prunable.sql");
