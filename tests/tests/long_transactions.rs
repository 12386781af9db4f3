//! A transaction that is open for long before its commit: its tasks run right after it, and nothing of them has aged.
//!
//! The short form holds it for some leases; with `CONSISTENCY_TEST_LONG=1` it is held for two minutes. Rows as transactions of
//! weeks would leave them are made by moving their times.

use std::time::{Duration, SystemTime};

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::length::is_long;
use consistency_tests::recorder::Recorder;
use consistency_tests::stage::Probe;
use diesel::connection::SimpleConnection;
use diesel::result::QueryResult;

#[consistency_task]
async fn note(text: &str, #[inject] probe: &Probe) {
    probe.saw(text);
}

/// A body begins within half of it after its row was written, or not under this lease.
const LEASE: Duration = Duration::from_secs(2);
/// What others commit and run meanwhile.
const OTHERS: usize = 20;

/// How long the transaction is held open.
fn hold() -> Duration {
    if is_long() { Duration::from_secs(120) } else { 2 * LEASE }
}

/// Makes a row older.
fn age(backend: Backend, hours: u32, receipt: &Receipt) -> String {
    let older = |column: &str| match backend {
        Backend::Sqlite => format!("{column} = strftime('%Y-%m-%d %H:%M:%f', {column}, '-{hours} hours')"),
        Backend::Postgres | Backend::Mysql => format!("{column} = {column} - INTERVAL '{hours}' HOUR"),
    };
    let columns = ["next_execute_time", "gmt_create", "gmt_modified"].map(older).join(", ");
    format!("UPDATE consistency_task SET {columns} WHERE task_id = '{}'", receipt.task_id())
}

for_each_database! {
    fn what_a_transaction_stored_that_was_open_for_long_runs_right_after_its_commit(database: &Database) {
        let (probe, recorder) = (Probe::default(), Recorder::new());
        let builder = database.outbox().lease(LEASE).heartbeat(LEASE / 4).busy_wait(hold() + Duration::from_secs(10));
        let outbox = builder.inject(probe.clone()).listener(recorder.listener()).start_blocking().unwrap();
        // SQLite has one writer, so there the others go first.
        let others = || {
            for number in 0..OTHERS {
                let mut conn = database.connection::<Conn>();
                let call = note(&format!("other {number}")).delay(Duration::from_millis(1));
                outbox.transaction(&mut conn, |tx| tx.enqueue(call)).unwrap();
            }
            recorder.wait_for_count(OTHERS, State::Succeeded);
        };
        if BACKEND == Backend::Sqlite {
            others();
        }
        let stored: QueryResult<Vec<Receipt>> = outbox.transaction(&mut database.connection::<Conn>(), |tx| {
            let long_ago = SystemTime::now() - Duration::from_secs(3600);
            let calls = [
                note("plain"),
                note("keyed").key("once"),
                note("delayed").delay(Duration::from_millis(1)),
                note("due long ago").at(long_ago),
                note("ordered, first").ordered_by("order"),
                note("ordered, second").ordered_by("order"),
                note("least urgent").priority(9),
            ];
            let receipts = calls.into_iter().map(|call| tx.enqueue(call)).collect::<QueryResult<Vec<_>>>()?;
            // Rows with greater ids are committed, run and settled before these are seen by anybody.
            if BACKEND != Backend::Sqlite {
                others();
            }
            std::thread::sleep(hold());
            assert_eq!(probe.seen().len(), OTHERS, "nothing runs before its commit");
            Ok(receipts)
        });
        for receipt in stored.unwrap() {
            recorder.wait_for_settled(receipt.task_id(), State::Succeeded);
            let row = database.row(receipt.task_id());
            assert_eq!((row.execute_times, row.lost_times, row.owners()), (1, 0, 1), "{row:?}");
        }
        let seen = probe.seen();
        assert_eq!(seen.len(), OTHERS + 7, "{seen:?}");
        let at = |text: &str| seen.iter().position(|said| said == text).unwrap();
        assert!(at("ordered, first") < at("ordered, second"));
        let lost = |event: &Event| matches!(event, Event::Rescued { .. } | Event::LeaseLost { .. });
        assert!(!recorder.events().iter().any(lost), "{:#?}", recorder.events());
        outbox.shutdown_blocking();
    }

    /// The claim looks for rows by state and time. One that ran ahead of them never hides them.
    fn rows_that_are_committed_long_after_younger_ones_are_found_at_once(database: &Database) {
        let (probe, recorder) = (Probe::default(), Recorder::new());
        let builder = database.outbox().inject(probe.clone()).listener(recorder.listener());
        let outbox = builder.start_blocking().unwrap();
        let call = || note("young").delay(Duration::from_millis(1));
        outbox.transaction(&mut database.connection::<Conn>(), |tx| tx.enqueue(call())).unwrap();
        recorder.wait_for_count(1, State::Succeeded);
        // As a transaction would leave it that began weeks ago: a smaller id and older times than anything that ran.
        database.execute("UPDATE consistency_task SET id = id + 1000000");
        let old = outbox.transaction(&mut database.connection::<Conn>(), |tx| {
            let receipt = tx.enqueue(note("old").delay(Duration::from_millis(1)))?;
            tx.batch_execute("UPDATE consistency_task SET id = 5 WHERE state = 0")?;
            tx.batch_execute(&age(BACKEND, 1000, &receipt))?;
            QueryResult::Ok(receipt)
        });
        let old = old.unwrap();
        recorder.wait_for_settled(old.task_id(), State::Succeeded);
        assert_eq!(database.row(old.task_id()).id, 5);
        assert_eq!(probe.seen(), ["young", "old"]);
        outbox.shutdown_blocking();
    }
}
