//! Several operating-system processes on one table: each task once, and nothing lost when one of them is killed.

#[path = "../src/bin/worker/tasks.rs"]
mod worker_tasks;

use consistency_core::state::State;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::effects::Effects;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{RaisedAtEnd, wait_until};
use consistency_tests::scene::{end_leases, store, store_all};
use consistency_tests::worker_process::WorkerProcess;
use worker_tasks::{abort_process, record, stay};

const WORKER: &str = env!("CARGO_BIN_EXE_worker");

/// Asks every worker to stop, and checks that it met no trouble at all.
fn stop_all_untroubled(workers: Vec<WorkerProcess>) {
    for worker in workers {
        let trouble: Vec<String> = worker.lines().into_iter().filter(|line| line.starts_with("trouble")).collect();
        assert_eq!(trouble, [""; 0]);
        let (status, errors) = worker.stop();
        assert!(status.success(), "{status}: {errors}");
        assert_eq!(errors, "");
    }
}

/// Checks that tasks 0 to `tasks` ran exactly once each, at the first attempt, and that the table says so too.
fn assert_each_ran_once(database: &Database, tasks: i64) {
    assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1 AND lost_times = 0"), tasks);
    assert_eq!(database.count("consistency_task", "error_message IS NOT NULL OR lease_owner IS NOT NULL"), 0);
    assert_eq!(database.number("COUNT(*) FROM consistency_task"), tasks);
    assert_eq!(database.number("COUNT(DISTINCT task) FROM effects"), tasks);
    assert_eq!(database.number("COUNT(*) FROM effects"), tasks);
    assert_eq!(database.count("effects", &format!("attempt <> 1 OR task < 0 OR task >= {tasks}")), 0);
}

/// Waits for the last task; long runs may take several deadlines as long as they get on.
fn wait_for_all(database: &Database, tasks: i64) {
    loop {
        let done = database.count("consistency_task", "state = 2");
        if done == tasks {
            return;
        }
        wait_until("one more task to succeed", || database.count("consistency_task", "state = 2") > done);
    }
}

for_each_database! {
    fn several_processes_run_each_of_ten_thousand_tasks_exactly_once(database: &Database) {
        // SQLite has one writer: its share is smaller, and the same in kind.
        let tasks: i64 = if BACKEND == Backend::Sqlite { 2_000 } else { 10_000 };
        database.migrate();
        Effects::create_table(database);
        let outbox = database.outbox().enqueue_only().start_blocking().unwrap();
        let (early, late) = (0..tasks / 2, tasks / 2..tasks);
        store_all::<Conn>(database, &outbox, early.map(record));
        let workers: Vec<_> = (0..4).map(|_| WorkerProcess::start(WORKER, database, &["slots=4", "batch=50"])).collect();
        for worker in &workers {
            worker.wait_for_line("started");
        }
        // The rest comes while they run.
        for part in late.collect::<Vec<_>>().chunks(500) {
            store_all::<Conn>(database, &outbox, part.iter().copied().map(record));
        }
        wait_for_all(database, tasks);
        stop_all_untroubled(workers);
        assert_each_ran_once(database, tasks);
        assert!(database.number("COUNT(DISTINCT node) FROM effects") >= 2, "one process did everything");
    }

    fn a_killed_process_loses_its_rows_to_another_once_the_lease_is_over(database: &Database) {
        database.migrate();
        Effects::create_table(database);
        let outbox = database.outbox().enqueue_only().start_blocking().unwrap();
        let doomed = WorkerProcess::start(WORKER, database, &["lease_ms=2000", "stay"]);
        doomed.wait_for_line("started");
        let task_ids = store_all::<Conn>(database, &outbox, (0..3).map(stay));
        for number in 0..3 {
            doomed.wait_for_line(&format!("running {number}"));
        }
        let held_by = database.row(&task_ids[0]).lease_owner.unwrap();
        doomed.kill();

        let heir = WorkerProcess::start(WORKER, database, &["lease_ms=2000"]);
        wait_for_all(database, 3);
        for (task_id, number) in task_ids.iter().zip(0..) {
            let row = database.row(task_id);
            assert_eq!((row.state(), row.execute_times, row.owners(), row.lost_times), (State::Succeeded, 2, 3, 0));
            assert_eq!(database.count("effects", &format!("task = {number} AND attempt = 2 AND node <> '{held_by}'")), 1);
        }
        assert_eq!(database.number("COUNT(*) FROM effects"), 3);
        let rescued = heir.lines().iter().filter(|line| line.starts_with("rescued")).count();
        assert_eq!(rescued, 3);
        assert!(heir.stop().0.success());
    }

    fn a_task_that_ends_its_process_every_time_is_dead_after_the_crash_budget_and_others_go_on(database: &Database) {
        database.migrate();
        Effects::create_table(database);
        let outbox = database.outbox().enqueue_only().start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, abort_process(7));
        for crash in 1..=5 {
            let (status, _) = WorkerProcess::start(WORKER, database, &["lease_ms=60000"]).wait_for_end();
            assert!(!status.success());
            let row = database.row(&task_id);
            assert_eq!((row.state(), row.execute_times, row.lost_times), (State::Running, crash, crash - 1));
            end_leases(database, "lease_owner IS NOT NULL");
        }
        let survivor = WorkerProcess::start(WORKER, database, &[]);
        wait_until("the task to be given up", || database.row(&task_id).state() == State::Dead);
        let other = store::<Conn>(database, &outbox, record(8));
        wait_until("its neighbour to run", || database.row(&other).state() == State::Succeeded);
        assert!(survivor.stop().0.success());

        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.lost_times, row.lease_owner), (5, 5, None));
        let message = row.error_message.unwrap();
        assert!(message.starts_with("the worker died or lost touch: node "), "{message}");
        assert!(message.contains("(5 in a row); it is given up: it may be what ends its workers"), "{message}");
        assert_eq!(database.count("effects", "task = 7"), 5);
        assert_eq!(database.count("effects", "task = 8"), 1);
    }
}

