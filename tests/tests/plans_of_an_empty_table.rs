//! What PostgreSQL planned while the table was empty is still good when it has filled: it keeps a plan with its statement until
//! statistics are taken, which may be minutes later, or never where nobody takes them.
#![cfg(feature = "postgres")]

use consistency_core::state::State;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_diesel::source::Source;
use consistency_tests::backend::Backend;
use consistency_tests::bulk::Bulk;
use consistency_tests::database::{Database, on_fresh};
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::scene::store;
use diesel::PgConnection;
use diesel::r2d2::{ConnectionManager, Pool};

#[consistency_task]
fn work() {}

/// More than enough for every statement to be planned once and for all, on each of the runtime's connections.
const BEFORE: usize = 40;
/// Each of these reads the table from its beginning to its end, should one statement of its way do so.
const AFTER: usize = 10;
/// Rows that are due much later: so many that no plan made for them begins at the first one.
const OTHERS: usize = 100_000;

/// Runs tasks in an outbox on `source`, one by one, some before the table has filled and some after.
fn assert_tables_are_not_read_whole(database: &Database, source: impl Into<Source>) {
    database.migrate();
    database.execute("ALTER TABLE consistency_task SET (autovacuum_enabled = off)");
    let recorder = Recorder::new();
    let producer = database.outbox().enqueue_only().start_blocking().unwrap();
    let worker = Outbox::builder(source).poll_interval(std::time::Duration::from_millis(5));
    let worker = worker.listener(recorder.listener()).start_blocking().unwrap();
    let run = |tasks: usize| {
        for _ in 0..tasks {
            let task_id = store::<PgConnection>(database, &producer, work());
            recorder.wait_for_settled(&task_id, State::Succeeded);
        }
    };
    run(BEFORE);
    Bulk { seconds: 90 * 86_400, ..Bulk::due("later", work::NAME, OTHERS) }.load(database);
    run(AFTER);
    worker.shutdown_blocking();
    producer.shutdown_blocking();
    drop((worker, producer));
    // A process of the server tells what it has read when it ends, at the latest.
    let others = "datname = current_database() AND pid <> pg_backend_pid()";
    wait_until("the runtime's connections to end", || database.count("pg_stat_activity", others) == 0);
    let read = database.number("seq_tup_read FROM pg_stat_user_tables WHERE relname = 'consistency_task'");
    assert!(read < OTHERS as i64, "{read} rows were read by scans of the whole table");
}

#[test]
fn connections_of_its_own_keep_reading_by_the_indexes() {
    on_fresh(Backend::Postgres, "own_connections", |database| {
        assert_tables_are_not_read_whole(database, database.url());
    });
}

#[test]
fn connections_of_a_given_pool_keep_reading_by_the_indexes() {
    on_fresh(Backend::Postgres, "given_pool", |database| {
        let manager = ConnectionManager::<PgConnection>::new(database.address());
        let pool = Pool::builder().max_size(6).build(manager).unwrap();
        assert_tables_are_not_read_whole(database, pool);
    });
}
