//! Every store keeps the same contract: SQLite, PostgreSQL, MySQL or MariaDB, each through Diesel and through diesel-async, and
//! the one in memory.

use consistency_tests::database::Database;
use consistency_tests::store_under_test::DatabaseStore;
#[cfg(feature = "async")]
use consistency_tests::{async_stage::on_a_plain_thread, for_each_async_database};
use consistency_tests::{contract, for_each_database, store_contract};

macro_rules! on_every_store {
    ($($group:ident::$promise:ident,)*) => {
        mod memory {
            use super::contract;
            use consistency_tests::memory_store::MemoryStore;

            $(
                #[test]
                fn $promise() {
                    contract::$group::$promise(&MemoryStore::new());
                }
            )*
        }

        for_each_database! {
            $(
                fn $promise(database: &Database) {
                    contract::$group::$promise(&DatabaseStore::open::<Conn>(database));
                }
            )*
        }

        #[cfg(feature = "async")]
        for_each_async_database! {
            $(
                // A store is called by the outbox's own threads, which wait for it.
                async fn $promise(database: &Database) {
                    on_a_plain_thread(|| contract::$group::$promise(&DatabaseStore::open_async::<Conn>(database)));
                }
            )*
        }
    };
}

store_contract!(on_every_store);
