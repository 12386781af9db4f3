//! When a row starts: never early, and without waiting for the next look at the table where the time is known.

use std::time::{Duration, SystemTime};

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::outbox::Outbox;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::bulk::Bulk;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{ms_between, now, store, store_all};

#[consistency_task]
async fn nothing() {}

#[consistency_task(mode = scheduled, delay = "300ms")]
fn scheduled() {}

#[consistency_task(mode = scheduled, delay = "300ms", run_on = caller)]
fn one_after_the_other() {}

#[consistency_task(run_on = caller)]
fn on_the_caller() {}

#[consistency_task(retry_every = "50ms")]
fn fails_three_times(#[context] cx: &TaskContext) -> Result<(), String> {
    if cx.attempt() <= 3 { Err("not yet".to_owned()) } else { Ok(()) }
}

/// So long that no test below could pass by waiting for it.
const SELDOM: Duration = Duration::from_secs(600);
/// Generous, for machines that do much else.
const MARGIN_MS: i64 = 8_000;

fn start(database: &Database, recorder: &Recorder, poll: Duration) -> Outbox {
    let names =
        [nothing::NAME, scheduled::NAME, one_after_the_other::NAME, on_the_caller::NAME, fails_three_times::NAME];
    database.outbox().only(names).poll_interval(poll).listener(recorder.listener()).start_blocking().unwrap()
}

/// How long after it was due the row was settled; never below zero, and within the margin.
fn assert_on_time(database: &Database, task_id: &str, poll: Duration) {
    let late = ms_between(database.backend(), "next_execute_time", "gmt_modified");
    let late = database.number(&format!("{late} FROM consistency_task WHERE task_id = '{task_id}' AND state = 2"));
    let most = i64::try_from(poll.as_millis()).unwrap() + MARGIN_MS;
    assert!((0..=most).contains(&late), "settled {late} ms after it was due");
}

fn in_four_seconds(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f', 'now', '+4 seconds')",
        Backend::Postgres => "clock_timestamp() + INTERVAL '4 seconds'",
        Backend::Mysql => "UTC_TIMESTAMP(6) + INTERVAL 4 SECOND",
    }
}

/// How long after its insert the row was settled.
fn age_ms(database: &Database, task_id: &str) -> i64 {
    let age = ms_between(database.backend(), "gmt_create", "gmt_modified");
    database.number(&format!("{age} FROM consistency_task WHERE task_id = '{task_id}'"))
}

