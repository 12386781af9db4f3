//! Failures: counted, described, retried when the policy says, given up when it says so, and mended by hand.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::scene::{Probe, ms_between, retry_by_hand, store};

/// An error with a chain of sources.
#[derive(Debug)]
struct Chained(&'static [&'static str]);

impl std::fmt::Display for Chained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0[0])
    }
}

impl std::error::Error for Chained {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        static LINKS: [Chained; 2] = [Chained(&["connection refused", "code 111"]), Chained(&["code 111"])];
        LINKS.iter().find(|link| link.0 == &self.0[1..]).map(|link| link as _)
    }
}

const WHOLE_CHAIN: &str = "the carrier did not answer\ncaused by: connection refused\ncaused by: code 111";

#[consistency_task(retry_every = "50ms", max_attempts = 5)]
fn fails_twice(#[context] cx: &TaskContext) -> Result<(), Chained> {
    if cx.attempt() <= 2 {
        Err(Chained(&["the carrier did not answer", "connection refused", "code 111"]))
    } else {
        Ok(())
    }
}

#[consistency_task(retry_every = "1h")]
fn fails_and_waits() -> Result<(), Chained> {
    Err(Chained(&["the carrier did not answer", "connection refused", "code 111"]))
}

/// Fails, but only after the test has let it go.
#[consistency_task(retry_every = "100s")]
fn fails_late(#[inject] probe: &Arc<Probe>) -> Result<(), String> {
    probe.note("begun");
    probe.go.wait_for(1);
    Err("too late".to_owned())
}

#[consistency_task(retry_every = "20ms", max_attempts = 3)]
fn fails_until_mended(#[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) -> Result<(), String> {
    probe.note(format!("attempt {}", cx.attempt()));
    if probe.go.count() == 0 { Err(format!("no {}", cx.attempt())) } else { Ok(()) }
}

/// Speaks one of the deliberate words, bare or wrapped.
#[consistency_task(retry_every = "1h")]
fn speaks(word: &str, wrapped: bool) -> anyhow::Result<()> {
    use anyhow::Context;
    let error = match word {
        "permanent" => TaskError::permanent("the article does not exist"),
        _ => TaskError::retry_after(Duration::from_secs(7), "the shop is closed"),
    };
    let said = Err::<(), _>(anyhow::Error::from(error));
    if wrapped { said.context("order 9").context("evening run") } else { said }
}

#[consistency_task(retry_every = "1h")]
fn speaks_bare(word: &str) -> Result<(), TaskError> {
    Err(match word {
        "permanent" => TaskError::permanent("the article does not exist"),
        _ => TaskError::retry_after(Duration::from_secs(7), "the shop is closed"),
    })
}

#[consistency_task(retry_every = "1h")]
fn speaks_boxed(word: &str) -> Result<(), Box<dyn std::error::Error>> {
    Err(match word {
        "permanent" => Box::new(TaskError::permanent("the article does not exist")),
        _ => Box::new(TaskError::retry_after(Duration::from_secs(7), "the shop is closed")),
    })
}

/// Attempt, state and first line of the error of every settled attempt, in the order of the events.
fn history(recorder: &Recorder, task_id: &str) -> Vec<(u32, State, Option<String>)> {
    let settled = |event: Event| match event {
        Event::Settled { attempt, state, error, .. } if attempt.task_id == task_id => {
            Some((attempt.attempt, state, error))
        }
        _ => None,
    };
    recorder.events().into_iter().filter_map(settled).collect()
}

