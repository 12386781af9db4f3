//! Every store keeps the same contract: SQLite, PostgreSQL, MySQL or MariaDB, and the one in memory.

use consistency_tests::database::Database;
use consistency_tests::store_under_test::DatabaseStore;
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
    };
}

store_contract!(on_every_store);