for_each_database! {
    fn rows_of_this_process_start_when_due_though_the_table_is_seldom_looked_at(database: &Database) {
        let recorder = Recorder::new();
        let outbox = start(database, &recorder, SELDOM);
        let calls = [
            (nothing().delay(Duration::from_millis(250)), 250),
            (nothing().delay(Duration::from_millis(1_300)), 1_300),
            (nothing().at(SystemTime::now() - Duration::from_secs(3600)), 0),
            (nothing().key("at once"), 0),
            (nothing().ordered_by("a key"), 0),
            (scheduled(), 300),
            (one_after_the_other(), 300),
        ];
        for (call, earliest) in calls {
            let task_id = store::<Conn>(database, &outbox, call);
            recorder.wait_for_settled(&task_id, State::Succeeded);
            let age = age_ms(database, &task_id);
            // SQLite rounds its times to milliseconds.
            assert!((earliest - 1..earliest + MARGIN_MS).contains(&age), "settled {age} ms after its insert");
        }
        outbox.shutdown_blocking();
    }

    fn a_time_of_the_callers_choice_is_not_met_early(database: &Database) {
        let recorder = Recorder::new();
        let outbox = start(database, &recorder, SELDOM);
        let task_id = store::<Conn>(database, &outbox, nothing().at(SystemTime::now() + Duration::from_millis(700)));
        recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_on_time(database, &task_id, Duration::ZERO);
        outbox.shutdown_blocking();
    }

    fn rows_of_another_process_start_within_the_poll_interval_and_never_early(database: &Database) {
        let (recorder, poll) = (Recorder::new(), Duration::from_millis(200));
        let outbox = start(database, &recorder, poll);
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        for delay in [0, 40, 333] {
            let task_id = store::<Conn>(database, &elsewhere, nothing().delay(Duration::from_millis(delay)));
            recorder.wait_for_settled(&task_id, State::Succeeded);
            assert_on_time(database, &task_id, poll);
        }
        outbox.shutdown_blocking();
    }

    fn rows_of_another_process_do_not_wait_for_the_poll_interval_while_they_keep_coming(database: &Database) {
        let recorder = Recorder::new();
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let first = store::<Conn>(database, &elsewhere, nothing());
        let outbox = start(database, &recorder, SELDOM);
        recorder.wait_for_settled(&first, State::Succeeded);
        // Nobody tells this outbox of any of them: it looks because the one before was news.
        for _ in 0..12 {
            let task_id = store::<Conn>(database, &elsewhere, nothing());
            recorder.wait_for_settled(&task_id, State::Succeeded);
        }
        // Several at once, and one that is due later: seen at one of those looks, then waited for.
        let several = store_all::<Conn>(database, &elsewhere, (0..5).map(|_| nothing()));
        let later = store::<Conn>(database, &elsewhere, nothing().delay(Duration::from_millis(60)));
        for task_id in several.iter().chain([&later]) {
            recorder.wait_for_settled(task_id, State::Succeeded);
        }
        outbox.shutdown_blocking();
    }

    fn a_lease_known_to_end_is_taken_back_then_though_the_table_is_seldom_looked_at(database: &Database) {
        let recorder = Recorder::new();
        let builder = database.outbox().only([nothing::NAME]).poll_interval(SELDOM).lease(SELDOM);
        let outbox = builder.listener(recorder.listener()).start_blocking().unwrap();
        let orphan = store::<Conn>(database, &outbox, nothing().delay(Duration::from_secs(3600)));
        // As a node leaves it that was killed: its lease still has a while to go.
        database.execute(&format!(
            "UPDATE consistency_task SET state = 1, version = 1, lease_owner = 'gone-1', lease_until = {}, \
             next_execute_time = gmt_create WHERE task_id = '{orphan}'",
            in_four_seconds(BACKEND)
        ));
        let witness = store::<Conn>(database, &outbox, nothing().key("has the table looked at"));
        recorder.wait_for_settled(&witness, State::Succeeded);
        recorder.wait_for_settled(&orphan, State::Succeeded);
        let taken_back = |event: &Event| matches!(event, Event::Rescued { node, .. } if node == "gone-1");
        let witnessed = |event: &Event| matches!(event, Event::Settled { attempt, .. } if attempt.task_id == witness);
        let events = recorder.events();
        let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
        assert!(at(&witnessed) < at(&taken_back), "its lease was not over: {events:#?}");
        outbox.shutdown_blocking();
    }

    fn a_lease_that_has_ended_is_taken_back_at_the_next_look(database: &Database) {
        let recorder = Recorder::new();
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let outbox = start(database, &recorder, SELDOM);
        for number in 0..3 {
            let orphan = store::<Conn>(database, &elsewhere, nothing().delay(Duration::from_secs(3600)));
            database.execute(&format!(
                "UPDATE consistency_task SET state = 1, version = 1, lease_owner = 'gone-1', lease_until = {}, \
                 next_execute_time = gmt_create WHERE task_id = '{orphan}'",
                now(BACKEND)
            ));
            // However recent the last rescue is.
            store::<Conn>(database, &outbox, nothing().key(format!("has the table looked at {number}")));
            recorder.wait_for_settled(&orphan, State::Succeeded);
        }
        outbox.shutdown_blocking();
    }

    fn a_retry_sooner_than_the_next_look_does_not_wait_for_it(database: &Database) {
        let recorder = Recorder::new();
        let outbox = start(database, &recorder, SELDOM);
        let task_id = store::<Conn>(database, &outbox, fails_three_times());
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.execute_interval_second), (4, 1));
        let age = age_ms(database, &task_id);
        assert!((149..MARGIN_MS).contains(&age), "three retries took {age} ms");
        outbox.shutdown_blocking();
    }

    fn rows_years_overdue_still_run_in_every_mode(database: &Database) {
        let recorder = Recorder::new();
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let calls = [nothing(), nothing().ordered_by("a key"), scheduled(), one_after_the_other(), on_the_caller()];
        let old = store_all::<Conn>(database, &elsewhere, calls);
        let time = if BACKEND == Backend::Postgres { "'1999-01-01 00:00:00+00'" } else { "'1999-01-01 00:00:00.000'" };
        database.execute(&format!("UPDATE consistency_task SET next_execute_time = {time}, gmt_create = {time}"));
        let outbox = start(database, &recorder, SELDOM);
        old.iter().for_each(|task_id| recorder.wait_for_settled(task_id, State::Succeeded));
        outbox.shutdown_blocking();
    }

    fn a_row_due_soon_is_met_though_another_was_due_before_it(database: &Database) {
        let recorder = Recorder::new();
        database.migrate();
        // Tells when the first look is over: nothing but a wake-up brings another one then.
        Bulk::due("unknown", "gone::somewhere", 1).load(database);
        let builder = database.outbox().only([nothing::NAME]).poll_interval(SELDOM).listener(recorder.listener());
        let outbox = builder.start_blocking().unwrap();
        recorder.wait_for("the first look", |events| events.iter().any(|event| matches!(event, Event::UnknownNames { .. })));
        database.execute("DELETE FROM consistency_task");
        // One look sees the first of each queue and priority alone, which hides the one behind it.
        let soon = nothing().delay(Duration::from_millis(200));
        let both = store_all::<Conn>(database, &outbox, [nothing().key("at once"), soon]);
        both.iter().for_each(|task_id| recorder.wait_for_settled(task_id, State::Succeeded));
        assert_on_time(database, &both[1], Duration::ZERO);
        outbox.shutdown_blocking();
    }

    fn a_row_due_later_is_left_alone(database: &Database) {
        let recorder = Recorder::new();
        let outbox = start(database, &recorder, Duration::from_millis(10));
        let later = store::<Conn>(database, &outbox, nothing().delay(Duration::from_secs(3600)));
        // Witnesses: the table was looked at, after the insert, and more than once.
        for witness in 0..3 {
            let witness = store::<Conn>(database, &outbox, nothing().key(format!("witness {witness}")));
            recorder.wait_for_settled(&witness, State::Succeeded);
        }
        let row = database.row(&later);
        assert_eq!((row.state(), row.owners(), row.execute_times), (State::Pending, 0, 0));
        assert_eq!(database.count("consistency_task", &format!("next_execute_time > {}", now(BACKEND))), 1);
        outbox.shutdown_blocking();
    }
}
