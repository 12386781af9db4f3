//! A claim whose transaction is still open holds up nobody else's claim, renewal, settlement, rescue or prune, on the databases that have more than
//! one writer.

use std::time::{Duration, Instant};

use consistency_core::store::Settled;
use consistency_diesel::store_access::claim_on;
use consistency_tests::backend::Backend;
use consistency_tests::contract::steps::{BUDGET, Claim, LONG, SHORT, claim, handles, insert, rows, settle, success};
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::store_under_test::{DatabaseStore, StoreUnderTest};
use diesel::Connection;
use diesel::connection::SimpleConnection;

for_each_database! {
    fn everybody_else_goes_on_with_the_other_rows(database: &Database) {
        if BACKEND == Backend::Sqlite {
            // One writer at a time: a claim is one statement there, and there is none in progress to look at.
            return;
        }
        let store = DatabaseStore::open::<Conn>(database);
        insert(&store, &rows("row", 4));
        let mut holder = database.connection::<Conn>();
        if BACKEND == Backend::Mysql {
            // As the store's own connections: at REPEATABLE READ gaps would be locked as well.
            holder.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").unwrap();
        }
        let held = holder
            .transaction(|holder| {
                let held = claim_on(holder, &Claim { limit: 2, ..Claim::default() }.request())?;
                assert_eq!(handles(&held), ["row-0", "row-1"]);
                let begun = Instant::now();
                let others = claim(&store, 2);
                assert_eq!(handles(&others), ["row-2", "row-3"]);
                assert_eq!(store.store().renew(&[others[0].lease, others[1].lease], LONG).unwrap().len(), 2);
                assert_eq!(settle(&store, success(&others[0])), Settled::Written);
                assert_eq!(store.store().rescue(BUDGET, 10).unwrap(), []);
                store.let_time_pass(10 * SHORT);
                assert_eq!(store.store().prune(Duration::ZERO, 10).unwrap(), 1);
                assert!(begun.elapsed() < Duration::from_secs(2), "somebody waited {:?}", begun.elapsed());
                insert(&store, &rows("later", 1));
                assert_eq!(handles(&claim(&store, 10)), ["later-0"]);
                diesel::QueryResult::Ok(held)
            })
            .unwrap();
        assert_eq!(held.len(), 2);
        assert_eq!(claim(&store, 10), []);
    }

    fn a_row_somebody_has_locked_keeps_no_neighbour_from_being_renewed(database: &Database) {
        if BACKEND == Backend::Sqlite {
            return;
        }
        let store = DatabaseStore::open::<Conn>(database);
        insert(&store, &rows("row", 3));
        let held = claim(&store, 3);
        let leases: Vec<_> = held.iter().map(|task| task.lease).collect();
        let mut operator = database.connection::<Conn>();
        operator
            .transaction(|operator| {
                operator.batch_execute(&format!("UPDATE consistency_task SET biz_id = 'x' WHERE id = {}", leases[1].id))?;
                let begun = Instant::now();
                let mut renewed = store.store().renew(&leases, LONG).unwrap();
                renewed.sort_by_key(|row| row.id);
                assert!(begun.elapsed() < Duration::from_secs(2), "waited {:?}", begun.elapsed());
                // The locked one is still ours, but not extended; nobody can take it back while it is locked.
                assert_eq!(renewed.iter().map(|row| row.extended).collect::<Vec<_>>(), [true, false, true]);
                diesel::QueryResult::Ok(())
            })
            .unwrap();
        assert!(store.store().renew(&leases, LONG).unwrap().iter().all(|row| row.extended));
    }
}
