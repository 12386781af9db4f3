//! Builds of several ages on one table: what cannot be decoded, what a newer build wrote, and names nobody knows here.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::Recorder;
use consistency_tests::scene::{Probe, ms_between, retry_by_hand, store, store_all};

#[consistency_task(retry_every = "20ms")]
fn ship(order_id: i64, sku: &str, note: Option<String>, #[default] express: bool, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("{order_id} {sku} {note:?} {express}"));
}

#[consistency_task(name = "evolution.renamed", alias = "evolution.former")]
fn renamed(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("renamed {number}"));
}

#[consistency_task(name = "evolution.newcomer")]
fn newcomer(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(format!("newcomer {number}"));
}

/// Every way a stored text may be unreadable, and what the row must say.
const UNDECODABLE: [(&str, &str); 6] = [
    ("garbage", "`task_parameter` is not a JSON object: "),
    ("[1, \"A1\"]", "`task_parameter` is not a JSON object: "),
    ("{\"order_id\":1,\"sku\":\"A1\"", "`task_parameter` is not a JSON object: "),
    ("{\"order_id\":\"one\",\"sku\":\"A1\"}", "parameter `order_id`: invalid type: string \"one\", expected i64"),
    ("{\"order_id\":1}", "parameter `sku` is missing"),
    ("{\"order_id\":1,\"sku\":null}", "parameter `sku`: "),
];
const MEND: &str = "; correct `task_parameter`, then retry the row as the README shows";

/// Sets the stored arguments of a row, as a person or an older build might have.
fn set_arguments(database: &Database, task_id: &str, arguments: &str) {
    database
        .execute(&format!("UPDATE consistency_task SET task_parameter = '{arguments}' WHERE task_id = '{task_id}'"));
}

for_each_database! {
    fn undecodable_arguments_make_that_row_dead_and_its_neighbours_succeed(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let task_ids = store_all::<Conn>(database, &elsewhere, (0..100).map(|number| ship(number, "A1", None, false)));
        let bad: Vec<&String> = task_ids.iter().step_by(17).collect();
        assert_eq!(bad.len(), UNDECODABLE.len());
        for (task_id, (arguments, _)) in bad.iter().zip(UNDECODABLE) {
            set_arguments(database, task_id, arguments);
        }
        let outbox = database.outbox().only([ship::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        recorder.wait_for_count(task_ids.len() - bad.len(), State::Succeeded);
        recorder.wait_for_count(bad.len(), State::Dead);
        for (task_id, (arguments, reason)) in bad.iter().zip(UNDECODABLE) {
            let row = database.row(task_id);
            assert_eq!((row.state(), row.task_parameter.as_str()), (State::Dead, arguments));
            let message = row.error_message.unwrap();
            assert!(message.starts_with(&format!("the stored arguments cannot be decoded: {reason}")), "{message}");
            assert!(message.ends_with(MEND), "{message}");
        }
        assert_eq!(probe.notes().len(), task_ids.len() - bad.len());

        // The mend the message names.
        for task_id in &bad {
            set_arguments(database, task_id, "{\"order_id\":1000,\"sku\":\"mended\"}");
        }
        retry_by_hand(database, "state = 4");
        recorder.wait_for_count(task_ids.len(), State::Succeeded);
        assert_eq!(probe.count("1000 mended None false"), bad.len());
        assert_eq!(database.count("consistency_task", "state = 2 AND error_message IS NULL"), 100);
        outbox.shutdown_blocking();
    }

    fn one_undecodable_row_leaves_ninety_nine_neighbours_alone(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let task_ids = store_all::<Conn>(database, &elsewhere, (0..100).map(|number| ship(number, "A1", None, false)));
        set_arguments(database, &task_ids[50], "garbage");
        let outbox = database.outbox().only([ship::NAME]).inject(probe).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        recorder.wait_for_count(99, State::Succeeded);
        recorder.wait_for_settled(&task_ids[50], State::Dead);
        assert_eq!((database.count("consistency_task", "state = 2"), database.count("consistency_task", "state = 4")), (99, 1));
        outbox.shutdown_blocking();
    }

    fn rows_of_an_older_build_without_the_newer_parameters_run(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let task_id = store::<Conn>(database, &elsewhere, ship(1, "A1", Some("x".into()), true));
        set_arguments(database, &task_id, "{\"sku\":\"A1\",\"order_id\":7}");
        let outbox = database.outbox().only([ship::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!(probe.notes(), ["7 A1 None false"]);
        outbox.shutdown_blocking();
    }

    fn a_row_of_a_newer_build_is_put_back_without_an_attempt_and_waits(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let task_id = store::<Conn>(database, &elsewhere, ship(1, "A1", None, false));
        set_arguments(database, &task_id, "{\"order_id\":1,\"sku\":\"A1\",\"gift\":true}");
        database.execute("UPDATE consistency_task SET execute_interval_second = 3600, meta = NULL");
        let outbox = database.outbox().only([ship::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        recorder.wait_for_settled(&task_id, State::Failed);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.lost_times), (State::Failed, 0, 0));
        let expected = "parameter `gift` is not known to this build: the row was stored by a newer one and waits for it";
        assert_eq!(row.error_message.as_deref(), Some(expected));
        let wait = database.number(&format!("{} FROM consistency_task", ms_between(BACKEND, "gmt_modified", "next_execute_time")));
        assert!((3_599_900..=3_600_100).contains(&wait), "{wait} ms");
        assert_eq!(probe.notes(), [""; 0]);
        outbox.shutdown_blocking();
    }

    fn a_name_nobody_knows_here_is_reported_untouched_and_runs_where_it_is_known(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let task_id = store::<Conn>(database, &elsewhere, newcomer(3));
        let stored = database.row(&task_id);
        let old = database.outbox().only([ship::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let old = old.start_blocking().unwrap();
        recorder.wait_for("the unknown name to be reported", |events| {
            events.iter().any(|event| matches!(event, Event::UnknownNames { names } if names == &[newcomer::NAME]))
        });
        // The old build goes on with what it knows.
        let known = store::<Conn>(database, &old, ship(1, "A1", None, false));
        recorder.wait_for_settled(&known, State::Succeeded);
        assert_eq!(database.row(&task_id), stored);

        let new = database.outbox().only([newcomer::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let new = new.start_blocking().unwrap();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!(probe.count("newcomer 3"), 1);
        assert_eq!(database.row(&task_id).execute_times, 1);
        old.shutdown_blocking();
        new.shutdown_blocking();
    }

    fn a_renamed_task_runs_the_rows_of_its_former_name(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        database.migrate();
        let elsewhere = database.outbox().enqueue_only().start_blocking().unwrap();
        let task_id = store::<Conn>(database, &elsewhere, renamed(4));
        database.execute("UPDATE consistency_task SET method_name = 'evolution.former'");
        let outbox = database.outbox().only([renamed::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.poll_interval(Duration::from_millis(20)).start_blocking().unwrap();
        recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!(probe.notes(), ["renamed 4"]);
        assert_eq!(database.row(&task_id).method_name, "evolution.former");
        outbox.shutdown_blocking();
    }
}
