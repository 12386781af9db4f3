//! The four modes: immediate or scheduled, on a worker or on the caller's thread; and what the row says of each.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Latch;
use consistency_tests::stage::{Probe, Stage};
use consistency_tests::task_row::TaskRow;
use diesel::prelude::*;
use parking_lot::Mutex;

#[consistency_task]
fn worker(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task(run_on = caller)]
fn caller(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task(run_on = caller)]
async fn async_caller(text: String, #[inject] probe: &Probe) {
    // A real wait, so that somebody has to drive the future.
    tokio::time::sleep(Duration::from_millis(1)).await;
    probe.saw(text);
}

#[consistency_task(run_on = caller, retry_every = "10ms")]
fn caller_fails_first(text: String, #[context] cx: &TaskContext, #[inject] probe: &Probe) -> Result<(), String> {
    probe.saw(format!("{text} {}", cx.attempt()));
    if cx.attempt() == 1 { Err("not yet".to_owned()) } else { Ok(()) }
}

#[consistency_task(run_on = caller, retry_every = "10ms")]
fn caller_panics_first(#[context] cx: &TaskContext) {
    assert!(cx.attempt() > 1, "not yet");
}

#[consistency_task(mode = scheduled)]
fn scheduled(text: String, #[inject] probe: &Probe) {
    probe.saw(text);
}

#[consistency_task(mode = scheduled, delay = "1ms", run_on = caller)]
fn one_by_one(text: String, #[inject] probe: &Probe, #[inject] busy: &Arc<Mutex<()>>, #[inject] go: &Latch) {
    let _alone = busy.try_lock().expect("two of them run at the same time");
    go.wait_for(1);
    probe.saw(text);
}

fn stage(database: &Database) -> (Stage<'_>, Latch) {
    let go = Latch::new();
    (Stage::with(database, |builder| builder.inject(Arc::new(Mutex::new(()))).inject(go.clone())), go)
}

/// `execute_mode`, `thread_way`, `delay_time` as stored.
fn stored_mode(row: &TaskRow) -> (i64, i64, i64) {
    (row.execute_mode, row.thread_way, row.delay_time)
}

/// How many seconds of the database's clock lie between the insert and the first due time.
fn due_after(database: &Database, task_id: &str) -> i64 {
    use consistency_tests::backend::Backend;
    let seconds = match database.backend() {
        Backend::Sqlite => "CAST(ROUND((julianday(next_execute_time) - julianday(gmt_create)) * 86400) AS INTEGER)",
        Backend::Postgres => "ROUND(EXTRACT(EPOCH FROM next_execute_time - gmt_create))",
        Backend::Mysql => "ROUND(TIMESTAMPDIFF(MICROSECOND, gmt_create, next_execute_time) / 1000000)",
    };
    // Kept apart from the `FROM` of the expression itself.
    let rows = database.texts(&format!(
        "SELECT CAST({seconds} AS CHAR(20)) AS value FROM consistency_task WHERE task_id = '{task_id}'"
    ));
    rows[0].trim().parse::<f64>().unwrap() as i64
}

