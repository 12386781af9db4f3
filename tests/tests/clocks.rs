//! Wrong clocks: those of processes change nothing where the database has a clock of its own; on SQLite, where the process's is
//! the database's, a jump makes rows early or late, and loses none.

#[path = "../src/bin/worker/tasks.rs"]
mod worker_tasks;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use consistency_core::call::Call;
use consistency_core::state::State;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::effects::Effects;
use consistency_tests::faults::clock::{WrongClock, with_wrong_clock};
use consistency_tests::recorder::{RaisedAtEnd, wait_until};
use consistency_tests::scene::{ms_between, store_all};
use consistency_tests::worker_process::WorkerProcess;
use worker_tasks::{fail_once, linger, record, record_later, stay};

const WORKER: &str = env!("CARGO_BIN_EXE_worker");
/// In seconds.
const HOUR: i64 = 3600;
/// Short, so that what runs for some seconds lives by renewals.
const LEASE: &str = "lease_ms=2000";
/// How much later than due a task may end under load; far less than any clock is wrong.
const LATE_MS: i64 = 10_000;

/// How many seconds the clock of a worker that has just started is before the right one.
fn ahead(worker: &WorkerProcess) -> i64 {
    worker.wait_for_line("started");
    let lines = worker.lines();
    let clock = lines.iter().find_map(|line| line.strip_prefix("clock ")).unwrap().parse::<i64>().unwrap();
    let right = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    clock - i64::try_from(right).unwrap()
}

fn assert_about(offset: i64, wanted: i64) {
    assert!((offset - wanted).abs() < 60, "a clock {offset} s ahead, which should be {wanted} s");
}

/// Stops a worker and checks that nothing went wrong but the first attempts of `fail_once`.
fn stop_untroubled(worker: WorkerProcess) {
    let expected = ["clock ", "started", "lingering ", "running ", "trouble: worker.fail_once failed: not yet"];
    let said = worker.lines();
    let trouble: Vec<_> = said.iter().filter(|line| !expected.iter().any(|part| line.starts_with(part))).collect();
    assert_eq!(trouble, [""; 0]);
    let (status, errors) = worker.stop();
    assert!(status.success(), "{status}: {errors}");
}

fn wait_for_success(database: &Database, rows: i64) {
    wait_until("all tasks to succeed", || database.count("consistency_task", "state = 2") == rows);
}

/// Checks that tasks `numbers` ran once each.
fn assert_each_ran_once(database: &Database, count: i64) {
    assert_eq!(database.number("COUNT(DISTINCT task) FROM effects"), count);
    assert_eq!(database.number("COUNT(*) FROM effects"), count);
    assert_eq!(database.count("consistency_task", "lost_times > 0 OR state <> 2"), 0);
}

/// The most and the least of the milliseconds between two columns, over the rows that meet `condition`.
fn span_ms(database: &Database, from: &str, to: &str, condition: &str) -> (i64, i64) {
    let between = ms_between(database.backend(), from, to);
    let of = |what: &str| database.number(&format!("{what}({between}) FROM consistency_task WHERE {condition}"));
    (of("MIN"), of("MAX"))
}

/// Tasks 0 to 139 in every way a due time comes about, and one that outlives its lease: 141 effects of 161 rows.
fn every_kind() -> Vec<Call> {
    let at_once = (0..50).map(record);
    let delayed = (50..90).map(|number| record(number).delay(Duration::from_millis(50 * (number as u64 - 50))));
    let at = SystemTime::now() + Duration::from_secs(2);
    let named = (90..100).map(move |number| record(number).at(at));
    let retried = (100..120).map(fail_once);
    let followed = (120..140).map(record_later);
    let long = [linger(140, 4000)];
    at_once.chain(delayed).chain(named).chain(retried).chain(followed).chain(long).collect()
}

fn on_a_server_wrong_clocks_change_nothing(database: &Database, jumping: &WrongClock) {
    database.migrate();
    Effects::create_table(database);
    let clocks = [WrongClock::ahead(HOUR).unwrap(), WrongClock::ahead(-HOUR).unwrap()];
    let mut workers: Vec<_> = clocks.iter().map(|clock| clock.start(WORKER, database, &["slots=4", LEASE])).collect();
    workers.push(jumping.start(WORKER, database, &["slots=4", LEASE]));
    for (worker, wanted) in workers.iter().zip([HOUR, -HOUR, 0]) {
        assert_about(ahead(worker), wanted);
    }
    let outbox = database.outbox().enqueue_only().start_blocking().unwrap();
    let enough = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = RaisedAtEnd(enough);
        // Ahead, behind, right, and back again, all the time.
        scope.spawn(move || {
            for offset in [HOUR, -HOUR, 0].into_iter().cycle() {
                if enough.load(Ordering::Acquire) {
                    return;
                }
                jumping.jump_to(offset);
                std::thread::sleep(Duration::from_millis(150));
            }
        });
        let stored = database.backend();
        let calls = every_kind();
        match stored {
            #[cfg(feature = "postgres")]
            Backend::Postgres => drop(store_all::<diesel::PgConnection>(database, &outbox, calls)),
            #[cfg(feature = "mysql")]
            Backend::Mysql => drop(store_all::<diesel::MysqlConnection>(database, &outbox, calls)),
            other => panic!("{other} has no server"),
        }
        wait_for_success(database, 161);
    });
    workers.into_iter().for_each(stop_untroubled);
    assert_each_ran_once(database, 141);
    assert_eq!(database.number("COUNT(DISTINCT node) FROM effects"), 3, "every clock took part");

    // By the server's clock, which wrote these columns: never early, not an hour late, the retry a second after the failure.
    let due_to_end = span_ms(database, "next_execute_time", "gmt_modified", "task_parameter NOT LIKE '%milliseconds%'");
    assert!(due_to_end.0 >= 0 && due_to_end.1 < LATE_MS, "{due_to_end:?} ms from due to the end");
    let retried = span_ms(database, "gmt_create", "next_execute_time", "method_name = 'worker.fail_once'");
    assert!(retried.0 >= 1000 && retried.1 < 1000 + LATE_MS, "{retried:?} ms to the second attempt");
}

