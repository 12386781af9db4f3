//! The tasks and the producers of a load, for each connection of a server: what `consistency_tests::faults::load` lets loose.

/// What both worlds say of their tasks.
macro_rules! blocking_load {
    ($module:ident, $feature:literal, $connection:ty, $backend:ident) => {
        #[cfg(feature = $feature)]
        pub mod $module {
            use std::sync::Arc;

            use consistency_diesel::prelude::*;
            use consistency_tests::backend::Backend;
            use consistency_tests::faults::outage_load::{Load, Producer, is_exact, is_keyed};
            use diesel::connection::{Connection, SimpleConnection};
            use diesel::{ConnectionResult, QueryResult};

            pub const BACKEND: Backend = Backend::$backend;

            #[consistency_task(retry_every = "50ms")]
            fn plain(number: i64, #[inject] load: &Arc<Load>, #[context] cx: &TaskContext) {
                if let Some(door) = load.began(number, cx) {
                    door.pass();
                }
            }

            #[consistency_task(retry_every = "50ms")]
            fn exact(
                number: i64,
                #[inject] load: &Arc<Load>,
                #[context] cx: &TaskContext,
                #[tx] tx: &mut TaskTx<$connection>,
            ) -> QueryResult<()> {
                assert!(load.began(number, cx).is_none(), "held with a transaction open");
                tx.batch_execute(&format!("INSERT INTO done (number) VALUES ({number})"))
            }

            /// Commits on one of Diesel's connections.
            pub struct Own($connection);

            impl Producer for Own {
                const TASKS: [&str; 2] = [plain::NAME, exact::NAME];

                fn connect(address: &str) -> ConnectionResult<Self> {
                    let mut connection = <$connection>::establish(address)?;
                    if BACKEND == Backend::Sqlite {
                        connection.batch_execute("PRAGMA busy_timeout = 20000").expect("a set up connection");
                    }
                    Ok(Self(connection))
                }

                fn commit(&mut self, outbox: &Outbox, number: i64) -> QueryResult<()> {
                    outbox.transaction(&mut self.0, |tx| {
                        tx.batch_execute(&format!("INSERT INTO orders (number) VALUES ({number})"))?;
                        let call = if is_exact(number) { exact(number) } else { plain(number) };
                        let call = if is_keyed(number) { call.key(format!("key-{number}")) } else { call };
                        tx.enqueue(call).map(drop)
                    })
                }

                fn store(&mut self, outbox: &Outbox, call: Call) -> QueryResult<()> {
                    outbox.transaction(&mut self.0, |tx| tx.enqueue(call).map(drop))
                }
            }
        }
    };
}

macro_rules! async_load {
    ($module:ident, $feature:literal, $connection:ty, $backend:ident) => {
        #[cfg(feature = $feature)]
        pub mod $module {
            use std::sync::Arc;

            use consistency_diesel::async_prelude::*;
            use consistency_tests::backend::Backend;
            use consistency_tests::faults::outage_load::{Load, Producer, is_exact, is_keyed};
            use diesel::ConnectionResult;
            use diesel::result::{ConnectionError, QueryResult};
            use diesel_async::{AsyncConnection, SimpleAsyncConnection};
            use tokio::runtime::{Builder, Runtime};

            pub const BACKEND: Backend = Backend::$backend;

            #[consistency_task(retry_every = "50ms")]
            async fn plain(number: i64, #[inject] load: &Arc<Load>, #[context] cx: &TaskContext) {
                if let Some(door) = load.began(number, cx) {
                    tokio::task::spawn_blocking(move || door.pass()).await.expect("the door opens");
                }
            }

            #[consistency_task(retry_every = "50ms")]
            async fn exact(
                number: i64,
                #[inject] load: &Arc<Load>,
                #[context] cx: &TaskContext,
                #[tx] tx: &mut TaskTx<'_, $connection>,
            ) -> QueryResult<()> {
                assert!(load.began(number, cx).is_none(), "held with a transaction open");
                tx.batch_execute(&format!("INSERT INTO done (number) VALUES ({number})")).await
            }

            /// Commits on one of diesel-async's connections, which lives on a Tokio runtime of its own.
            pub struct Own {
                connection: $connection,
                runtime: Runtime,
            }

            impl Producer for Own {
                const TASKS: [&str; 2] = [plain::NAME, exact::NAME];

                fn connect(address: &str) -> ConnectionResult<Self> {
                    let runtime = Builder::new_current_thread().enable_all().build();
                    let runtime = runtime.map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
                    let mut connection = runtime.block_on(<$connection>::establish(address))?;
                    if BACKEND == Backend::Sqlite {
                        let patience = connection.batch_execute("PRAGMA busy_timeout = 20000");
                        runtime.block_on(patience).expect("a set up connection");
                    }
                    Ok(Self { connection, runtime })
                }

                fn commit(&mut self, outbox: &Outbox, number: i64) -> QueryResult<()> {
                    let Self { connection, runtime } = self;
                    runtime.block_on(outbox.transaction(connection, async |tx| {
                        tx.batch_execute(&format!("INSERT INTO orders (number) VALUES ({number})")).await?;
                        let call = if is_exact(number) { exact(number) } else { plain(number) };
                        let call = if is_keyed(number) { call.key(format!("key-{number}")) } else { call };
                        tx.enqueue(call).await.map(drop)
                    }))
                }

                fn store(&mut self, outbox: &Outbox, call: Call) -> QueryResult<()> {
                    let Self { connection, runtime } = self;
                    runtime.block_on(outbox.transaction(connection, async |tx| tx.enqueue(call).await.map(drop)))
                }
            }
        }
    };
}

blocking_load!(sqlite, "sqlite", diesel::SqliteConnection, Sqlite);
blocking_load!(postgres, "postgres", diesel::PgConnection, Postgres);
blocking_load!(mysql, "mysql", diesel::MysqlConnection, Mysql);
async_load!(
    async_sqlite,
    "async-sqlite",
    diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>,
    Sqlite
);
async_load!(async_postgres, "async-postgres", diesel_async::AsyncPgConnection, Postgres);
async_load!(async_mysql, "async-mysql", diesel_async::AsyncMysqlConnection, Mysql);

/// Stamps `fn test<P: Producer>(backend, test)` once per server and world, or for SQLite, in modules of these names.
macro_rules! for_each_load {
    (sqlite: $($(#[$meta:meta])* $name:ident;)*) => {
        for_each_load!(@ sqlite, "sqlite", [$($(#[$meta])* $name;)*]);
        for_each_load!(@ async_sqlite, "async-sqlite", [$($(#[$meta])* $name;)*]);
    };
    ($($(#[$meta:meta])* $name:ident;)*) => {
        for_each_load!(@ postgres, "postgres", [$($(#[$meta])* $name;)*]);
        for_each_load!(@ mysql, "mysql", [$($(#[$meta])* $name;)*]);
        for_each_load!(@ async_postgres, "async-postgres", [$($(#[$meta])* $name;)*]);
        for_each_load!(@ async_mysql, "async-mysql", [$($(#[$meta])* $name;)*]);
    };
    (@ $module:ident, $feature:literal, [$($(#[$meta:meta])* $name:ident;)*]) => {
        #[cfg(feature = $feature)]
        mod $module {
            $(
                $(#[$meta])*
                #[test]
                fn $name() {
                    let test = concat!(module_path!(), "::", stringify!($name));
                    super::$name::<crate::load::$module::Own>(crate::load::$module::BACKEND, test);
                }
            )*
        }
    };
}
