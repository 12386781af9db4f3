//! The macros that stamp the same tests once per database: one for each of the two worlds of connections.

/// Stamps every test once per database, in the modules `sqlite`, `postgres` and `mysql`, each behind its feature.
///
/// Each stamp has `Conn`, the connection type, and `BACKEND`. Items that need them, such as tasks with `#[tx]`, stand in an
/// `items { .. }` block before the tests and are stamped too; their task names differ by module.
///
/// ```ignore
/// for_each_database! {
///     items {
///         #[consistency_task]
///         fn ship(order: i64, #[tx] tx: &mut TaskTx<Conn>) { .. }
///     }
///
///     fn a_committed_call_runs(database: &Database) { .. }
/// }
/// ```
#[macro_export]
macro_rules! for_each_database {
    (items { $($item:tt)* } $($tests:tt)*) => {
        $crate::__stamp!(sqlite, "sqlite", diesel::SqliteConnection, Sqlite, [$($item)*] [$($tests)*]);
        $crate::__stamp!(postgres, "postgres", diesel::PgConnection, Postgres, [$($item)*] [$($tests)*]);
        $crate::__stamp!(mysql, "mysql", diesel::MysqlConnection, Mysql, [$($item)*] [$($tests)*]);
    };
    ($($tests:tt)*) => { $crate::for_each_database!(items {} $($tests)*); };
}

/// One stamp of [`for_each_database`].
#[doc(hidden)]
#[macro_export]
macro_rules! __stamp {
    (
        $module:ident, $feature:literal, $connection:ty, $backend:ident, [$($item:tt)*]
        [$($(#[$meta:meta])* fn $name:ident($database:ident: $type:ty) $body:block)*]
    ) => {
        #[cfg(feature = $feature)]
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            /// The connection type of this database.
            #[allow(dead_code)]
            type Conn = $connection;
            /// This database.
            #[allow(dead_code)]
            const BACKEND: $crate::backend::Backend = $crate::backend::Backend::$backend;

            $($item)*

            $(
                $(#[$meta])*
                #[test]
                fn $name() {
                    let test = concat!(module_path!(), "::", stringify!($name));
                    $crate::database::on_fresh(BACKEND, test, |$database: $type| $body);
                }
            )*
        }
    };
}

/// As [`for_each_database`], for tests that are an `async fn` and use diesel-async: in the modules `async_sqlite`,
/// `async_postgres` and `async_mysql`, each behind the feature `async-sqlite` and so on. `Conn` is the asynchronous connection.
///
/// Each test runs on a Tokio runtime of its own with two workers, and its future must be `Send`.
#[macro_export]
macro_rules! for_each_async_database {
    (items { $($item:tt)* } $($tests:tt)*) => {
        $crate::__stamp_async!(
            async_sqlite, "async-sqlite", diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>,
            Sqlite, [$($item)*] [$($tests)*]
        );
        $crate::__stamp_async!(
            async_postgres, "async-postgres", diesel_async::AsyncPgConnection, Postgres, [$($item)*] [$($tests)*]
        );
        $crate::__stamp_async!(
            async_mysql, "async-mysql", diesel_async::AsyncMysqlConnection, Mysql, [$($item)*] [$($tests)*]
        );
    };
    ($($tests:tt)*) => { $crate::for_each_async_database!(items {} $($tests)*); };
}

/// One stamp of [`for_each_async_database`].
#[doc(hidden)]
#[macro_export]
macro_rules! __stamp_async {
    (
        $module:ident, $feature:literal, $connection:ty, $backend:ident, [$($item:tt)*]
        [$($(#[$meta:meta])* async fn $name:ident($database:ident: $type:ty) $body:block)*]
    ) => {
        #[cfg(feature = $feature)]
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            /// The connection type of this database.
            #[allow(dead_code)]
            type Conn = $connection;
            /// This database.
            #[allow(dead_code)]
            const BACKEND: $crate::backend::Backend = $crate::backend::Backend::$backend;

            $($item)*

            $(
                $(#[$meta])*
                #[test]
                fn $name() {
                    let test = concat!(module_path!(), "::", stringify!($name));
                    $crate::database::on_fresh(BACKEND, test, |$database: $type| {
                        $crate::async_stage::drive(async move { $body })
                    });
                }
            )*
        }
    };
}

/// Stamps every test once per database and world, in the modules `sqlite`, `async_sqlite` and so on, each behind its feature. Each
/// is told both, and makes its databases itself; without a server it is skipped aloud, as with [`for_each_database`].
///
/// ```ignore
/// for_each_world! {
///     fn a_killed_process_loses_nothing(backend: Backend, world: World) { .. }
/// }
/// ```
#[macro_export]
macro_rules! for_each_world {
    ($($tests:tt)*) => {
        $crate::__stamp_world!(sqlite, "sqlite", Sqlite, Sync, [$($tests)*]);
        $crate::__stamp_world!(postgres, "postgres", Postgres, Sync, [$($tests)*]);
        $crate::__stamp_world!(mysql, "mysql", Mysql, Sync, [$($tests)*]);
        $crate::__stamp_world!(async_sqlite, "async-sqlite", Sqlite, Async, [$($tests)*]);
        $crate::__stamp_world!(async_postgres, "async-postgres", Postgres, Async, [$($tests)*]);
        $crate::__stamp_world!(async_mysql, "async-mysql", Mysql, Async, [$($tests)*]);
    };
}

/// One stamp of [`for_each_world`].
#[doc(hidden)]
#[macro_export]
macro_rules! __stamp_world {
    (
        $module:ident, $feature:literal, $backend:ident, $world:ident,
        [$($(#[$meta:meta])* fn $name:ident($given:ident: $type:ty, $in_world:ident: $world_type:ty) $body:block)*]
    ) => {
        #[cfg(feature = $feature)]
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            $(
                $(#[$meta])*
                #[test]
                fn $name() {
                    let test = concat!(module_path!(), "::", stringify!($name));
                    let $given: $type = $crate::backend::Backend::$backend;
                    let $in_world: $world_type = $crate::faults::setup::World::$world;
                    // Whether the server answers.
                    $crate::database::on_fresh($given, test, |_| $body);
                }
            )*
        }
    };
}