for_each_database! {
    fn immediate_on_a_worker_runs_on_another_thread_right_after_the_commit(database: &Database) {
        // Were it left to the poller, it would not run within the deadline.
        let stage = Stage::with(database, |builder| {
            builder.only([worker::NAME]).poll_interval(Duration::from_secs(3600))
        });
        let task_id = stage.run::<Conn>(worker("w".to_owned()));
        assert_ne!(stage.probe.thread_of("w"), Some(std::thread::current().id()));
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.owners()), (State::Succeeded, 1, 1));
        assert_eq!(stored_mode(&row), (1, 1, 0));
    }

    fn immediate_on_the_caller_has_run_before_the_helper_returns(database: &Database) {
        let (stage, _) = stage(database);
        let mut conn = database.connection::<Conn>();
        let receipts = stage.outbox.transaction(&mut conn, |tx| {
            let receipts = [tx.enqueue(caller("first".to_owned()))?, tx.enqueue(caller("second".to_owned()))?];
            assert_eq!(stage.probe.seen(), Vec::<String>::new(), "ran before the commit");
            QueryResult::Ok(receipts)
        }).unwrap();
        assert_eq!(stage.probe.seen(), ["first", "second"]);
        assert_eq!(stage.probe.thread_of("first"), Some(std::thread::current().id()));
        for receipt in receipts {
            let row = database.row(receipt.task_id());
            assert_eq!((row.state(), row.execute_times), (State::Succeeded, 1));
            assert_eq!(stored_mode(&row), (1, 2, 0));
        }
    }

    fn an_async_task_on_the_caller_is_waited_for_outside_tokio(database: &Database) {
        let (stage, _) = stage(database);
        let task_id = stage.commit::<Conn>(async_caller("awaited".to_owned()));
        assert_eq!(stage.probe.seen(), ["awaited"]);
        assert_eq!(stage.probe.thread_of("awaited"), Some(std::thread::current().id()));
        assert_eq!(database.row(&task_id).state(), State::Succeeded);
    }

    fn an_async_task_on_the_caller_goes_to_a_worker_inside_tokio(database: &Database) {
        let (stage, _) = stage(database);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let task_id = runtime.block_on(async {
            // Blocked on here, it would panic: a runtime cannot be started within a runtime.
            stage.commit::<Conn>(async_caller("handed over".to_owned()))
        });
        stage.recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_ne!(stage.probe.thread_of("handed over"), Some(std::thread::current().id()));
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times), (State::Succeeded, 1));
    }

    fn a_failure_on_the_caller_is_stored_and_retried_and_never_the_callers_error(database: &Database) {
        let (stage, _) = stage(database);
        let mut conn = database.connection::<Conn>();
        let receipt = stage.outbox.transaction(&mut conn, |tx| {
            let receipt = tx.enqueue(caller_fails_first("try".to_owned()))?;
            tx.enqueue(caller_panics_first())?;
            QueryResult::Ok(receipt)
        }).expect("the transaction is committed");
        assert_eq!(stage.probe.thread_of("try 1"), Some(std::thread::current().id()));
        stage.recorder.wait_for_count(2, State::Succeeded);
        assert_eq!((stage.probe.seen(), stage.recorder.count(State::Failed)), (vec!["try 1".to_owned(), "try 2".to_owned()], 2));
        // Retries are the poller's, and not on this thread.
        assert_ne!(stage.probe.thread_of("try 2"), Some(std::thread::current().id()));
        let row = database.row(receipt.task_id());
        assert_eq!((row.state(), row.execute_times, row.error_message), (State::Succeeded, 2, None));
    }

    fn scheduled_without_a_time_is_due_after_a_minute(database: &Database) {
        let (stage, _) = stage(database);
        let task_id = stage.commit::<Conn>(scheduled("later".to_owned()));
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.owners()), (State::Pending, 0, 0));
        assert_eq!(stored_mode(&row), (2, 1, 60));
        assert_eq!(due_after(database, &task_id), 60);
        let due_in = stage.outbox.status_blocking(&task_id).unwrap().unwrap().due_in;
        assert!(due_in > Duration::from_secs(30) && due_in <= Duration::from_millis(60_010), "{due_in:?}");
        stage.run::<Conn>(worker("witness".to_owned()));
        assert_eq!(stage.probe.seen(), ["witness"]);
        assert_eq!(database.row(&task_id).state(), State::Pending);
    }

    fn a_delay_or_a_time_makes_any_call_a_scheduled_one(database: &Database) {
        let (stage, _) = stage(database);
        let hour = Duration::from_secs(3600);
        let later = stage.commit::<Conn>(worker("later".to_owned()).delay(hour));
        assert_eq!((stored_mode(&database.row(&later)), due_after(database, &later)), ((2, 1, 3600), 3600));
        let on_caller = stage.commit::<Conn>(caller("later".to_owned()).delay(Duration::from_millis(3_599_001)));
        assert_eq!((stored_mode(&database.row(&on_caller)), due_after(database, &on_caller)), ((2, 2, 3600), 3599));
        let at = stage.commit::<Conn>(worker("later".to_owned()).at(SystemTime::now() + hour));
        let due_in = due_after(database, &at);
        assert!((3590..=3601).contains(&due_in), "{due_in}");
        assert_eq!(stored_mode(&database.row(&at)).0, 2);
        // What is due runs, on a worker or the scheduling thread, never on the caller's.
        let soon = stage.run::<Conn>(worker("soon".to_owned()).delay(Duration::from_millis(5)));
        let past = stage.run::<Conn>(caller("past".to_owned()).at(SystemTime::now() - hour));
        for (task_id, said) in [(&soon, "soon"), (&past, "past")] {
            assert_eq!(database.row(task_id).execute_mode, 2);
            assert_ne!(stage.probe.thread_of(said), Some(std::thread::current().id()));
        }
        assert_eq!(stage.probe.seen(), ["soon", "past"]);
        assert_eq!(database.count("consistency_task", "state = 0 AND execute_times = 0"), 3);
    }

    fn scheduled_on_the_caller_runs_one_after_the_other_on_one_thread(database: &Database) {
        let (stage, go) = stage(database);
        let mut conn = database.connection::<Conn>();
        stage.outbox.transaction(&mut conn, |tx| {
            (0..10).try_for_each(|number| tx.enqueue(one_by_one(number.to_string())).map(drop))
        }).unwrap();
        // Others run meanwhile.
        stage.run::<Conn>(worker("other".to_owned()));
        assert_eq!(stage.probe.seen(), ["other"]);
        go.raise();
        stage.recorder.wait_for_count(11, State::Succeeded);
        let first = stage.probe.thread_of("0");
        for number in 0..10 {
            assert_eq!(stage.probe.thread_of(&number.to_string()), first);
        }
        assert_ne!(first, Some(std::thread::current().id()));
        assert_eq!(database.count("consistency_task", "state = 2 AND execute_times = 1"), 11);
        assert_eq!(stored_mode(&database.rows("thread_way = 2")[0]), (2, 2, 1));
        assert_eq!(stage.recorder.count(State::Failed), 0);
    }

    fn a_row_for_a_scheduling_thread_that_no_task_needs_any_more_runs_on_a_worker(database: &Database) {
        let stage = Stage::with(database, |builder| builder.only([worker::NAME]));
        let task_id = stage.commit::<Conn>(worker("moved".to_owned()).delay(Duration::from_secs(3600)));
        // As a build stored it in which the task was to run on the caller's thread.
        database.execute("UPDATE consistency_task SET thread_way = 2, next_execute_time = gmt_create");
        stage.recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!(stage.probe.seen(), ["moved"]);
    }
}
