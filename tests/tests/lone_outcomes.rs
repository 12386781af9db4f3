//! An outcome that cannot be written keeps nobody else's, is tried for a while before a success becomes a failure, and is told.

use std::sync::Arc;
use std::time::Duration;

use consistency_core::error::EnqueueError;
use consistency_core::event::Event;
use consistency_core::state::State;
use consistency_diesel::prelude::*;
use consistency_tests::backend::Backend;
use consistency_tests::database::Database;
use consistency_tests::for_each_database;
use consistency_tests::recorder::{Recorder, wait_until};
use consistency_tests::refusals::{allow_updates, refuse_updates};
use consistency_tests::scene::{Probe, store, store_all};

/// Says that it ran.
#[consistency_task(retry_every = "1h")]
fn quick(number: i64, #[inject] probe: &Arc<Probe>) {
    probe.note(number.to_string());
}

/// Leaves many calls behind.
#[consistency_task(retry_every = "1h")]
fn spreads(count: i64, #[inject] probe: &Arc<Probe>, #[context] cx: &TaskContext) -> Result<(), EnqueueError> {
    probe.note("spreads");
    for number in 0..count {
        cx.enqueue(quick(number).delay(Duration::from_secs(3600)))?;
    }
    Ok(())
}

const NAMES: [&str; 2] = [quick::NAME, spreads::NAME];

fn wait_for_trouble(recorder: &Recorder, words: &str) {
    recorder.wait_for("trouble with a settlement", |events| {
        events
            .iter()
            .any(|event| matches!(event, Event::StoreTrouble { doing: "settle", error } if error.contains(words)))
    });
}

for_each_database! {
    fn an_outcome_that_always_fails_in_passing_keeps_nobody_elses(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(NAMES).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        refuse_updates(database, "OLD.state = 1 AND NEW.state <> 1 AND NEW.task_id = 'stubborn'", "a deadlock, says the house");
        store::<Conn>(database, &outbox, quick(0).key("stubborn"));
        wait_for_trouble(&recorder, "says the house");
        store_all::<Conn>(database, &outbox, (1..=50).map(quick));
        recorder.wait_for_count(50, State::Succeeded);
        assert_eq!(database.row("stubborn").state(), State::Running);
        allow_updates(database);
        recorder.wait_for_settled("stubborn", State::Succeeded);
        let row = database.row("stubborn");
        assert_eq!((row.execute_times, row.lost_times, probe.count("0")), (1, 0, 1));
        outbox.shutdown_blocking();
    }

    fn an_outcome_with_thousands_of_calls_gets_the_time_they_take(database: &Database) {
        // SQLite has no such limit.
        if BACKEND == Backend::Sqlite { return }
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(NAMES).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.lease(Duration::from_secs(60)).store_timeout(Duration::from_secs(1)).start_blocking().unwrap();
        let task_id = store::<Conn>(database, &outbox, spreads(2500));
        recorder.wait_for_settled(&task_id, State::Succeeded);
        assert_eq!(database.count("consistency_task", "state = 0"), 2500);
        assert_eq!((database.row(&task_id).execute_times, probe.count("spreads")), (1, 1));
        outbox.shutdown_blocking();
    }

    fn a_refusal_that_passes_costs_no_success(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(NAMES).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        refuse_updates(database, "NEW.state = 2", "refused by the house");
        let task_id = store::<Conn>(database, &outbox, quick(1));
        wait_for_trouble(&recorder, "refused by the house");
        allow_updates(database);
        recorder.wait_for_settled(&task_id, State::Succeeded);
        let row = database.row(&task_id);
        assert_eq!((row.execute_times, row.error_message, probe.count("1")), (1, None, 1));
        assert!(!recorder.events().iter().any(|event| matches!(event, Event::SettleRefused { .. })));
        outbox.shutdown_blocking();
    }

    fn refused_outcomes_are_told_as_trouble_until_one_is_written(database: &Database) {
        let (recorder, probe) = (Recorder::new(), Probe::new());
        let outbox = database.outbox().only(NAMES).inject(Arc::clone(&probe)).listener(recorder.listener());
        let outbox = outbox.start_blocking().unwrap();
        refuse_updates(database, "NEW.state = 2", "refused by the house");
        let refused = store::<Conn>(database, &outbox, quick(1));
        recorder.wait_for_settled(&refused, State::Failed);
        let trouble = outbox.trouble().expect("trouble");
        assert!(trouble.doing == "settle" && trouble.error.contains("refused by the house"), "{trouble:?}");
        allow_updates(database);
        let written = store::<Conn>(database, &outbox, quick(2));
        recorder.wait_for_settled(&written, State::Succeeded);
        wait_until("the trouble to be over", || outbox.trouble().is_none());
        outbox.shutdown_blocking();
    }
}