#[cfg(feature = "postgres")]
#[test]
fn wrong_clocks_of_processes_change_nothing_on_postgresql() {
    with_wrong_clock(Backend::Postgres, "clocks::postgres", on_a_server_wrong_clocks_change_nothing);
}

#[cfg(feature = "mysql")]
#[test]
fn wrong_clocks_of_processes_change_nothing_on_mysql() {
    with_wrong_clock(Backend::Mysql, "clocks::mysql", on_a_server_wrong_clocks_change_nothing);
}

/// Here the processes' clock is the database's.
#[cfg(feature = "sqlite")]
mod sqlite {
    use diesel::SqliteConnection;

    use super::*;

    fn on_sqlite(test: &str, body: impl FnOnce(&Database, &WrongClock)) {
        with_wrong_clock(Backend::Sqlite, &format!("clocks::sqlite::{test}"), |database, clock| {
            database.migrate();
            Effects::create_table(database);
            body(database, clock);
        });
    }

    fn store_calls(database: &Database, calls: impl IntoIterator<Item = Call>) -> Vec<String> {
        let outbox = database.outbox().enqueue_only().start_blocking().unwrap();
        store_all::<SqliteConnection>(database, &outbox, calls)
    }

    #[test]
    fn a_jump_ahead_takes_no_row_from_a_living_process_and_makes_rows_due() {
        on_sqlite("ahead", |database, clock| {
            let workers = [(); 2].map(|()| clock.start(WORKER, database, &["slots=3", LEASE]));
            workers.iter().for_each(|worker| assert_about(ahead(worker), 0));
            let in_half_an_hour = record(4).delay(Duration::from_secs(1800));
            store_calls(database, (0..4).map(|number| linger(number, 4000)).chain([in_half_an_hour]));
            let lingering = |worker: &WorkerProcess| worker.lines().iter().any(|line| line.starts_with("lingering"));
            wait_until("both to run something", || workers.iter().all(lingering));
            wait_until("everything to be claimed", || database.count("consistency_task", "state = 1") == 4);
            clock.jump_to(HOUR);
            wait_for_success(database, 5);
            workers.into_iter().for_each(stop_untroubled);
            assert_each_ran_once(database, 5);
        });
    }

    #[test]
    fn what_a_killed_process_held_is_taken_back_though_the_clock_jumps_ahead() {
        on_sqlite("killed", |database, clock| {
            let doomed = clock.start(WORKER, database, &["stay", "lease_ms=60000"]);
            doomed.wait_for_line("started");
            let held = store_calls(database, [stay(0)]).remove(0);
            doomed.wait_for_line("running 0");
            let heir = clock.start(WORKER, database, &[LEASE]);
            let other = store_calls(database, [record(1)]).remove(0);
            wait_until("the heir to be at work", || database.row(&other).state() == State::Succeeded);
            doomed.kill();
            clock.jump_to(HOUR);
            heir.wait_for_line("running 0");
            wait_until("it to succeed", || database.row(&held).state() == State::Succeeded);
            assert_eq!(database.count("effects", "task = 0"), 1);
            assert!(heir.stop().0.success());
        });
    }

    #[test]
    fn a_jump_back_delays_what_was_stored_and_loses_nothing() {
        on_sqlite("back", |database, clock| {
            clock.jump_to(HOUR);
            let doomed = clock.start(WORKER, database, &["stay", LEASE]);
            assert_about(ahead(&doomed), HOUR);
            let held = store_calls(database, [stay(0)]).remove(0);
            doomed.wait_for_line("running 0");
            doomed.kill();

            let worker = clock.start(WORKER, database, &["lease_ms=1000"]);
            store_calls(database, [linger(1, 4000), fail_once(2)]);
            worker.wait_for_line("lingering 1");
            wait_until("the first attempt to fail", || database.count("consistency_task", "state = 3") == 1);
            clock.jump_to(0);
            // What is new runs at once, what runs goes on, what a dead process held stays until the end of its lease.
            let new = store_calls(database, [record(3)]).remove(0);
            wait_until("the new one", || database.row(&new).state() == State::Succeeded);
            wait_until("the long one", || database.count("effects", "task = 1") == 1);
            assert_eq!(database.row(&held).state(), State::Running);
            // The clock comes there again.
            clock.jump_to(HOUR + 60);
            wait_for_success(database, 4);
            let rescued = worker.lines().iter().filter(|line| line.starts_with("rescued")).count();
            assert_eq!(rescued, 1);
            assert!(!worker.lines().iter().any(|line| line.contains("lease lost")));
            assert!(worker.stop().0.success());
            assert_eq!(database.number("COUNT(DISTINCT task) FROM effects"), 4);
            assert_eq!(database.number("COUNT(*) FROM effects"), 4);
        });
    }
}