#[cfg(feature = "sqlite")]
mod sqlite_under_many_writers {
    use consistency_diesel::transact::Transact;
    use std::sync::atomic::{AtomicBool, Ordering};

    use diesel::connection::SimpleConnection;

    use super::*;

    #[test]
    fn eight_processes_and_a_writing_application_never_see_a_locked_database() {
        let database = &Database::fresh(Backend::Sqlite).unwrap();
        database.migrate();
        Effects::create_table(database);
        database.execute("CREATE TABLE shop (number BIGINT NOT NULL, task INTEGER NOT NULL)");
        let outbox = &database.outbox().enqueue_only().start_blocking().unwrap();
        let workers: Vec<_> = (0..8).map(|_| WorkerProcess::start(WORKER, database, &["slots=4"])).collect();
        for worker in &workers {
            worker.wait_for_line("started");
        }
        let enough = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            // The application: transactions of its own that read before they write, with tasks and without.
            let enqueuing = scope.spawn(move || {
                let mut conn = database.connection::<diesel::SqliteConnection>();
                for number in 0..400 {
                    let stored = outbox.transaction(&mut conn, |tx| {
                        tx.batch_execute("SELECT COUNT(*) FROM shop")?;
                        tx.batch_execute(&format!("INSERT INTO shop (number, task) VALUES ({number}, 1)"))?;
                        tx.enqueue(record(number))
                    });
                    stored.unwrap();
                }
            });
            let writing = scope.spawn(move || {
                let mut conn = database.connection::<diesel::SqliteConnection>();
                let mut written = 0;
                while !enough.load(Ordering::Acquire) {
                    conn.batch_execute("INSERT INTO shop (number, task) VALUES (0, 0)").unwrap();
                    written += 1;
                }
                written
            });
            let over = RaisedAtEnd(enough);
            enqueuing.join().unwrap();
            wait_for_all(database, 400);
            drop(over);
            let written = writing.join().unwrap();
            assert_eq!(database.count("shop", "task = 0"), written);
        });
        stop_all_untroubled(workers);
        assert_eq!(database.count("shop", "task = 1"), 400);
        assert_each_ran_once(database, 400);
    }
}