for_each_database! {
    fn a_task_that_fails_twice_succeeds_at_the_third_attempt_and_leaves_no_error(database: &Database) {
        let recorder = Recorder::new();
        let outbox = database.outbox().only([fails_twice::NAME]).listener(recorder.listener()).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, fails_twice());
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let failed = |attempt| (attempt, State::Failed, Some(WHOLE_CHAIN.to_owned()));
        assert_eq!(history(&recorder, &task_id), [failed(1), failed(2), (3, State::Succeeded, None)]);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.error_message), (State::Succeeded, 3, None));
        assert_eq!((row.max_execute_times, row.lost_times, row.lease_owner), (Some(5), 0, None));
        outbox.shutdown_blocking();
    }

    fn a_failed_row_says_why_and_when_it_is_tried_again(database: &Database) {
        let recorder = Recorder::new();
        let outbox = database.outbox().only([fails_and_waits::NAME]).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, fails_and_waits());
        recorder.wait_for_settled(&task_id, State::Failed);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.execute_interval_second), (State::Failed, 1, 3600));
        assert_eq!(row.error_message.as_deref(), Some(WHOLE_CHAIN));
        let wait = database.number(&format!("{} FROM consistency_task", ms_between(BACKEND, "gmt_modified", "next_execute_time")));
        assert!((3_599_900..=3_600_100).contains(&wait), "{wait} ms");
        outbox.shutdown_blocking();
    }

    fn the_next_time_counts_from_the_failure_and_not_from_the_start(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([fails_late::NAME]).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, fails_late());
        probe.wait_for("begun", 1);
        let age = format!("{} FROM consistency_task", ms_between(BACKEND, "gmt_create", consistency_tests::scene::now(BACKEND)));
        wait_until("the body to have taken a second", || database.number(&age) > 1_000);
        probe.go.raise();
        recorder.wait_for_settled(&task_id, State::Failed);
        let since_start = database.number(&format!("{} FROM consistency_task", ms_between(BACKEND, "gmt_create", "next_execute_time")));
        let since_failure = database.number(&format!("{} FROM consistency_task", ms_between(BACKEND, "gmt_modified", "next_execute_time")));
        assert!(since_start >= 101_000, "{since_start} ms after its start");
        assert!((99_900..=100_100).contains(&since_failure), "{since_failure} ms after its failure");
        outbox.shutdown_blocking();
    }

    fn attempts_used_up_make_it_dead_and_the_mend_of_the_first_page_runs_it_anew(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only([fails_until_mended::NAME]).inject(Arc::clone(&probe));
        let outbox = outbox.listener(recorder.listener()).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, fails_until_mended());
        recorder.wait_for_settled(&task_id, State::Dead);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.error_message.as_deref()), (State::Dead, 3, Some("no 3")));
        assert_eq!(probe.notes(), ["attempt 1", "attempt 2", "attempt 3"]);
        assert_eq!(database.texts("SELECT task_id AS value FROM consistency_task_failed"), std::slice::from_ref(&task_id));

        probe.go.raise();
        retry_by_hand(database, &format!("task_id = '{task_id}'"));
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.state(), row.execute_times, row.owners(), row.error_message), (State::Succeeded, 1, 4, None));
        assert_eq!(probe.notes().len(), 4);
        outbox.shutdown_blocking();
    }

    fn a_permanent_error_is_dead_at_once_however_it_is_wrapped(database: &Database) {
        let recorder = Recorder::new();
        let outbox = database.outbox().only([speaks::NAME, speaks_bare::NAME, speaks_boxed::NAME]);
        let outbox = outbox.listener(recorder.listener()).start_blocking().unwrap();
        let plain = "the article does not exist";
        let calls = [
            (speaks("permanent", false), plain.to_owned()),
            (speaks("permanent", true), format!("evening run\ncaused by: order 9\ncaused by: {plain}")),
            (speaks_bare("permanent"), plain.to_owned()),
            (speaks_boxed("permanent"), plain.to_owned()),
        ];
        for (call, message) in calls {
            let task_id = store::<Conn>(database, &outbox, call);
            recorder.wait_for_settled(&task_id, State::Dead);
            let row = database.row(&task_id);
            assert_eq!((row.state(), row.execute_times, row.error_message), (State::Dead, 1, Some(message)));
        }
        outbox.shutdown_blocking();
    }

    fn retry_after_sets_the_next_time_however_it_is_wrapped(database: &Database) {
        let recorder = Recorder::new();
        let outbox = database.outbox().only([speaks::NAME, speaks_bare::NAME, speaks_boxed::NAME]);
        let outbox = outbox.listener(recorder.listener()).start_blocking().unwrap();
        for call in [speaks("later", false), speaks("later", true), speaks_bare("later"), speaks_boxed("later")] {
            let task_id = store::<Conn>(database, &outbox, call);
            recorder.wait_for_settled(&task_id, State::Failed);
            let wait = ms_between(BACKEND, "gmt_modified", "next_execute_time");
            let wait = database.number(&format!("{wait} FROM consistency_task WHERE task_id = '{task_id}'"));
            assert!((6_900..=7_100).contains(&wait), "{wait} ms");
            assert_eq!(database.row(&task_id).state(), State::Failed);
        }
        outbox.shutdown_blocking();
    }
}
